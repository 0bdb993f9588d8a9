"""The indexer's pipeline over a block tree and a broker, both in memory, from one seed: reorgs, branches that come
back, finality that jumps, commits that fail or whose answer is lost, restarts, times when the indexer is away.

After every step that the indexer has seen: what stands equals the canonical chain, numbers have no gap, revisions
alternate, every final event came once, and the state topic holds nothing below finality.
"""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, field

import pytest

from contracts.messages import Topics, encode
from deploy.runtime import telemetry
from indexer.core.assemble import Assembler, MadeRecord, PlacedLog
from indexer.core.blocks import Header
from indexer.core.state import load
from indexer.errors import Fenced, NodeBehind, NodeLied, PublisherLost
from indexer.fetch import Fetcher
from indexer.observe import Observer
from indexer.pipeline import Limits, Pipeline
from indexer.session import ChainPlan, ContractStart
from tests.fakes.broker import Broker, Producer
from tests.fakes.chain_node import ChainNode
from tests.unit.indexer.core.branches import GENESIS, branch, event

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "60"))
STEPS = 40
EVENTS_PER_BLOCK = 2


class Clock:
    """Time that passes only when somebody looks or sleeps."""

    def __init__(self) -> None:
        self._now_ms = 1_000_000

    def now_ms(self) -> int:
        self._now_ms += 7
        return self._now_ms

    async def sleep(self, seconds: float) -> None:
        self._now_ms += int(seconds * 1000) + 1


class NoHeads:
    async def wait(self, timeout_s: float) -> int | None:
        return None


class TwoEventsABlock(Assembler):
    """Every block has the same two events; what they hold does not matter here."""

    def __init__(self) -> None:
        super().__init__(chain_id=31337, dispatch=lambda *_: None, partition_of=lambda _: 0)

    def records(self, logs: object) -> list[MadeRecord]:
        assert isinstance(logs, list)
        made = []
        for log in logs:
            at = Header(
                number=log.block_number,
                hash=log.block_hash,
                parent_hash="",
                timestamp=log.block_timestamp,
                logs_bloom=b"",
            )
            message = event(at, log.log_index)
            made.append(MadeRecord(message=message, value=encode(message), partition=log.log_index % 2))
        return made


class UncheckedLogs(Fetcher):
    """The blooms of this tree are empty; the checks against them have tests of their own."""

    async def _logs(self, header: Header) -> list[PlacedLog]:
        return await self.node.logs_of_block(header, self._wanted)


@dataclass
class Tree:
    """A block tree with a canonical branch, its finality, and a node that serves it."""

    blocks: dict[str, Header] = field(default_factory=lambda: {GENESIS.hash: GENESIS})
    canonical: list[Header] = field(default_factory=lambda: [GENESIS])
    node: ChainNode = field(default_factory=lambda: ChainNode(headers={0: GENESIS}))
    finalized: int = 0

    def mine(self, count: int, name: str) -> None:
        for block in branch(self.canonical[-1], name, count):
            self.blocks[block.hash] = block
            self.canonical.append(block)
            self.node.logs[block.hash] = [
                PlacedLog(
                    block_number=block.number,
                    block_hash=block.hash,
                    block_timestamp=block.timestamp,
                    tx_hash=block.hash,
                    tx_index=0,
                    log_index=index,
                    address="0x" + "11" * 20,
                    topics=(),
                    data=b"",
                )
                for index in range(EVENTS_PER_BLOCK)
            ]

    def switch_to(self, head: Header) -> bool:
        """Makes another block the head, if it descends from the finalized block."""
        path = self.path(head)
        if len(path) <= self.finalized or path[self.finalized] != self.canonical[self.finalized]:
            return False
        self.canonical = path
        return True

    def path(self, head: Header) -> list[Header]:
        path = [head]
        while path[-1].number:
            path.append(self.blocks[path[-1].parent_hash])
        return path[::-1]

    def serve(self) -> None:
        self.node.headers = {block.number: block for block in self.canonical}
        self.node.finalized = self.finalized


class World:
    """One simulated life of an indexer."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.tree = Tree()
        self.tree.mine(3, "a")
        self.broker = Broker()
        self.broker.fault = lambda: self.random.choice([None] * 6 + ["before", "after"])  # type: ignore[list-item]
        self.heads: list[Header] = []
        self.counts: dict[str, int] = {}
        self.observer = Observer(
            telemetry.start(service="chainbooks-indexer", instance="simulated", chain="local"),
            chain="local",
            head_lag_max_s=1,
        )
        self.pipeline = self.restarted()

    def plan(self) -> ChainPlan:
        return ChainPlan(
            chain_id=31337,
            partitions=2,
            topics=Topics(chain="local"),
            instance_id="me",
            lease_ms=10**9,
            registry=[],
            starts=[ContractStart(contract="till", start_block=0)],
            unfinalized_bytes_max=self.random.choice([0, 3_000, 10**9]),
        )

    def fetcher(self) -> Fetcher:
        return UncheckedLogs(
            self.tree.node,
            assembler=TwoEventsABlock(),
            addresses=frozenset(),
            topic0s=frozenset(),
            finality="tags",
        )

    def restarted(self) -> Pipeline:
        limits = Limits(
            poll_s=1,
            range_blocks_max=7,
            kafka_tx_bytes_max=9_000,
            window_blocks_max=500,
            start_timeout_s=60,
            outage_max_s=60,
        )
        return Pipeline(
            chain=self.plan(),
            limits=limits,
            fetcher=self.fetcher(),
            state=self.broker,
            publisher=lambda: Producer(self.broker),
            heads=NoHeads(),
            clock=Clock(),
            observer=self.observer,
        )

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    async def step(self) -> None:
        tree, pick = self.tree, self.random
        match pick.choices(["mine", "reorg", "come back", "finalize"], [35, 25, 15, 25])[0]:
            case "mine":
                tree.mine(pick.randint(1, 4), pick.choice("abc"))
            case "reorg":
                self.heads.append(tree.canonical[-1])
                depth = pick.randint(0, min(6, len(tree.canonical) - 1 - tree.finalized))
                tree.canonical = tree.canonical[: len(tree.canonical) - depth]
                tree.mine(pick.randint(1, 3), str(pick.random()))
                self.count("reorg")
            case "come back" if self.heads:
                self.heads.append(tree.canonical[-1])
                if tree.switch_to(pick.choice(self.heads)):
                    self.count("branch came back")
            case "finalize":
                tree.finalized = min(len(tree.canonical) - 1, tree.finalized + pick.randint(0, 6))
        tree.serve()
        if pick.random() < 0.2:
            self.pipeline = self.restarted()
            self.count("restart")
        if pick.random() < 0.4:
            self.count("away")
            return
        await self.settle()
        await self.settle()
        self.check()

    async def settle(self) -> None:
        """One look at the chain, begun again from the state topic whenever the producer is lost."""
        for _ in range(200):
            try:
                if self.pipeline._session is None:
                    self.pipeline._session = await self.pipeline._open()
                await self.pipeline._advance(self.pipeline._session, received_ms=None)
                return
            except (PublisherLost, Fenced):
                self.pipeline._session = None
                self.count("producer lost")
            except (NodeBehind, NodeLied):
                self.count("node doubted")
        raise AssertionError("it never settles")

    def check(self) -> None:
        numbers: dict[tuple[str, int], int] = {}
        revisions: dict[str, int] = {}
        heights: dict[tuple[str, int], int] = {}
        standing: set[str] = set()
        final: list[str] = []
        for record in self.broker.records:
            stream = (record.topic, record.partition)
            seq = int(dict(record.headers)["stream_seq"])
            assert seq == numbers.get(stream, 0) + 1, (stream, seq)
            numbers[stream] = seq
            body = json.loads(record.value)
            if body["op"] == "watermark":
                continue
            if record.topic == "final":
                final.append(body["event_id"])
                continue
            identity, height = body["event_id"], body["block_number"]
            assert body["revision"] == revisions.get(identity, 0) + 1, (body["op"], height)
            revisions[identity] = body["revision"]
            if body["op"] == "applied":
                assert height >= heights.get(stream, 0), "applied out of chain order"
                standing.add(identity)
            else:
                standing.remove(identity)
            heights[stream] = height
        state = load(self.broker.state)
        assert state.cursor is not None
        path = self.tree.path(self.tree.blocks[state.cursor.head.hash])
        assert self.tree.canonical[-1] in path, "the canonical head is not followed"
        assert standing == {event(b, i).event_id for b in path[1:] for i in range(EVENTS_PER_BLOCK)}
        settled = self.tree.canonical[1 : state.cursor.finalized.number + 1]
        assert sorted(final) == sorted(event(b, i).event_id for b in settled for i in range(EVENTS_PER_BLOCK))
        assert all(b.header.number > state.cursor.finalized.number for b in state.blocks.values())


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_any_history_ends_with_the_canonical_chain_published_once(seed: int) -> None:
    world = World(seed)
    for _ in range(STEPS):
        await world.step()


async def test_the_histories_hold_every_fault() -> None:
    counts: dict[str, int] = {}
    for seed in range(10):
        world = World(seed)
        for _ in range(STEPS):
            await world.step()
        for what, count in world.counts.items():
            counts[what] = counts.get(what, 0) + count
    print(counts)
    assert set(counts) >= {"reorg", "branch came back", "restart", "away", "producer lost"}
