"""Reads partitions from offset to offset with assign(): no group, no rebalance, nothing committed anywhere.

What is read is what a read_committed consumer sees: ends are last stable offsets, aborted records never appear.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from ledger.core.records import Record
from ledger.errors import BrokerUnavailable
from ledger.ports import OffsetsLost, Partition

CALL_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 2.0
STALL_MAX_S: Final = 60.0
FETCH_WAIT_MS: Final = 250


class KafkaReader:
    """Implements ``ledger.ports.ReaderPort`` on aiokafka; one consumer a read."""

    def __init__(self, *, bootstrap_servers: str, client_id: str, fetch_bytes_max: int) -> None:
        self._settings: dict[str, Any] = {
            "bootstrap_servers": bootstrap_servers,
            "client_id": client_id,
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "fetch_max_wait_ms": FETCH_WAIT_MS,
            "max_partition_fetch_bytes": fetch_bytes_max,
        }

    async def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """See ReaderPort."""
        wanted = [TopicPartition(*partition) for partition in partitions]
        async with self._consumer() as consumer, _answering("end offsets cannot be read"):
            found = await consumer.end_offsets(wanted)
        return {Partition(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def read(self, partition: Partition, from_offset: int, to_offset: int) -> AsyncIterator[Sequence[Record]]:
        """See ReaderPort."""
        target = TopicPartition(*partition)
        if from_offset >= to_offset:
            return
        async with self._consumer() as consumer:
            consumer.assign([target])
            consumer.seek(target, from_offset)
            position, moved_at = from_offset, time.monotonic()
            while position < to_offset:
                records, now = await _poll(consumer, target)
                if now != position:
                    position, moved_at = now, time.monotonic()
                elif time.monotonic() - moved_at > STALL_MAX_S:
                    raise BrokerUnavailable(f"{partition.topic}/{partition.number} is not read on from {position}")
                wanted = [record for record in records if record.offset < to_offset]
                if wanted:
                    yield wanted

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(**self._settings)
        try:
            async with _answering("Kafka cannot be reached"):
                await consumer.start()
            yield consumer
        finally:
            await _stop(consumer)


async def _poll(consumer: AIOKafkaConsumer, target: TopicPartition) -> tuple[list[Any], int]:
    """Records, and where the consumer stands after them: commit markers count, too."""
    try:
        async with _answering("Kafka cannot be read"):
            records: list[Any] = (await consumer.getmany(target, timeout_ms=FETCH_WAIT_MS)).get(target, [])
            return records, await consumer.position(target)
    except OffsetOutOfRangeError as exc:
        raise OffsetsLost({Partition(target.topic, target.partition): exc.args[0][target]}) from exc


@asynccontextmanager
async def _answering(doing: str) -> AsyncIterator[None]:
    """aiokafka's errors as ours; whatever does not come back in time is unavailable."""
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            yield
    except OffsetOutOfRangeError:
        raise
    except (KafkaError, TimeoutError, OSError) as exc:
        raise BrokerUnavailable(f"{doing}: {type(exc).__name__} {exc}") from exc


async def _stop(consumer: AIOKafkaConsumer) -> None:
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await consumer.stop()
    except (KafkaError, TimeoutError, OSError):
        return
