"""What is read back from the streams: what stands, where both branches still agree, when nothing may be believed."""

from __future__ import annotations

import msgspec
import pytest

from contracts.messages import BlockRef, Watermark, encode
from indexer.core.blocks import Header
from indexer.core.history import History, HistoryBroken, StreamRecord
from indexer.core.state import StreamKind
from tests.unit.indexer.core.branches import GENESIS, branch, event
from tests.unit.indexer.core.test_compose import CURSOR

OURS = branch(GENESIS, "a", 9)
FORK = 4  # the last block that both branches have
THEIRS = [*OURS[:FORK], *branch(OURS[FORK - 1], "b", 5)]


class Streams:
    """Records as they would be read back, numbered per partition."""

    def __init__(self) -> None:
        self.records: list[StreamRecord] = []
        self._seqs: dict[tuple[StreamKind, int], int] = {}

    def put(self, topic: StreamKind, partition: int, message: msgspec.Struct) -> None:
        seq = self._seqs[(topic, partition)] = self._seqs.get((topic, partition), 0) + 1
        record = StreamRecord(topic=topic, partition=partition, stream_id="s", stream_seq=seq, value=encode(message))
        self.records.append(record)

    def final(self, block: Header, *partitions: int) -> None:
        for partition in partitions or (0, 1):
            self.put(
                "events",
                partition,
                Watermark(chain_id=31337, latest=block.ref, safe=block.ref, finalized=block.ref),
            )

    def history(self, *, floor: int = 0) -> History:
        history = History(CURSOR, floor=floor)
        for record in self.records:
            history.take(record)
        return history


def ancestor(history: History, canonical: list[Header]) -> BlockRef | None:
    hashes = {block.number: block.hash for block in [GENESIS, *canonical]}
    search = history.ancestor()
    try:
        asked = next(search)
        while True:
            asked = search.send(hashes[asked.number] == asked.hash)
    except StopIteration as done:
        found: BlockRef | None = done.value
        return found


def published(blocks: list[Header]) -> Streams:
    streams = Streams()
    for block in blocks:
        streams.put("events", block.number % 2, event(block, 0))
        streams.final(block)
    return streams


def test_the_ancestor_is_the_highest_final_block_that_the_canonical_chain_has() -> None:
    assert ancestor(published(OURS).history(), THEIRS) == OURS[FORK - 1].ref
    assert ancestor(published(OURS).history(), OURS) == OURS[-1].ref


def test_no_block_below_the_floor_is_an_ancestor() -> None:
    """Other branches' records may be missing from a scan that began there."""
    assert ancestor(published(OURS).history(floor=FORK), THEIRS) == OURS[FORK - 1].ref
    assert ancestor(published(OURS).history(floor=FORK + 1), THEIRS) is None


def test_the_partition_that_knows_least_decides() -> None:
    streams = Streams()
    streams.final(OURS[1])
    streams.final(OURS[3], 0)
    assert ancestor(streams.history(), THEIRS) == OURS[1].ref


@pytest.mark.parametrize("op", ["revoked", "applied"])
def test_a_block_is_not_vouched_for_after_something_below_it_was_changed(op: str) -> None:
    """A second incident in which the chain flips back: what was final before the first one is canonical again."""
    streams = published(OURS)
    gone = msgspec.structs.replace(event(OURS[FORK], 0), op=op, revision=2 if op == "revoked" else 3, incident_id="i")
    for partition in (0, 1):
        streams.put("events", partition, gone)
    assert ancestor(streams.history(), OURS) == OURS[FORK - 1].ref


def test_a_rejected_log_that_an_incident_changed_counts_too() -> None:
    streams = published(OURS)
    changed = msgspec.structs.replace(event(OURS[FORK], 0), op="retracted", revision=2, incident_id="i")
    streams.put("rejected", 1, changed)
    assert ancestor(streams.history(), OURS) == OURS[FORK - 1].ref


def test_an_event_is_what_was_told_of_it_last() -> None:
    streams = published(OURS)
    streams.put("events", 1, msgspec.structs.replace(event(OURS[4], 0), op="retracted", revision=2))
    streams.put("events", 1, msgspec.structs.replace(event(OURS[6], 0), op="retracted", revision=2))
    streams.put("events", 1, msgspec.structs.replace(event(OURS[6], 0), op="applied", revision=3))
    told = streams.history(floor=2).told["events"]
    standing = {t.block.number: t.revision for t in told.values() if t.stands}
    assert standing == {3: 1, 4: 1, 6: 1, 7: 3, 8: 1, 9: 1}
    (gone,) = [t for t in told.values() if not t.stands]
    assert (gone.revision, gone.value) == (2, b"")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stream_seq": 5}, "records are missing or come twice"),
        ({"stream_seq": 3}, "records are missing or come twice"),
        ({"stream_id": "other"}, "is of stream other"),
        ({"value": b"{"}, "does not decode"),
    ],
)
def test_records_that_cannot_be_the_stream_are_not_believed(change: dict[str, object], said: str) -> None:
    streams = Streams()
    for block in OURS[:4]:
        streams.final(block, 0)
    streams.records[-1] = StreamRecord(
        **{
            "topic": "events",
            "partition": 0,
            "stream_id": "s",
            "stream_seq": 4,
            "value": streams.records[-1].value,
            **change,
        }  # type: ignore[arg-type]
    )
    with pytest.raises(HistoryBroken, match=said):
        streams.history()


def test_streams_that_end_before_the_cursor_says_are_not_believed() -> None:
    streams = Streams()
    streams.final(OURS[0])
    history = streams.history()
    with pytest.raises(HistoryBroken, match="ends with stream_seq 1, not 0"):
        history.check_end()


def test_the_begin_is_known_when_it_was_read() -> None:
    assert published(OURS).history().begins_at == 1
    streams = published(OURS)
    del streams.records[:6]
    assert streams.history().begins_at is None
