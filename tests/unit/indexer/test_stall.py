"""A finality stall: what memory releases is read again, publishing pauses at the window's limit and goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from contracts.registry import Registry
from indexer.core.state import StateWrite
from indexer.errors import StateRefused
from indexer.ports import StateRecord
from tests.fakes.broker import Broker
from tests.unit.indexer.core.branches import GENESIS
from tests.unit.indexer.following import Followed


@dataclass
class Topic(Broker):
    """A broker that counts what is read again, and whose state topic may change under the indexer."""

    moved_by: int = 0  # offsets differ from those that were acknowledged
    spoil: tuple[bytes, bytes] = (b"", b"")
    reread: list[int] = field(default_factory=list)
    passes: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def _spoiled(self, written: StateWrite) -> StateWrite:
        key, value = written
        return key, value.replace(*self.spoil) if value and self.spoil[0] and key.startswith("part/") else value

    async def read(self, topic: str, *, to_the_very_end: bool) -> AsyncGenerator[StateRecord, None]:
        self.passes += 1
        for offset, written in enumerate(self.state):
            yield offset, *self._spoiled(written)

    async def read_at(self, topic: str, offsets: Sequence[int]) -> list[StateRecord]:
        state = self.state
        self.reread += offsets
        there = [offset for offset in offsets if offset + self.moved_by < len(state)]
        return [(offset, *self._spoiled(state[offset + self.moved_by])) for offset in there]


def stalled(registry: Registry, **options: object) -> Followed:
    followed = Followed(registry, **options)  # type: ignore[arg-type]
    followed.broker = Topic()
    return followed


async def test_released_events_are_read_again_to_be_finalized(registry: Registry) -> None:
    plenty, short = stalled(registry), stalled(registry, unfinalized_bytes_max=5_000)
    for followed in (plenty, short):
        blocks = followed.mined(GENESIS, "a", 40, events=3)
        followed.show(blocks)
        await followed.run(lambda f=followed, b=blocks: f.show(b, finalized=30))  # type: ignore[misc]
        assert [number for _, number, _, _ in followed.published("final")] == [n for n in range(1, 31) for _ in "abc"]
    assert plenty.published("final") == short.published("final")
    assert isinstance(plenty.broker, Topic)
    assert isinstance(short.broker, Topic)
    assert plenty.broker.reread == []
    assert 25 <= len(short.broker.reread) <= 30
    assert short.broker.passes == 1  # that of the start


async def test_released_events_are_read_again_to_be_retracted_and_applied_again(registry: Registry) -> None:
    followed = stalled(registry, unfinalized_bytes_max=0)
    first, second = followed.mined(GENESIS, "a", 6, events=2), followed.mined(GENESIS, "b", 6, events=2)
    followed.show(first)
    await followed.run(lambda: followed.show(second), lambda: followed.show(first))
    there = [("applied", b.number, b.hash, 1) for b in first for _ in "ab"]
    back = [("retracted", b.number, b.hash, 2) for b in reversed(first) for _ in "ab"]
    assert followed.published()[:24] == there + back
    assert followed.published()[-12:] == [("applied", b.number, b.hash, 3) for b in first for _ in "ab"]
    assert followed.standing() == [b.hash for b in first for _ in "ab"]


async def test_parts_that_moved_are_found_by_their_keys(registry: Registry) -> None:
    followed = stalled(registry, unfinalized_bytes_max=0)
    assert isinstance(followed.broker, Topic)
    followed.broker.moved_by = 1
    blocks = followed.mined(GENESIS, "a", 12)
    followed.show(blocks)
    await followed.run(lambda: followed.show(blocks, finalized=12))
    assert [number for _, number, _, _ in followed.published("final")] == list(range(1, 13))
    assert followed.broker.passes > 1


@pytest.mark.parametrize("change", ["another content", "gone"])
async def test_a_part_that_changed_or_went_is_refused(registry: Registry, change: str) -> None:
    followed = stalled(registry, unfinalized_bytes_max=0)
    broker = followed.broker
    assert isinstance(broker, Topic)
    blocks = followed.mined(GENESIS, "a", 3)
    followed.show(blocks)

    def spoil() -> None:
        if change == "gone":
            broker.txs = [replace(tx, state=tuple(w for w in tx.state if w[0][:5] != "part/")) for tx in broker.txs]
        else:
            broker.spoil = (b'"base_units":"5"', b'"base_units":"6"')
        followed.show(blocks, finalized=3)

    with pytest.raises(StateRefused, match="the state topic changed"):
        await followed.run(spoil)
    assert followed.published("final") == []


async def test_a_start_in_a_stall_keeps_no_more_than_the_budget_and_goes_on(registry: Registry) -> None:
    followed = stalled(registry, unfinalized_bytes_max=3_000)
    blocks = followed.mined(GENESIS, "a", 30, events=2)
    followed.show(blocks[:20])
    await followed.run()
    followed.show(blocks, finalized=25)
    await followed.run()
    assert followed.standing() == [b.hash for b in blocks for _ in "ab"]
    assert [number for _, number, _, _ in followed.published("final")] == [n for n in range(1, 26) for _ in "ab"]


async def test_publishing_pauses_at_the_window_s_limit_and_goes_on_when_finality_moves(registry: Registry) -> None:
    followed = stalled(registry)
    followed.limits = replace(followed.limits, window_blocks_max=8)
    blocks = followed.mined(GENESIS, "a", 40)

    def grow(height: int, finalized: int = 0) -> None:
        followed.show(blocks[:height], finalized=finalized)

    def paused_at(head: int) -> None:
        assert followed.head == head
        reasons = followed.observer.readiness().reasons
        assert any("finality stalls: 8 blocks above" in reason for reason in reasons), reasons
        assert len(followed.state().blocks) == 8

    def ready_at(head: int) -> None:
        assert followed.head == head
        assert followed.observer.readiness().ready, followed.observer.readiness().reasons

    grow(6)
    await followed.run(
        lambda: (ready_at(6), grow(8)),  # type: ignore[arg-type,return-value]
        lambda: grow(30),
        lambda: paused_at(8),
        lambda: (paused_at(8), grow(30, finalized=5)),  # type: ignore[arg-type,return-value]
        lambda: None,
        lambda: None,
        lambda: (paused_at(13), grow(30, finalized=25)),  # type: ignore[arg-type,return-value]
        lambda: None,
        lambda: ready_at(30),
    )
    assert followed.standing() == [b.hash for b in blocks[:30]]


@pytest.mark.parametrize("finalized", [6, 12])  # below our head, above it
async def test_a_stall_ends_when_finality_went_on_along_another_branch(registry: Registry, finalized: int) -> None:
    followed = stalled(registry)
    followed.limits = replace(followed.limits, window_blocks_max=8)
    ours = followed.mined(GENESIS, "a", 8)
    theirs = followed.mined(ours[2], "b", 9)
    followed.show(ours)
    await followed.run(
        lambda: followed.show(ours[:3], theirs),  # more blocks, none of them final: nothing moves
        lambda: followed.show(ours[:3], theirs, finalized=finalized),
        lambda: None,
        lambda: None,
    )
    assert followed.standing() == [b.hash for b in (*ours[:3], *theirs)]
    assert followed.observer.readiness().ready


async def test_replaced_blocks_count_for_the_limit(registry: Registry) -> None:
    followed = stalled(registry)
    followed.limits = replace(followed.limits, window_blocks_max=8)
    trunk = followed.mined(GENESIS, "trunk", 4)
    rivals = [followed.mined(trunk[-1], f"rival {i}", 2) for i in range(12)]
    followed.show(trunk)
    await followed.run(*(lambda r=r: followed.show(trunk, r) for r in rivals))  # type: ignore[misc]
    assert len(followed.state().blocks) == 16
    assert not followed.observer.readiness().ready
    await followed.run(lambda: followed.show(trunk, rivals[-1], finalized=4), lambda: None)
    assert followed.standing() == [b.hash for b in (*trunk, *rivals[-1])]
