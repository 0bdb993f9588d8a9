"""A pipeline on a scripted node and an in-memory broker: a test says what the chain does between two looks at it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from eth_abi import encode

from contracts.messages import Topics
from contracts.registry import Registry
from deploy.runtime import telemetry
from indexer.core.assemble import Assembler, PlacedLog
from indexer.core.blocks import Header
from indexer.core.state import LoadedState, load
from indexer.fetch import Fetcher
from indexer.observe import Observer
from indexer.pipeline import Limits, Pipeline
from indexer.ports import NodePort
from indexer.session import ChainPlan, ContractStart
from tests.fakes.broker import Broker, Producer
from tests.fakes.chain_node import ChainNode, bloom_of
from tests.integration.indexer.rig import PAID
from tests.unit.indexer.core.branches import GENESIS, block_hash, header

ADDRESS = "0x" + "11" * 20
LIMITS = Limits(
    poll_s=1,
    range_blocks_max=7,
    kafka_tx_bytes_max=20_000,
    window_blocks_max=500,
    start_timeout_s=60,
    outage_max_s=60,
)


class StoryEnds(Exception):
    """The script has no further step."""


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000) + 1


def payment(at: Header, log_index: int, *, tx: str = "") -> PlacedLog:
    return PlacedLog(
        block_number=at.number,
        block_hash=at.hash,
        block_timestamp=at.timestamp,
        tx_hash=block_hash(tx or f"tx {at.hash} {log_index}"),
        tx_index=0,
        log_index=log_index,
        address=ADDRESS,
        topics=(PAID, b"\x07" * 32),
        data=encode(["uint256", "uint64"], [5, log_index]),
    )


@dataclass
class Followed:
    """One chain, its node, the broker, and the indexer that follows."""

    registry: Registry
    limits: Limits = LIMITS
    unfinalized_bytes_max: int = 10**9
    nodes: NodePort | None = None  # in place of ``node``
    node: ChainNode = field(default_factory=lambda: ChainNode(headers={0: GENESIS}))
    broker: Broker = field(default_factory=Broker)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.observer = Observer(
            telemetry.start(service="chainbooks-indexer", instance="test", chain="local"),
            chain="local",
            head_lag_max_s=10**9,
        )
        self.steps: Iterator[Callable[[], None]] = iter(())

    def mined(self, parent: Header, name: str, count: int, *, events: int = 1) -> list[Header]:
        """New blocks with payments on top of ``parent``; the node has them by hash, and in its chain once shown."""
        blocks: list[Header] = []
        for _ in range(count):
            bare = header(parent.number + 1, name, parent)
            logs = [payment(bare, i) for i in range(events)]
            parent = replace(bare, logs_bloom=bloom_of(logs))
            self.node.logs[parent.hash] = logs
            blocks.append(parent)
        return blocks

    def show(self, *branches: Sequence[Header], finalized: int | None = None) -> None:
        """The node's canonical chain from now on."""
        self.node.headers = {0: GENESIS} | {block.number: block for blocks in branches for block in blocks}
        if finalized is not None:
            self.node.finalized = finalized

    async def wait(self, timeout_s: float) -> int | None:
        """The HeadsPort: the next step of the script."""
        step = next(self.steps, None)
        if step is None:
            raise StoryEnds
        self.clock.ms += int(timeout_s * 1000)
        step()
        return None

    async def run(self, *steps: Callable[[], None]) -> None:
        """Starts an indexer from the broker alone. It looks once, and once more after each step."""
        self.steps = iter(steps)
        try:
            await self.pipeline().run()
        except StoryEnds:
            return
        raise AssertionError("the pipeline ended by itself")

    def pipeline(self) -> Pipeline:
        addresses, topic0s = self.registry.watched()
        return Pipeline(
            chain=ChainPlan(
                chain_id=31337,
                partitions=2,
                topics=Topics(chain="local"),
                instance_id="me",
                lease_ms=10**9,
                registry=[],
                starts=[ContractStart(contract="till", start_block=0)],
                unfinalized_bytes_max=self.unfinalized_bytes_max,
            ),
            limits=self.limits,
            fetcher=Fetcher(
                self.nodes or self.node,
                assembler=Assembler(
                    chain_id=31337, dispatch=self.registry.dispatch, partition_of=lambda book: len(book) % 2
                ),
                addresses=addresses,
                topic0s=topic0s,
                finality="tags",
            ),
            state=self.broker,
            publisher=lambda: Producer(self.broker),
            heads=self,
            clock=self.clock,
            observer=self.observer,
        )

    def state(self) -> LoadedState:
        return load(self.broker.state)

    @property
    def head(self) -> int:
        cursor = self.state().cursor
        assert cursor is not None
        return cursor.head.number

    def published(self, topic: str = "events") -> list[tuple[str, int, str, int]]:
        """Op, block number, block hash and revision of what was published, without watermarks."""
        bodies = [json.loads(record.value) for record in self.broker.records if record.topic == topic]
        return [(b["op"], b["block_number"], b["block_hash"], b["revision"]) for b in bodies if b["op"] != "watermark"]

    def standing(self) -> list[str]:
        """Block hashes of the events that stand, in the order of their blocks."""
        standing: dict[str, tuple[int, str]] = {}
        for record in self.broker.records:
            body = json.loads(record.value)
            if record.topic != "events" or body["op"] == "watermark":
                continue
            if body["op"] == "applied":
                assert body["event_id"] not in standing
                standing[body["event_id"]] = (body["block_number"], body["block_hash"])
            else:
                del standing[body["event_id"]]
        return [block for _, block in sorted(standing.values())]
