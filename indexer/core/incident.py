"""What an incident takes back and puts in its place: a chain that changed below its published finalized block. Pure.

Everything is the difference between two facts: what stands in the streams (core.history) and what the canonical chain
holds. So a resolve that was interrupted is simply begun again, and finds only what is left to do.

Order per partition: revoked (newest block first, last log first), then applied (oldest first), then a watermark in the
last kafka_tx, which also moves the cursor to the canonical block and lifts the latch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

import msgspec

from contracts.messages import PaymentEvent, Rejected, decode_event, decode_rejected, encode
from indexer.core.compose import Change, KafkaTx, RecordWriter
from indexer.core.history import History, HistoryBroken, Told
from indexer.core.parts import StoredRecord, decode_parts
from indexer.core.state import (
    Cursor,
    Latch,
    NewBlock,
    Owner,
    StreamKind,
    cursor_write,
    finalized_header,
    owner_write,
)

RECORD_OVERHEAD_BYTES: Final = 600  # headers and framing, about


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message for one partition of a stream."""

    topic: StreamKind
    partition: int
    message: PaymentEvent | Rejected
    value: bytes  # the message, encoded


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The records of one block, in the order to publish them."""

    records: tuple[Outgoing, ...]

    @property
    def weight(self) -> int:
        """Bytes in a kafka_tx, about."""
        return sum(len(record.value) + RECORD_OVERHEAD_BYTES for record in self.records)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Events by (contract, book), and rejected logs."""

    events: Mapping[tuple[str, str], int] = field(default_factory=dict)
    rejected: int = 0


def incident_id(chain_id: int, latch: Latch, block_hash: str) -> str:
    """The name of an incident: the same for every attempt to resolve one latch with one block."""
    preimage = f"{chain_id}:{latch.ours.hash}:{block_hash}:{latch.noticed_at_ms}"
    return f"{chain_id}-{latch.ours.number}-{hashlib.sha256(preimage.encode()).hexdigest()[:12]}"


def to_revoke(history: History, canonical: Mapping[int, str]) -> list[tuple[StreamKind, Told]]:
    """What stands in the blocks of ``canonical`` (number → hash) and is not of them: newest block first.

    Raises HistoryBroken when the final topic does not say the same as the events topic.
    """
    for event_id in history.told["events"].keys() | history.told["final"].keys():
        _check_final(history, event_id, canonical)
    standing = [
        (kind, told)
        for kind in history.told
        for told in history.told[kind].values()
        if told.stands and told.block.number in canonical and canonical[told.block.number] != told.block.hash
    ]
    return sorted(standing, key=lambda item: (item[1].block.number, item[1].log_index), reverse=True)


def revoking(revoked: Iterable[tuple[StreamKind, Told]], incident: str) -> Iterator[Step]:
    """One step a block. An event is revoked, a rejected log retracted; each with its next revision."""
    for _, group in groupby(revoked, key=lambda item: item[1].block.number):
        yield Step(
            records=tuple(_outgoing(kind, told.partition, _withdrawn(kind, told, incident)) for kind, told in group)
        )


def applying(blocks: Iterable[NewBlock], history: History, incident: str) -> Iterator[Step]:
    """One step a block of the canonical chain that has anything which does not stand yet."""
    for block in blocks:
        records = tuple(out for record in decode_parts(block.parts) for out in _applied(record, history, incident))
        if records:
            yield Step(records=records)


def counted(steps: Iterable[Step]) -> Counts:
    """What steps do to the events topic and the rejected topic."""
    events: Counter[tuple[str, str]] = Counter()
    rejected = 0
    for step in steps:
        events.update((r.message.contract, r.message.book) for r in step.records if r.topic == "events")
        rejected += sum(1 for record in step.records if record.topic == "rejected")
    return Counts(events=events, rejected=rejected)


def total(counts: Iterable[Counts]) -> Counts:
    """The sum of all."""
    events: Counter[tuple[str, str]] = Counter()
    rejected = 0
    for count in counts:
        events.update(count.events)
        rejected += count.rejected
    return Counts(events=events, rejected=rejected)


def compose_incident(cursor: Cursor, steps: Sequence[Step], *, owner: Owner, lifted: Change | None) -> KafkaTx:
    """A kafka_tx of an incident. ``lifted`` is the published chain after the last one, which lifts the latch.

    Only that one has watermarks: until then nothing true can be said of what is complete.
    """
    writer = RecordWriter(cursor)
    for step in steps:
        for record in step.records:
            writer.put(record.topic, record.partition, record.message, record.value)
    after = cursor
    if lifted is not None:
        writer.watermarks(lifted, all_partitions=True)
        after = msgspec.structs.replace(
            cursor,
            head=lifted.head.ref,
            head_timestamp=lifted.head.timestamp,
            safe=lifted.safe,
            finalized=lifted.finalized.ref,
            finalized_header=finalized_header(lifted.finalized),
            latch=None,
        )
    after = msgspec.structs.replace(after, stream_seq=writer.stream_seq)
    return KafkaTx(cursor=after, records=tuple(writer.records), state=(owner_write(owner), cursor_write(after)))


def _check_final(history: History, event_id: str, canonical: Mapping[int, str]) -> None:
    """Below finality both topics are written in one kafka_tx; where they differ, nobody may decide by himself."""
    event, final = history.told["events"].get(event_id), history.told["final"].get(event_id)
    known = event or final
    assert known is not None
    if known.block.number not in canonical:
        return
    revisions = [told.revision if told is not None and told.stands else None for told in (event, final)]
    if revisions[0] != revisions[1]:
        raise HistoryBroken(
            f"event {event_id} of block {known.block.number} {_stands(revisions[0])} on the events topic, but "
            f"{_stands(revisions[1])} on the final topic"
        )


def _stands(revision: int | None) -> str:
    return "does not stand" if revision is None else f"stands with revision {revision}"


def _withdrawn(kind: StreamKind, told: Told, incident: str) -> PaymentEvent | Rejected:
    if kind == "rejected":
        rejected = decode_rejected(told.value)
        return msgspec.structs.replace(rejected, op="retracted", revision=told.revision + 1, incident_id=incident)
    event = decode_event(told.value)
    return msgspec.structs.replace(event, op="revoked", revision=told.revision + 1, incident_id=incident)


def _applied(record: StoredRecord, history: History, incident: str) -> Iterator[Outgoing]:
    """The record of the canonical chain with the revision that follows what was told of it; none when it stands."""
    value = bytes(record.value)
    message = decode_event(value) if record.topic == "events" else decode_rejected(value)
    last = history.told[record.topic].get(message.event_id)
    if last is not None and last.stands:
        return
    revision = 1 if last is None else last.revision + 1
    if isinstance(message, Rejected):
        rejected = msgspec.structs.replace(message, op="rejected", revision=revision, incident_id=incident)
        yield _outgoing("rejected", record.partition, rejected)
        return
    applied = msgspec.structs.replace(message, op="applied", revision=revision, late=True, incident_id=incident)
    yield _outgoing("events", record.partition, applied)
    yield _outgoing("final", record.partition, msgspec.structs.replace(applied, op="finalized"))


def _outgoing(topic: StreamKind, partition: int, message: PaymentEvent | Rejected) -> Outgoing:
    return Outgoing(topic=topic, partition=partition, message=message, value=encode(message))
