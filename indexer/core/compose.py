"""What one kafka_tx contains: the records of a change in their order, the watermarks, and the state with them. Pure.

Order inside a kafka_tx, per partition: retracted (newest block first, last log first), applied, watermark. The final
topic gets what became final, then its own watermark. The cursor and the owner are always the last state writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from contracts.messages import (
    BlockRef,
    EventOp,
    Headers,
    PaymentEvent,
    RegistryRecord,
    Rejected,
    StreamPosition,
    Watermark,
    decode_event,
    decode_rejected,
    encode,
    record_headers,
)
from indexer.core.assemble import MadeRecord
from indexer.core.blocks import Header
from indexer.core.parts import Parts, StoredRecord, decode_parts
from indexer.core.state import (
    STREAM_KINDS,
    BlockState,
    Cursor,
    Latch,
    Owner,
    StateWrite,
    StreamKind,
    block_tombstones,
    block_write,
    cursor_write,
    finalized_header,
    owner_write,
    part_writes,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one kafka_tx does to the published chain. ``head``, ``safe`` and ``finalized`` are the state after it."""

    head: Header
    safe: BlockRef
    finalized: Header
    retract: tuple[BlockState, ...] = ()  # newest first, as they are now (odd revision)
    apply: tuple[BlockState, ...] = ()  # oldest first, with the revision to publish
    finalize: tuple[BlockState, ...] = ()  # oldest first
    forget: tuple[BlockState, ...] = ()  # orphans at or below the new finalized height
    backfilled: tuple[MadeRecord, ...] = ()  # records below finality: applied and final at once

    @property
    def restated(self) -> tuple[BlockState, ...]:
        """The blocks whose records are sent, so that their parts are needed."""
        return (*self.retract, *self.apply, *self.finalize)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutRecord:
    """One record to send. ``topic`` is the kind of stream; the publisher knows its name."""

    topic: StreamKind
    partition: int
    key: bytes
    value: bytes
    headers: Headers
    timestamp_ms: int  # Unix milliseconds of the block


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaTx:
    """Everything that one kafka_tx sends, and the cursor that is true once it is committed."""

    cursor: Cursor
    records: tuple[OutRecord, ...]
    state: tuple[StateWrite, ...]
    registry: tuple[RegistryRecord, ...] = ()
    blocks: tuple[BlockState, ...] = field(default=())  # blocks whose state was written, as they are after it


def compose(
    cursor: Cursor,
    change: Change,
    *,
    parts: Mapping[str, Parts],
    owner: Owner,
    all_partitions: bool,
    registry: Sequence[RegistryRecord] = (),
    traceparent: str | None = None,
    received_ms: int | None = None,
) -> KafkaTx:
    """Builds the kafka_tx of a change. ``parts``, by block hash, of every block that is restated.

    ``all_partitions`` asks for watermarks on every partition, else only those with records get one. ``received_ms`` is
    when the newest header reached us (Unix ms), for measuring latency.
    """
    writer = RecordWriter(cursor, traceparent=traceparent, received_ms=received_ms)
    state: list[StateWrite] = []
    blocks: list[BlockState] = []
    for block in change.retract:
        gone = replace(block, canonical=False, revision=block.revision + 1)
        for record in reversed(_records(block, parts)):
            writer.put(record.topic, record.partition, restated(record, "retracted", gone.revision))
        state.append(block_write(gone))
        blocks.append(gone)
    for block in change.apply:
        for record in _records(block, parts):
            writer.put(record.topic, record.partition, restated(record, "applied", block.revision))
        state.append(block_write(block))
        if block.revision == 1:
            state += part_writes(block, parts[block.header.hash])
        blocks.append(block)
    for block in change.finalize:
        for record in _records(block, parts):
            if record.topic == "events":
                writer.put("final", record.partition, restated(record, "finalized", block.revision))
        state += block_tombstones(block)
    for block in change.forget:
        state += block_tombstones(block)
    for made in change.backfilled:
        if isinstance(made.message, PaymentEvent):
            writer.put("events", made.partition, made.message, made.value)
            writer.put("final", made.partition, msgspec.structs.replace(made.message, op="finalized"))
        else:
            writer.put("rejected", made.partition, made.message, made.value)
    writer.watermarks(change, all_partitions=all_partitions)
    after = msgspec.structs.replace(
        cursor,
        head=change.head.ref,
        head_timestamp=change.head.timestamp,
        safe=change.safe,
        finalized=change.finalized.ref,
        finalized_header=finalized_header(change.finalized),
        stream_seq=writer.stream_seq,
        descriptions=cursor.descriptions | {record.contract: record.version for record in registry},
    )
    state += [owner_write(owner), cursor_write(after)]
    return KafkaTx(
        cursor=after, records=tuple(writer.records), state=tuple(state), registry=tuple(registry), blocks=tuple(blocks)
    )


def heartbeat(cursor: Cursor, owner: Owner) -> KafkaTx:
    """A kafka_tx that only renews or releases the lease. It leaves the cursor alone: memory may be behind the topic."""
    return KafkaTx(cursor=cursor, records=(), state=(owner_write(owner),))


def latched(cursor: Cursor, latch: Latch, owner: Owner) -> KafkaTx:
    """A kafka_tx that latches the chain."""
    after = msgspec.structs.replace(cursor, latch=latch)
    return KafkaTx(cursor=after, records=(), state=(owner_write(owner), cursor_write(after)))


def change_bytes(block: BlockState) -> int:
    """Roughly what publishing a block weighs in a kafka_tx: its records, to a stream and to the state topic."""
    return 1_000 + 2 * block.size_bytes + 600 * block.records


class RecordWriter:
    """Numbers records per stream and partition as they are put."""

    def __init__(self, cursor: Cursor, *, traceparent: str | None = None, received_ms: int | None = None) -> None:
        self._cursor = cursor
        self._traceparent = traceparent
        self._received = None if received_ms is None else str(received_ms).encode()
        self.stream_seq: dict[StreamKind, list[int]] = {kind: list(cursor.stream_seq[kind]) for kind in STREAM_KINDS}
        self.records: list[OutRecord] = []
        self._touched: set[tuple[StreamKind, int]] = set()

    def put(
        self,
        topic: StreamKind,
        partition: int,
        message: PaymentEvent | Rejected | Watermark,
        value: bytes | None = None,
    ) -> None:
        seq = self.stream_seq[topic]
        seq[partition] += 1
        position = StreamPosition(stream_id=self._cursor.stream_id, stream_seq=seq[partition])
        headers = record_headers(message, position, partition=partition, traceparent=self._traceparent)
        if self._received is not None:
            headers.append(("received_ms", self._received))
        watermark = isinstance(message, Watermark)
        self.records.append(
            OutRecord(
                topic=topic,
                partition=partition,
                key=b"" if watermark else message.book.encode(),  # type: ignore[union-attr]  # narrowed by the flag
                value=value if value is not None else encode(message),
                headers=headers,
                timestamp_ms=1000
                * (message.latest_timestamp if isinstance(message, Watermark) else message.block_timestamp),
            )
        )
        self._touched.add((topic, partition))

    def watermarks(self, change: Change, *, all_partitions: bool) -> None:
        final = change.finalized.ref
        live = Watermark(
            chain_id=self._cursor.chain_id,
            latest=change.head.ref,
            safe=change.safe,
            finalized=final,
            latest_timestamp=change.head.timestamp,
        )
        settled = Watermark(
            chain_id=self._cursor.chain_id,
            latest=final,
            safe=final,
            finalized=final,
            latest_timestamp=change.finalized.timestamp,
        )
        touched = frozenset(self._touched)
        for partition in range(self._cursor.partitions):
            if all_partitions or ("events", partition) in touched:
                self.put("events", partition, live)
            if all_partitions or ("final", partition) in touched:
                self.put("final", partition, settled)


def _records(block: BlockState, parts: Mapping[str, Parts]) -> list[StoredRecord]:
    records = decode_parts(parts[block.header.hash])
    if len(records) != block.records:
        raise ValueError(f"block {block.header.number} {block.header.hash}: {len(records)} of {block.records} records")
    return records


def restated(record: StoredRecord, op: EventOp, revision: int) -> PaymentEvent | Rejected:
    """The stored message with another op and revision; a rejected record is applied as "rejected"."""
    if record.topic == "events":
        return msgspec.structs.replace(decode_event(bytes(record.value)), op=op, revision=revision)
    rejected = decode_rejected(bytes(record.value))
    return msgspec.structs.replace(rejected, op="retracted" if op == "retracted" else "rejected", revision=revision)
