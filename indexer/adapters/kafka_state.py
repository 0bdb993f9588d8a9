"""Reads the state topic, and asks whether the streams hold anything.

The barrier, for the instance whose producer has started: read under read_committed up to the end offset that
read_uncommitted sees. Every kafka_tx of an older producer is ended by then, so nothing committed can still be missing.
Everybody else (standby, status) reads up to the last stable offset: whole kafka_txs, and never waits for an open one.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from indexer.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Sequence

    from aiokafka.structs import ConsumerRecord

    from indexer.ports import StateRecord

FETCH_WAIT_MS: Final = 250
TAIL_RECORDS: Final = 8  # the owner is in every kafka_tx, next to its end
TAIL_GROWTH: Final = 16
READ_THROUGH_RECORDS: Final = 16  # records between two wanted ones that are read rather than jumped over

_T = TypeVar("_T")


class KafkaStateReader:
    """Reads compacted single-partition topics and end offsets of one cluster, a fetch at a time.

    ``timeout_s`` is how long nothing may come before BrokerUnavailable is raised, whatever the topic's size.
    """

    def __init__(self, *, bootstrap_servers: str, timeout_s: float = 30.0) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._timeout_s = timeout_s

    async def read(self, topic: str, *, to_the_very_end: bool) -> AsyncGenerator[StateRecord, None]:
        """The records of partition 0, oldest first. Raises BrokerUnavailable, also when the end stays out of reach."""
        target = TopicPartition(topic, 0)
        with _translated(f"{topic} cannot be read to its end"):
            end = await self._end(target, "read_uncommitted" if to_the_very_end else "read_committed")
            async with self._consumer("read_committed") as consumer:
                consumer.assign([target])
                begin = await self._beginning(consumer, target)
                async for record in self._between(consumer, target, begin, end):
                    yield _state_record(record)

    async def read_at(self, topic: str, offsets: Sequence[int]) -> list[StateRecord]:
        """The records of partition 0 at these offsets, as far as compaction and truncation have left them there."""
        target = TopicPartition(topic, 0)
        found: list[StateRecord] = []
        with _translated(f"{topic} cannot be read again"):
            end = await self._end(target, "read_committed")
            async with self._consumer("read_committed") as consumer:
                consumer.assign([target])
                begin = await self._beginning(consumer, target)
                for run in _runs([offset for offset in offsets if begin <= offset < end]):
                    wanted = frozenset(run)
                    records = self._between(consumer, target, run[0], run[-1] + 1)
                    found += [_state_record(record) async for record in records if record.offset in wanted]
        return found

    async def latest(self, topic: str, key: str) -> bytes | None:
        """The newest committed value of a key of partition 0, read from the end backwards in growing pieces."""
        target = TopicPartition(topic, 0)
        with _translated(f"{topic} cannot be read"):
            high = await self._end(target, "read_committed")
            async with self._consumer("read_committed") as consumer:
                consumer.assign([target])
                begin, span = await self._beginning(consumer, target), TAIL_RECORDS
                while high > begin:
                    low = max(begin, high - span)
                    found: list[bytes | None] = []
                    async for record in self._between(consumer, target, low, high):
                        if record.key == key.encode():
                            found = [record.value]
                    if found:
                        return found[0]
                    high, span = low, span * TAIL_GROWTH
        return None

    async def any_records(self, topic: str, partitions: int) -> bool:
        """Whether any partition holds a committed record; aborted ones are none. Raises BrokerUnavailable."""
        with _translated(f"{topic} cannot be read"):
            for partition in range(partitions):
                target = TopicPartition(topic, partition)
                end = await self._end(target, "read_uncommitted")
                async with self._consumer("read_committed") as consumer:
                    consumer.assign([target])
                    begin = await self._beginning(consumer, target)
                    async with aclosing(self._between(consumer, target, begin, end)) as records:
                        async for _ in records:
                            return True
        return False

    async def _between(
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
            before, position = position, await self._within(consumer.position(target))
            if position > before:
                moved_at = loop.time()
            elif loop.time() - moved_at > self._timeout_s:
                raise TimeoutError(f"stuck at offset {position} of {end}: a kafka_tx is open, or the broker is away")

    async def _end(self, target: TopicPartition, isolation_level: str) -> int:
        async with self._consumer(isolation_level) as consumer:
            return int((await self._within(consumer.end_offsets([target])))[target])

    async def _beginning(self, consumer: AIOKafkaConsumer, target: TopicPartition) -> int:
        return int((await self._within(consumer.beginning_offsets([target])))[target])

    async def _within(self, call: Awaitable[_T]) -> _T:
        return await asyncio.wait_for(call, timeout=self._timeout_s)

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
            await self._within(consumer.start())
            yield consumer
        finally:
            await self._within(consumer.stop())


def _state_record(record: ConsumerRecord[bytes, bytes | None]) -> StateRecord:
    return record.offset, record.key.decode(), record.value


def _runs(offsets: Sequence[int]) -> Iterator[list[int]]:
    """Ascending offsets cut where it is better to jump than to read through."""
    run: list[int] = []
    for offset in offsets:
        if run and offset - run[-1] > READ_THROUGH_RECORDS:
            yield run
            run = []
        run.append(offset)
    if run:
        yield run


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except (KafkaError, TimeoutError, OSError) as exc:
        raise BrokerUnavailable(f"{what}: {type(exc).__name__} {exc}") from exc
