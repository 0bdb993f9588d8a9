"""Reads the state topic, and asks whether the streams hold anything.

The barrier, for the instance whose producer has started: read under read_committed up to the end offset that
read_uncommitted sees. Every kafka_tx of an older producer is ended by then, so nothing committed can still be missing.
Everybody else (standby, status) reads up to the last stable offset: whole kafka_txs, and never waits for an open one.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from aiokafka.structs import TopicPartition

from indexer.adapters.kafka_reader import PartitionReader, translated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from aiokafka.structs import ConsumerRecord

    from indexer.ports import StateRecord

TAIL_RECORDS: Final = 8  # the owner is in every kafka_tx, next to its end
TAIL_GROWTH: Final = 16
READ_THROUGH_RECORDS: Final = 16  # records between two wanted ones that are read rather than jumped over


class KafkaStateReader:
    """Reads compacted single-partition topics and end offsets of one cluster, a fetch at a time.

    ``timeout_s`` is how long nothing may come before BrokerUnavailable is raised, whatever the topic's size.
    """

    def __init__(self, *, bootstrap_servers: str, timeout_s: float = 30.0) -> None:
        self._reader = PartitionReader(bootstrap_servers=bootstrap_servers, timeout_s=timeout_s)

    async def read(self, topic: str, *, to_the_very_end: bool) -> AsyncGenerator[StateRecord, None]:
        """The records of partition 0, oldest first. Raises BrokerUnavailable, also when the end stays out of reach."""
        target = TopicPartition(topic, 0)
        with translated(f"{topic} cannot be read to its end"):
            end = await self._reader.end(target, "read_uncommitted" if to_the_very_end else "read_committed")
            async with self._reader.consumer("read_committed") as consumer:
                consumer.assign([target])
                begin = await self._reader.beginning(consumer, target)
                async for record in self._reader.between(consumer, target, begin, end):
                    yield _state_record(record)

    async def read_at(self, topic: str, offsets: Sequence[int]) -> list[StateRecord]:
        """The records of partition 0 at these offsets, as far as compaction and truncation have left them there."""
        target = TopicPartition(topic, 0)
        found: list[StateRecord] = []
        with translated(f"{topic} cannot be read again"):
            end = await self._reader.end(target, "read_committed")
            async with self._reader.consumer("read_committed") as consumer:
                consumer.assign([target])
                begin = await self._reader.beginning(consumer, target)
                for run in _runs([offset for offset in offsets if begin <= offset < end]):
                    wanted = frozenset(run)
                    records = self._reader.between(consumer, target, run[0], run[-1] + 1)
                    found += [_state_record(record) async for record in records if record.offset in wanted]
        return found

    async def latest(self, topic: str, key: str) -> bytes | None:
        """The newest committed value of a key of partition 0, read from the end backwards in growing pieces."""
        target = TopicPartition(topic, 0)
        with translated(f"{topic} cannot be read"):
            high = await self._reader.end(target, "read_committed")
            async with self._reader.consumer("read_committed") as consumer:
                consumer.assign([target])
                begin, span = await self._reader.beginning(consumer, target), TAIL_RECORDS
                while high > begin:
                    low = max(begin, high - span)
                    found: list[bytes | None] = []
                    async for record in self._reader.between(consumer, target, low, high):
                        if record.key == key.encode():
                            found = [record.value]
                    if found:
                        return found[0]
                    high, span = low, span * TAIL_GROWTH
        return None

    async def any_records(self, topic: str, partitions: int) -> bool:
        """Whether any partition holds a committed record; aborted ones are none. Raises BrokerUnavailable."""
        with translated(f"{topic} cannot be read"):
            for partition in range(partitions):
                target = TopicPartition(topic, partition)
                end = await self._reader.end(target, "read_uncommitted")
                async with self._reader.consumer("read_committed") as consumer:
                    consumer.assign([target])
                    begin = await self._reader.beginning(consumer, target)
                    async with aclosing(self._reader.between(consumer, target, begin, end)) as records:
                        async for _ in records:
                            return True
        return False


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
