"""Reads the state topic, and asks whether the streams hold anything.

The barrier, for the instance whose producer has started: read under read_committed up to the end offset that
read_uncommitted sees. Every kafka_tx of an older producer is ended by then, so nothing committed can still be missing.
Everybody else (standby, status) reads up to the last stable offset: whole kafka_txs, and never waits for an open one.
"""

from __future__ import annotations

import asyncio
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

    async def read(self, topic: str, *, to_the_very_end: bool) -> list[tuple[str, bytes | None]]:
        """The records of partition 0, oldest first. Raises BrokerUnavailable, also when the end stays out of reach."""
        target = TopicPartition(topic, 0)
        try:
            async with asyncio.timeout(self._timeout_s):
                end = await self._end(target, "read_uncommitted" if to_the_very_end else "read_committed")
                return [record async for record in self._committed(target, end)]
        except (KafkaError, TimeoutError, OSError) as exc:
            raise BrokerUnavailable(f"{topic} cannot be read to its end: {type(exc).__name__} {exc}") from exc

    async def any_records(self, topic: str, partitions: int) -> bool:
        """Whether any partition holds a committed record; aborted ones are none. Raises BrokerUnavailable."""
        try:
            async with asyncio.timeout(self._timeout_s):
                for partition in range(partitions):
                    target = TopicPartition(topic, partition)
                    end = await self._end(target, "read_uncommitted")
                    async for _ in self._committed(target, end):
                        return True
                return False
        except (KafkaError, TimeoutError, OSError) as exc:
            raise BrokerUnavailable(f"{topic} cannot be read: {type(exc).__name__} {exc}") from exc

    async def _committed(self, target: TopicPartition, end: int) -> AsyncIterator[tuple[str, bytes | None]]:
        async with self._consumer("read_committed") as consumer:
            consumer.assign([target])
            await consumer.seek_to_beginning(target)
            while await consumer.position(target) < end:
                for batch in (await consumer.getmany(target, timeout_ms=FETCH_WAIT_MS)).values():
                    for record in batch:
                        if record.offset < end:
                            yield record.key.decode(), record.value

    async def _end(self, target: TopicPartition, isolation_level: str) -> int:
        async with self._consumer(isolation_level) as consumer:
            return int((await consumer.end_offsets([target]))[target])

    @asynccontextmanager
    async def _consumer(self, isolation_level: str) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            isolation_level=isolation_level,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()
