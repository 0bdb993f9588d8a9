"""One simulated history: a chain, its nodes, Kafka, PostgreSQL and the processes, moved step by step from one seed.

In every step one actor acts, for a bounded turn; then the observer looks. Nothing else decides an order: not the
machine, not the real clock. What happened is a trace of lines whose digest is the same for the same seed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from contracts.messages import Topics
from contracts.registry import Registry
from deploy.runtime.telemetry import Telemetry
from indexer.core.state import load
from ledger.ports import Partition
from tests.simulation.actors import IndexerProcess, LedgerProcess, Process, rules_of
from tests.simulation.chain import PARTITIONS, Chain
from tests.simulation.checks import Inconsistent, Observer, demand
from tests.simulation.consumer import Group
from tests.simulation.database import Database
from tests.simulation.faults import Faults
from tests.simulation.kafka import Broker, committed
from tests.simulation.loop import VirtualLoop
from tests.simulation.nodes import SimNode

NODES: Final = 3
TURNS: Final = (1, 2, 4, 8, 16, 30, 50)
LONGEST_JUMP_S: Final = 30.0
STUCK_MAX: Final = 3_000  # looks, at least 30 s of real time

Say = Callable[[str], None]


class World:
    """Everything there is. ``step`` moves it."""

    def __init__(
        self,
        seed: int,
        *,
        loop: VirtualLoop,
        database: Database,
        registry: Registry,
        topics: Topics,
        telemetry: Telemetry,
        say: Say | None = None,
    ) -> None:
        self.loop = loop
        self.database = database
        self.registry = registry
        self.rules = rules_of(registry)
        self.topics = topics
        self.telemetry = telemetry
        self.pick = random.Random(seed)
        random.seed(seed)  # jitter of the product
        self.steps = 0
        self._say = say
        self._trace = hashlib.sha256()
        self.faults = Faults(self.pick, self.trace)
        self.chain = Chain(registry.chain_id, self.pick)
        self.broker = Broker()
        self.group = Group((topics.events, topics.rejected), PARTITIONS)
        self.epochs: dict[Partition, int] = {}
        self.kafka_tx_bytes_max = self.pick.choice([9_000, 40_000, 500_000])
        self.unfinalized_bytes_max = self.pick.choice([0, 5_000, 100_000_000])
        self.batch_records_max = self.pick.choice([5, 20, 100])
        self.chain.mine(self.pick.randint(0, 14))
        self.chain.finalize(self.chain.head.number - 5)
        self.nodes = [SimNode(f"node-{i}", self.chain, self.faults) for i in range(NODES)]
        self.observer = Observer(self.broker, topics, self.chain)
        self.processes: list[Process] = []
        self.stops: list[str] = []  # why partitions were stopped
        self.stalled = 0  # steps without finality
        self._started = 0

    # one step

    async def step(self) -> None:
        """One actor's turn, then a look at everything."""
        self.steps += 1
        self._supervise()
        actions = self._actions()
        _, act = self.pick.choices(actions, [weight for weight, _ in actions])[0]
        await act()
        await self.quiet()
        self.observer.look()
        self.check()

    def _actions(self) -> list[tuple[int, Callable[[], Awaitable[None]]]]:
        return [
            (18, self._chain_acts),
            (8, self._node_acts),
            (30, self._indexer_acts),
            (28, self._ledger_acts),
            (4, self._kafka_acts),
            (3, self._postgres_acts),
            (5, self._something_ends),
            (3, self._pause),
            (4, self._time_passes),
        ]

    def check(self) -> None:
        """Nothing unexpected has happened. Raises Inconsistent."""
        if self.faults.unexpected:
            raise Inconsistent("; ".join(self.faults.unexpected))
        causes = self.faults.counts["kafka: poll skips records"] + self.faults.counts["kafka: offset out of range"]
        demand(len(self.stops) <= causes, f"a partition stopped without a cause, after {causes} causes: {self.stops}")

    # processes

    def _supervise(self) -> None:
        for process in list(self.processes):
            if process.over:
                self._reap(process)
            elif isinstance(process, LedgerProcess) and process.observer.has_stopped and self.pick.random() < 0.1:
                process.stop()  # an operator starts it again
        for make, spare in ((IndexerProcess, 0.03), (LedgerProcess, 0.04)):
            alive = [p for p in self.processes if isinstance(p, make)]
            chance = 0.5 if not alive else spare if len(alive) == 1 and self.faults.on else 0.0
            if self.pick.random() < chance:
                self._start(make)

    def _reap(self, process: Process) -> None:
        self.processes.remove(process)
        failure = process.failure
        self.trace(f"{process.name} is over: {type(failure).__name__ if failure else 'stopped'}")
        if failure is None:
            return
        name = type(failure).__name__
        if name == "Superseded":
            self.faults.count("indexer superseded")
        if not isinstance(failure, process.expected):
            raise Inconsistent(f"{process.name} ended: {name}: {failure}") from failure

    def _start(self, make: Callable[[World, str], Process]) -> Process:
        self._started += 1
        kind = "indexer" if make is IndexerProcess else "ledger"
        process = make(self, f"{kind}-{self._started}")
        self.trace(f"{process.name} starts")
        self.processes.append(process)
        return process

    async def turn(self, process: Process, calls: int) -> None:
        """Up to so many calls of one process to the outside, each to its end."""
        for _ in range(calls):
            await self.quiet()
            if process.over:
                return
            if not self.release(process) and not self.loop.jump(LONGEST_JUMP_S):
                return

    def release(self, process: Process) -> bool:
        """Lets one waiting call of a process go on. False when none waits."""
        waiting, blocked = process.gate.waiting, self.database.blocked
        order = sorted((what, i) for i, what in enumerate(waiting) if what.partition(" ")[2] not in blocked)
        if not order:
            return False
        what, index = order[self.pick.randrange(len(order))]
        self.trace(f"{process.name} {what}")
        process.gate.release(index)
        self.broker.tick(self.pick)
        return True

    async def quiet(self) -> None:
        """Waits until everything waits."""
        for _ in range(STUCK_MAX):
            if not await self.loop.idle():
                await self.database.look_for_locks(self.faults)
            elif await self.database.still_waiting():
                return
        raise AssertionError(f"PostgreSQL does not answer: {await self.database.describe()}")

    # what actors do

    async def _indexer_acts(self) -> None:
        await self._acts(IndexerProcess)

    async def _ledger_acts(self) -> None:
        await self._acts(LedgerProcess)

    async def _acts(self, kind: type[Process]) -> None:
        able = []
        for process in self.processes:
            if isinstance(process, kind):
                process.paused -= 1
                if process.paused < 0:
                    able.append(process)
        if able:
            await self.turn(self.pick.choice(able), self.pick.choice(TURNS))

    async def _chain_acts(self) -> None:
        pick, chain, count = self.pick, self.chain, self.faults.count
        deed = pick.choices(
            ["mine", "empty", "fork", "deep fork", "orphan", "flip-flop", "ends lower", "stall", "jump", "safe"],
            [40, 6, 12, 5, 8, 8, 5, 2, 4, 5],
        )[0]
        match deed:
            case "mine" | "empty":
                chain.mine(pick.randint(1, 3), empty=deed == "empty")
                self._finalize_a_little()
            case "fork":
                depth = pick.randint(1, 3)
                self._reorg("chain: fork", depth, depth + pick.randint(0, 2))
            case "deep fork":
                depth = pick.randint(5, 14)
                self._reorg("chain: deep fork", depth, depth + pick.randint(0, 2))
            case "orphan":
                self._reorg("chain: orphan", 1, 1)
            case "flip-flop":
                if chain.switch():
                    count("chain: flip-flop")
            case "ends lower":
                depth = pick.randint(2, 6)
                self._reorg("chain: branch ends lower", depth, pick.randint(1, depth - 1))
            case "stall":
                self.stalled = pick.randint(10, 60)
                count("chain: finality stalls")
            case "jump":
                self.stalled = 0
                if chain.finalize(chain.head.number - pick.randint(0, 1)):
                    count("chain: finality jumps")
            case "safe":
                before = chain.safe.number
                chain.set_safe(before - pick.randint(1, 4))
                if chain.safe.number < before:
                    count("chain: safe regresses")
        self.trace(f"chain {deed}: head {chain.head.label}, safe {chain.safe.label}, final {chain.finalized.label}")
        for node in self.nodes:
            if pick.random() < 0.6:
                node.sync(lag=pick.choice([0, 0, 0, 0, 1, 2, 5]))

    def _reorg(self, name: str, depth: int, length: int) -> None:
        if self.chain.reorg(depth, length):
            self.faults.count(name)
            old = {tx.hash for block in self.chain.heads[-1].blocks() for tx in block.txs}
            shared = self.chain.finalized.number
            if any(tx.hash in old for b in self.chain.head.blocks() if b.number > shared for tx in b.txs):
                self.faults.count("chain: tx mined again in another block")

    def _finalize_a_little(self) -> None:
        if self.stalled > 0:
            self.stalled -= 1
            return
        chain = self.chain
        chain.set_safe(max(chain.safe.number, chain.head.number - self.pick.randint(2, 6)))
        chain.finalize(chain.head.number - self.pick.randint(6, 12))

    async def _node_acts(self) -> None:
        pick, count = self.pick, self.faults.count
        node = pick.choice(self.nodes)
        deed = pick.choice(["sync", "sync", "lag", "stale", "foreign", "away", "silent", "range", "forget"])
        match deed:
            case "sync":
                node.sync()
            case "lag":
                node.sync(lag=pick.randint(1, 12))
                count("node lags")
            case "stale" if node.head is not self.chain.head:
                node.show(node.head)
                count("node serves a stale branch")
            case "foreign" if self.chain.heads:
                node.show(pick.choice(self.chain.heads))
                count("node serves a foreign branch")
            case "away":
                node.away = pick.randint(1, 6)
                count("node times out")
            case "silent":
                node.silent = pick.randint(1, 4)
            case "range":
                node.range_blocks_max = pick.choice([1, 2, 5, 1_000])
            case "forget":
                node.keeps_orphans = not node.keeps_orphans
        self.trace(f"{node.name} {deed}: head {node.head.label}")

    async def _kafka_acts(self) -> None:
        pick = self.pick
        match pick.choice(["rebalance", "expel", "compact", "finish"]):
            case "rebalance" if self.group.members:
                self.group.rebalance()
                self.faults.count("kafka: rebalance")
                self.trace("kafka rebalances")
            case "expel" if self.group.members and not self.group.rebalancing:
                member = pick.choice(self.group.members)
                self.group.remove(member)
                self.faults.count("kafka: member expelled while it lives")
                self.trace("kafka expels a member")
            case "compact":
                if self.broker.log(self.topics.state).compact():
                    self.faults.count("kafka: state topic compacted")
                    self.trace("kafka compacts the state topic")
            case _:
                self.broker.finish()
                self.trace("kafka writes all markers")

    async def _postgres_acts(self) -> None:
        ledgers = [p for p in self.processes if isinstance(p, LedgerProcess)]
        if ledgers:
            process, kind = self.pick.choice(ledgers), self.pick.choice(["deadlock", "serialisation"])
            process.trouble.kind = kind
            self.trace(f"postgres prepares a {kind} for {process.name}")

    async def _something_ends(self) -> None:
        """A process is killed somewhere in the middle of its work, or stopped in order."""
        if not self.processes:
            return
        process = self.pick.choice(self.processes)
        await self.turn(process, self.pick.choice(TURNS))
        if process.over:
            return
        if self.pick.random() < 0.75:
            await self.kill(process)
            self.faults.count(f"{process.kind} killed")
        else:
            assert isinstance(process, IndexerProcess | LedgerProcess)
            process.stop()
            self.trace(f"{process.name} is told to stop")
            self.faults.count(f"{process.kind} stopped in order")

    async def kill(self, process: Process) -> None:
        await self.quiet()
        self.trace(f"{process.name} killed at {sorted(process.gate.waiting)}")
        self.processes.remove(process)
        await process.kill()

    async def _pause(self) -> None:
        if self.processes:
            process = self.pick.choice(self.processes)
            process.paused = self.pick.randint(5, 30)
            self.faults.count("process paused")
            self.trace(f"{process.name} pauses")

    async def _time_passes(self) -> None:
        """Timers fire; nobody gets an answer meanwhile."""
        until = self.loop.now_s + self.pick.choice([1, 5, 11, 25])
        while self.loop.now_s < until and self.loop.jump(until - self.loop.now_s):
            await self.quiet()
        self.loop.now_s = max(self.loop.now_s, until)
        self.trace("time passes")

    # the trace

    def trace(self, line: str) -> None:
        self._trace.update(line.encode() + b"\n")
        if self._say is not None:
            self._say(f"{self.steps:4} {self.loop.now_s - 1_000_000:9.3f} {line}")

    @property
    def digest(self) -> str:
        return self._trace.hexdigest()

    def published(self) -> Any:
        """The indexer's cursor as it stands on the state topic, or None."""
        log = self.broker.log(self.topics.state)
        return load(((e.key or b"").decode(), e.value) for e in committed(log)).cursor
