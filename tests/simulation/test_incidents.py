"""Changes below finality from one seed: latched, resolved through failing kafka_txs and changes of mind, followed on.

The chain may change again before the resolve, in the middle of it, or back to what it was; branches that were revoked
may come back. After each: what stands equals the canonical chain on every topic, numbers have no gap, revisions of an
event count up by one, and nothing is latched.
"""

from __future__ import annotations

import json
import os

import pytest

from contracts.messages import Rejected, encode
from indexer import evidence
from indexer.core.assemble import MadeRecord
from indexer.core.blocks import Header
from indexer.core.state import Latch, load
from indexer.errors import Fenced, Latched, PublisherLost
from indexer.fetch import Fetcher
from indexer.patience import Patience
from indexer.resolve import Resolver
from tests.fakes.broker import Producer, Streams
from tests.simulation.test_indexer_histories import Clock, TwoEventsABlock, UncheckedLogs, World
from tests.unit.indexer.core.branches import event

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "20"))
STEPS = 12
INCIDENTS = 6


def rejected(at: Header) -> Rejected:
    """What every third block has besides its events."""
    of = event(at, 2)
    return Rejected(
        op="rejected",
        event_id=of.event_id,
        revision=1,
        chain_id=of.chain_id,
        block_number=at.number,
        block_hash=at.hash,
        block_timestamp=at.timestamp,
        tx_hash=of.tx_hash,
        tx_index=0,
        log_index=2,
        address=of.address,
        topics=[],
        data="0x",
        data_length=0,
        data_sha256="0x" + "00" * 32,
        code="test",
        reason="test",
        contract=of.contract,
        book=of.book,
        description_version=of.description_version,
    )


class WithRejected(TwoEventsABlock):
    """Every third block has a rejected log, too. Other blocks have events in one partition only."""

    def records(self, logs: object) -> list[MadeRecord]:
        made = super().records(logs)
        kept: list[MadeRecord] = []
        for record in made:
            number = record.message.block_number
            if number % 5 != 0 or record.partition == 0:
                kept.append(record)
            if record.message.log_index == 1 and number % 3 == 0:
                block = record.message
                at = Header(
                    number=number,
                    hash=block.block_hash,
                    parent_hash="",
                    timestamp=block.block_timestamp,
                    logs_bloom=b"",
                )
                kept.append(MadeRecord(message=rejected(at), value=encode(rejected(at)), partition=number % 2))
        return kept


class Troubled(World):
    """A World in which finality does not hold."""

    def fetcher(self) -> Fetcher:
        return UncheckedLogs(
            self.tree.node, assembler=WithRejected(), addresses=frozenset(), topic0s=frozenset(), finality="tags"
        )

    @property
    def latch(self) -> Latch | None:
        cursor = load(self.broker.state).cursor
        return None if cursor is None else cursor.latch

    def resolver(self) -> Resolver:
        clock = Clock()
        return Resolver(
            chain=self.plan(),
            fetcher=self.fetcher(),
            witnesses=[self.fetcher()],
            state=self.broker,
            streams=Streams(self.broker),
            publisher=lambda: Producer(self.broker),
            clock=clock,
            patience=Patience(clock=clock, observer=self.observer, chain="local"),
            start_timeout_s=60,
            kafka_tx_bytes_max=self.random.choice([1, 4_000, 9_000, 10**9]),
        )

    def violate(self) -> None:
        """Another branch becomes final below what was final: a new one, or one of earlier times."""
        tree, pick = self.tree, self.random
        final = tree.finalized
        self.heads.append(tree.canonical[-1])
        back = [head for head in self.heads if head.number >= final and tree.path(head)[final] != tree.canonical[final]]
        if back and pick.random() < 0.4:
            tree.canonical = tree.path(pick.choice(back))
            self.count("revoked branch came back")
        else:
            fork = pick.randint(0, final - 1)
            tree.canonical = tree.canonical[: fork + 1]
            tree.mine(final - fork + pick.randint(0, 4), str(pick.random()))
            self.count("violation")
        tree.serve()

    async def notice(self) -> None:
        """Looks at the chain until it is followed or latched."""
        for _ in range(3):
            try:
                await self.settle()
            except Latched:
                self.pipeline = self.restarted()
                self.count("latched")
                return

    async def resolve(self) -> None:
        """Until the latch is lifted, with the block that the node has by then."""
        for _ in range(200):
            latch = self.latch
            if latch is None:
                return
            number = latch.ours.number
            try:
                await self.resolver().resolve(self.tree.canonical[number].hash, shown=None)
            except (PublisherLost, Fenced):
                self.count("resolve interrupted")
                if self.random.random() < 0.3:
                    self.violate()
                    self.count("changed meanwhile")
        raise AssertionError("it is never resolved")

    def check(self) -> None:
        state = load(self.broker.state)
        assert state.cursor is not None
        assert state.cursor.latch is None
        numbers: dict[tuple[str, int], int] = {}
        revisions: dict[tuple[str, str], int] = {}
        standing: dict[str, set[str]] = {"events": set(), "final": set(), "rejected": set()}
        for record in self.broker.records:
            stream = (record.topic, record.partition)
            seq = int(dict(record.headers)["stream_seq"])
            assert seq == numbers.get(stream, 0) + 1, (stream, seq)
            numbers[stream] = seq
            body = json.loads(record.value)
            if body["op"] == "watermark":
                continue
            told = (record.topic, body["event_id"])
            before = revisions.get(told, 0)
            assert body["revision"] > before if record.topic == "final" else body["revision"] == before + 1, body
            revisions[told] = body["revision"]
            if body["op"] in ("applied", "finalized", "rejected"):
                standing[record.topic].add(body["event_id"])
            else:
                assert (body["incident_id"] is not None) == (body["op"] == "revoked" or record.topic == "final") or (
                    record.topic == "rejected"
                )
                standing[record.topic].remove(body["event_id"])
        path = self.tree.path(self.tree.blocks[state.cursor.head.hash])[1:]
        assert self.tree.canonical[-1] in [*path, self.tree.canonical[0]], "the canonical head is not followed"
        settled = path[: state.cursor.finalized.number]
        assert standing == {"events": events_of(path), "final": events_of(settled), "rejected": rejected_of(path)}
        assert all(b.header.number > state.cursor.finalized.number for b in state.blocks.values())


def events_of(path: list[Header]) -> set[str]:
    return {event(b, i).event_id for b in path for i in range(2) if b.number % 5 != 0 or i == 0}


def rejected_of(path: list[Header]) -> set[str]:
    return {rejected(b).event_id for b in path if b.number % 3 == 0}


async def live(seed: int) -> Troubled:
    """A few steps, an incident, and again."""
    world = Troubled(seed)
    for _ in range(INCIDENTS):
        for _ in range(STEPS):
            await world.step()
        if world.tree.finalized == 0:
            continue
        world.violate()
        await world.notice()
        if world.random.random() < 0.3:
            world.violate()
        await world.notice()
        while world.latch is not None:  # the chain may change once more while the last kafka_tx's answer is lost
            await world.resolve()
            await world.notice()
        world.check()
    return world


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_any_incident_ends_with_the_canonical_chain_published_once(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "FIRST_LOOKBACK_BLOCKS", 2)
    await live(seed)


async def test_the_incidents_hold_every_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "FIRST_LOOKBACK_BLOCKS", 2)
    counts: dict[str, int] = {}
    for seed in range(1000, 1010):
        for what, count in (await live(seed)).counts.items():
            counts[what] = counts.get(what, 0) + count
    print(counts)
    assert set(counts) >= {
        "violation",
        "revoked branch came back",
        "latched",
        "resolve interrupted",
        "changed meanwhile",
    }
