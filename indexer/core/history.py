"""What consumers have been told: the published streams, read back from some record on. Pure.

What stood below finality is no longer in the state topic, so whoever has to take it back reads the streams themselves.
A scan begins at a block's time, not at the streams' begin. What it says of an event is exact when that event's block
descends from the block where the scan began: all its records carry its block's time.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from contracts.messages import BlockRef
from indexer.core.state import STREAM_KINDS, Cursor, StreamKind


class HistoryBroken(ValueError):
    """The streams do not hold together, or do not end where the cursor says; the text says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecord:
    """A record of a stream as it was read back."""

    topic: StreamKind
    partition: int
    stream_id: str
    stream_seq: int
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The last that a topic said of one event (or rejected log)."""

    partition: int
    revision: int  # odd: it stands
    block: BlockRef
    log_index: int
    value: bytes  # the message; empty when it does not stand

    @property
    def stands(self) -> bool:
        return self.revision % 2 == 1


class _Body(msgspec.Struct, frozen=True):
    """The fields that we read of any message."""

    op: str
    event_id: str = ""
    revision: int = 0
    block_number: int = 0
    block_hash: str = ""
    log_index: int = 0
    incident_id: str | None = None
    finalized: BlockRef | None = None


_decoder: Final = msgspec.json.Decoder(_Body)


class History:
    """Folds the records of all streams of a chain. Only blocks above ``floor`` are kept."""

    def __init__(self, cursor: Cursor, *, floor: int) -> None:
        self._cursor = cursor
        self._floor = floor
        self._seqs: dict[tuple[StreamKind, int], int] = {}
        self._first_seqs: dict[tuple[StreamKind, int], int] = {}
        self._finals: list[list[BlockRef]] = [[] for _ in range(cursor.partitions)]  # oldest first
        self._first_final: dict[int, int] = {}
        self._rejected_from: list[int | None] = [None] * cursor.partitions
        self.told: dict[StreamKind, dict[str, Told]] = {kind: {} for kind in STREAM_KINDS}

    def take(self, record: StreamRecord) -> None:
        """The next record of its partition. Raises HistoryBroken."""
        self._check_place(record)
        try:
            body = _decoder.decode(record.value)
        except msgspec.DecodeError as exc:
            raise HistoryBroken(f"{_place(record)} does not decode: {exc}") from exc
        if body.op == "watermark":
            self._watermark(record, body)
            return
        if body.incident_id is not None:
            self._changed_below_finality(record, body.block_number)
        if body.block_number <= self._floor:
            return
        self.told[record.topic][body.event_id] = Told(
            partition=record.partition,
            revision=body.revision,
            block=BlockRef(number=body.block_number, hash=body.block_hash),
            log_index=body.log_index,
            value=record.value if body.revision % 2 == 1 else b"",
        )

    def check_end(self) -> None:
        """Raises HistoryBroken unless every stream that had a record ends where the cursor says."""
        for (topic, partition), seq in self._seqs.items():
            wanted = self._cursor.stream_seq[topic][partition]
            if seq != wanted:
                raise HistoryBroken(f"{topic}, partition {partition} ends with stream_seq {seq}, not {wanted}")

    @property
    def begins_at(self) -> int | None:
        """The first block that the streams ever called final, when this scan reached their begin; else None."""
        partitions = range(self._cursor.partitions)
        if any(self._first_seqs.get(("events", partition)) != 1 for partition in partitions):
            return None
        return min((self._first_final[p] for p in partitions if p in self._first_final), default=None)

    def ancestor(self) -> Generator[BlockRef, bool, BlockRef | None]:
        """A block from which on, downwards, what stands is what the canonical chain holds; None when none is known.

        Yields blocks and is sent whether the canonical chain has them. A partition vouches for a block that it once
        called final, as long as nothing at or below that block was changed in it since. The lowest of the partitions'
        highest such blocks holds for all. Any block that is vouched for and canonical will do, so a search by halves
        is right even where an incident left blocks of two branches among them.
        """
        lowest: BlockRef | None = None
        for partition in range(self._cursor.partitions):
            found = yield from _highest(self._vouched(partition))
            if found is None:
                return None
            lowest = found if lowest is None or found.number < lowest.number else lowest
        return lowest

    def _vouched(self, partition: int) -> Sequence[BlockRef]:
        """At or above the floor: below it, blocks of other branches may be missing from the scan."""
        below = self._rejected_from[partition]
        return [
            ref
            for ref in self._finals[partition]
            if ref.number >= self._floor and (below is None or ref.number < below)
        ]

    def _watermark(self, record: StreamRecord, body: _Body) -> None:
        if record.topic != "events" or body.finalized is None:
            return
        self._first_final.setdefault(record.partition, body.finalized.number)
        finals = self._finals[record.partition]
        if not finals or finals[-1] != body.finalized:
            finals.append(body.finalized)

    def _changed_below_finality(self, record: StreamRecord, number: int) -> None:
        """An earlier incident changed this block; nobody knows when a rejected record came, seen from the events."""
        if record.topic == "events":
            finals = self._finals[record.partition]
            self._finals[record.partition] = [ref for ref in finals if ref.number < number]
        elif record.topic == "rejected":
            before = self._rejected_from[record.partition]
            self._rejected_from[record.partition] = number if before is None else min(before, number)

    def _check_place(self, record: StreamRecord) -> None:
        stream = (record.topic, record.partition)
        before = self._seqs.get(stream)
        if record.stream_id != self._cursor.stream_id:
            raise HistoryBroken(f"{_place(record)} is of stream {record.stream_id}, not {self._cursor.stream_id}")
        if before is not None and record.stream_seq != before + 1:
            raise HistoryBroken(f"{_place(record)} comes after stream_seq {before}: records are missing or come twice")
        self._seqs[stream] = record.stream_seq
        self._first_seqs.setdefault(stream, record.stream_seq)


def _highest(finals: Sequence[BlockRef]) -> Generator[BlockRef, bool, BlockRef | None]:
    low, high = -1, len(finals)  # finals[low] is canonical, finals[high] is not
    while high - low > 1:
        middle = (low + high) // 2
        if (yield finals[middle]):
            low = middle
        else:
            high = middle
    return finals[low] if low >= 0 else None


def _place(record: StreamRecord) -> str:
    return f"{record.topic}, partition {record.partition}, stream_seq {record.stream_seq}"
