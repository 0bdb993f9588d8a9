"""Reading partitions as they are committed: the one consumer loop of all adapters that read.

``timeout_s`` bounds each call, and how long nothing may come, whatever the topic's size.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from indexer.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator

    from aiokafka.structs import ConsumerRecord

FETCH_WAIT_MS: Final = 250

_T = TypeVar("_T")


class PartitionReader:
    """What an adapter needs to read partitions of one cluster. Errors are those of aiokafka, see ``translated``."""

    def __init__(self, *, bootstrap_servers: str, timeout_s: float) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._timeout_s = timeout_s

    async def between(
        self, consumer: AIOKafkaConsumer, target: TopicPartition, begin: int, end: int
    ) -> AsyncGenerator[ConsumerRecord[bytes, bytes | None], None]:
        """Committed records from ``begin`` up to, not including, ``end``; TimeoutError when nothing comes any more."""
        consumer.seek(target, begin)
        loop = asyncio.get_running_loop()
        position, moved_at = begin, loop.time()
        while position < end:
            batches = await consumer.getmany(target, timeout_ms=FETCH_WAIT_MS)
            for record in (record for batch in batches.values() for record in batch):
                if record.offset < end:
                    yield record
            before, position = position, await self.within(consumer.position(target))
            if position > before:
                moved_at = loop.time()
            elif loop.time() - moved_at > self._timeout_s:
                raise TimeoutError(f"stuck at offset {position} of {end}: a kafka_tx is open, or the broker is away")

    async def end(self, target: TopicPartition, isolation_level: str) -> int:
        async with self.consumer(isolation_level) as consumer:
            return int((await self.within(consumer.end_offsets([target])))[target])

    async def beginning(self, consumer: AIOKafkaConsumer, target: TopicPartition) -> int:
        return int((await self.within(consumer.beginning_offsets([target])))[target])

    async def within(self, call: Awaitable[_T]) -> _T:
        return await asyncio.wait_for(call, timeout=self._timeout_s)

    @asynccontextmanager
    async def consumer(self, isolation_level: str) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            isolation_level=isolation_level,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        try:
            await self.within(consumer.start())
            yield consumer
        finally:
            await self.within(consumer.stop())


@contextmanager
def translated(what: str) -> Iterator[None]:
    try:
        yield
    except (KafkaError, TimeoutError, OSError) as exc:
        raise BrokerUnavailable(f"{what}: {type(exc).__name__} {exc}") from exc
