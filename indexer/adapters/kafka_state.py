"""Reads the state topic to its very end, and asks whether the streams hold anything.

The barrier: read under read_committed up to the end offset that read_uncommitted sees. Called after the own producer
has started, every kafka_tx of an older producer is ended by then, so nothing committed can still be missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from indexer.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FETCH_WAIT_MS: Final = 250


class KafkaStateReader:
    """Reads compacted single-partition topics and end offsets of one cluster."""

    def __init__(self, *, bootstrap_servers: str, timeout_s: float = 30.0) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._timeout_s = timeout_s

    async def read(self, topic: str) -> list[tuple[str, bytes | None]]:
        """All records of partition 0, oldest first. Raises BrokerUnavailable, also when the end stays out of reach."""
        target = TopicPartition(topic, 0)
        records: list[tuple[str, bytes | None]] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                end = (await self._end_offsets([target]))[target]
                async with self._consumer("read_committed") as consumer:
                    consumer.assign([target])
                    await consumer.seek_to_beginning(target)
                    while await consumer.position(target) < end:
                        for batch in (await consumer.getmany(target, timeout_ms=FETCH_WAIT_MS)).values():
                            records += [(record.key.decode(), record.value) for record in batch]
        except (KafkaError, TimeoutError, OSError) as exc:
            raise BrokerUnavailable(f"{topic} cannot be read to its end: {type(exc).__name__} {exc}") from exc
        return records

    async def any_records(self, topic: str, partitions: int) -> bool:
        """Whether any partition of a topic has ever held a record. Raises BrokerUnavailable."""
        targets = [TopicPartition(topic, partition) for partition in range(partitions)]
        try:
            async with asyncio.timeout(self._timeout_s):
                return any((await self._end_offsets(targets)).values())
        except (KafkaError, TimeoutError, OSError) as exc:
            raise BrokerUnavailable(f"end offsets of {topic} cannot be read: {type(exc).__name__} {exc}") from exc

    async def _end_offsets(self, targets: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        async with self._consumer("read_uncommitted") as consumer:
            offsets: dict[TopicPartition, int] = await consumer.end_offsets(list(targets))
            return offsets

    @asynccontextmanager
    async def _consumer(self, isolation_level: str) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            isolation_level=isolation_level,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()
