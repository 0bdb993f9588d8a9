"""Reads the published streams back, from the time of a block on: every record of a block carries that block's time.

The broker is asked for the first record at or after a time, so everything before it is older. Reading ends at the end
offset that was there when it began: under read_uncommitted for the instance whose producer has started (nothing
undecided is left behind it), else at the last stable one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from contracts.messages import Topics
from indexer.adapters.kafka_reader import PartitionReader, translated
from indexer.core.history import StreamRecord
from indexer.core.state import StreamKind
from indexer.errors import StateRefused

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord


class KafkaStreamsReader:
    """Reads the streams of one chain."""

    def __init__(self, *, bootstrap_servers: str, topics: Topics, timeout_s: float = 30.0) -> None:
        self._reader = PartitionReader(bootstrap_servers=bootstrap_servers, timeout_s=timeout_s)
        self._names: dict[StreamKind, str] = {
            "events": topics.events,
            "final": topics.final,
            "rejected": topics.rejected,
        }

    async def read(
        self,
        kind: StreamKind,
        partitions: int,
        *,
        from_ms: int,
        to_the_very_end: bool,
        take: Callable[[StreamRecord], None],
    ) -> None:
        """Partition by partition, oldest first. Raises BrokerUnavailable; StateRefused when records were deleted."""
        isolation_level = "read_uncommitted" if to_the_very_end else "read_committed"
        with translated(f"{self._names[kind]} cannot be read back"):
            for partition in range(partitions):
                target = TopicPartition(self._names[kind], partition)
                end = await self._reader.end(target, isolation_level)
                async with self._reader.consumer("read_committed") as consumer:
                    consumer.assign([target])
                    start = await self._start(consumer, target, end, from_ms)
                    async for record in self._reader.between(consumer, target, start, end):
                        take(_stream_record(kind, record))

    async def _start(self, consumer: AIOKafkaConsumer, target: TopicPartition, end: int, from_ms: int) -> int:
        """The first offset to read. What was cut off before the topic's first record may be needed, too."""
        first = await self._reader.beginning(consumer, target)
        start = first
        if from_ms > 0:
            found = (await self._reader.within(consumer.offsets_for_times({target: from_ms})))[target]
            start = end if found is None else int(found.offset)
        if first > 0 and start <= first:
            raise StateRefused(
                f"{target.topic}, partition {target.partition} begins at offset {first}: older records were deleted, "
                "and they are needed to know what has to be revoked. Restore the topic"
            )
        return start


def _stream_record(kind: StreamKind, record: ConsumerRecord[bytes, bytes | None]) -> StreamRecord:
    headers = dict(record.headers)
    try:
        return StreamRecord(
            topic=kind,
            partition=record.partition,
            stream_id=headers["stream_id"].decode(),
            stream_seq=int(headers["stream_seq"]),
            value=record.value or b"",
        )
    except (KeyError, ValueError) as exc:
        raise StateRefused(
            f"{record.topic}, partition {record.partition}, offset {record.offset} has no usable stream headers: {exc}"
        ) from exc
