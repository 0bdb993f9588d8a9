"""Reads events and final as any consumer does, read_committed and from the beginning, and looks for broken promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from contracts.messages import PaymentEvent, Topics, decode_event, decode_watermark

PROBLEMS_MAX: Final = 20
READ_TIMEOUT_S: Final = 180.0


@dataclass(slots=True)
class Stream:
    """What one topic told, and what is wrong with it."""

    name: str
    problems: list[str] = field(default_factory=list)
    stream_ids: set[str] = field(default_factory=set)
    seqs: dict[int, int] = field(default_factory=dict)  # partition → last stream_seq
    revisions: dict[str, int] = field(default_factory=dict)  # event id → last revision
    standing: dict[str, PaymentEvent] = field(default_factory=dict)  # event id → the event
    finalized: dict[int, int] = field(default_factory=dict)  # partition → finalized block of its last watermark
    retracted: int = 0
    told: int = 0  # records that a consumer gets
    aborted: int = 0  # records of kafka_txs that never happened

    def take(self, record: ConsumerRecord[bytes, bytes]) -> None:
        """The next record of its partition."""
        self.told += 1
        headers = dict(record.headers)
        where = f"{self.name}/{record.partition} at offset {record.offset}"
        seq, expected = int(headers["stream_seq"]), self.seqs.get(record.partition, 0) + 1
        if seq != expected:
            self._complain(f"{where}: stream_seq {seq} after {expected - 1}")
        self.seqs[record.partition] = seq
        self.stream_ids.add(headers["stream_id"].decode())
        if headers["op"] == b"watermark":
            self._take_watermark(record, where)
        else:
            self._take_event(record, where)

    def _take_watermark(self, record: ConsumerRecord[bytes, bytes], where: str) -> None:
        number = decode_watermark(record.value or b"").finalized.number
        if number < self.finalized.get(record.partition, 0):
            self._complain(f"{where}: finalized goes back to {number}")
        self.finalized[record.partition] = number

    def _take_event(self, record: ConsumerRecord[bytes, bytes], where: str) -> None:
        event = decode_event(record.value or b"")
        if record.key != event.book.encode():
            self._complain(f"{where}: key {record.key!r} is not the book {event.book!r}")
        if event.op in ("applied", "retracted"):
            self._take_change(event, record.partition, where)
        elif event.op == "finalized" and self.name.endswith(".final.v1"):
            if event.event_id in self.standing:
                self._complain(f"{where}: {event.event_id} is final twice")
            self.standing[event.event_id] = event
        else:
            self._complain(f"{where}: unexpected op {event.op}")

    def _take_change(self, event: PaymentEvent, partition: int, where: str) -> None:
        revision = self.revisions.get(event.event_id, 0) + 1
        if event.revision != revision or (event.op == "applied") != (revision % 2 == 1):
            self._complain(f"{where}: {event.op} {event.event_id} has revision {event.revision} after {revision - 1}")
        self.revisions[event.event_id] = event.revision
        if event.block_number <= self.finalized.get(partition, -1):
            self._complain(f"{where}: {event.op} {event.event_id} of block {event.block_number}, which was final")
        if event.op == "applied":
            self.standing[event.event_id] = event
        else:
            self.retracted += 1
            self.standing.pop(event.event_id, None)

    def finish(self) -> None:
        """What can be said at the end only."""
        if len(self.stream_ids) != 1:
            self._complain(f"{self.name}: {len(self.stream_ids)} stream ids")
        for line in _unordered(self.standing.values()):
            self._complain(f"{self.name}: {line}")

    def _complain(self, line: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(line)


def _unordered(events: Iterable[PaymentEvent]) -> Iterator[str]:
    """Within a book what stands was told in chain order."""
    last: dict[str, tuple[int, int]] = {}
    for event in events:
        place = (event.block_number, event.log_index)
        if place <= last.get(event.book, (-1, -1)):
            yield f"{event.event_id} at {place} comes after {last[event.book]} in book {event.book}"
        last[event.book] = place


async def read_streams(bootstrap_servers: str, topics: Topics, *, partitions: int) -> tuple[Stream, Stream]:
    """Events and final to their very end; an open kafka_tx that hides some of it is a problem, too."""
    events, final = Stream(topics.events), Stream(topics.final)
    for stream in (events, final):
        targets = [TopicPartition(stream.name, number) for number in range(partitions)]
        written = await _ends(bootstrap_servers, targets, "read_uncommitted")
        stable = await _ends(bootstrap_servers, targets, "read_committed")
        if written != stable:
            stream.problems.append(f"{stream.name}: an open kafka_tx: {stable} of {written} can be read")
        async with asyncio.timeout(READ_TIMEOUT_S):
            async for record in _records(bootstrap_servers, stable, "read_committed"):
                stream.take(record)
            written_records = [None async for _ in _records(bootstrap_servers, stable, "read_uncommitted")]
        stream.aborted = len(written_records) - stream.told
        stream.finish()
    return events, final


async def _records(
    bootstrap_servers: str, ends: dict[TopicPartition, int], isolation_level: str
) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """Everything up to the ends, one partition after the other."""
    consumer = _consumer(bootstrap_servers, isolation_level)
    await consumer.start()
    try:
        consumer.assign(list(ends))
        await consumer.seek_to_beginning(*ends)
        for target, end in ends.items():
            while await consumer.position(target) < end:
                for records in (await consumer.getmany(target, timeout_ms=500)).values():
                    for record in records:
                        yield record
    finally:
        await consumer.stop()


async def _ends(
    bootstrap_servers: str, targets: list[TopicPartition], isolation_level: str
) -> dict[TopicPartition, int]:
    consumer = _consumer(bootstrap_servers, isolation_level)
    await consumer.start()
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(targets)
        return ends
    finally:
        await consumer.stop()


def _consumer(bootstrap_servers: str, isolation_level: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level=isolation_level,
        enable_auto_commit=False,
        auto_offset_reset="none",
    )
