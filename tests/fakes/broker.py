"""Kafka as the indexer sees it, in memory: committed kafka_txs, fencing, commits whose outcome is never learnt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from itertools import dropwhile
from typing import Literal

from indexer.core.compose import KafkaTx, OutRecord
from indexer.core.history import StreamRecord
from indexer.core.state import StateWrite, StreamKind
from indexer.errors import Fenced, PublisherLost
from indexer.ports import StateRecord

Fault = Literal["before", "after"] | None
"""A kafka_tx that fails before it is committed, or whose answer is lost after it was."""


class Broker:
    """What is committed. ``fault`` decides the fate of each kafka_tx."""

    def __init__(self) -> None:
        self.txs: list[KafkaTx] = []
        self.producers = 0
        self.fault: Callable[[], Fault] = lambda: None

    @property
    def records(self) -> list[OutRecord]:
        return [record for tx in self.txs for record in tx.records]

    @property
    def state(self) -> list[StateWrite]:
        return [write for tx in self.txs for write in tx.state]

    async def read(self, topic: str, *, to_the_very_end: bool) -> AsyncGenerator[StateRecord, None]:
        for offset, (key, value) in enumerate(self.state):
            yield offset, key, value

    async def read_at(self, topic: str, offsets: Sequence[int]) -> list[StateRecord]:
        state = self.state
        return [(offset, *state[offset]) for offset in offsets]

    async def latest(self, topic: str, key: str) -> bytes | None:
        return next((value for written, value in reversed(self.state) if written == key), None)

    async def any_records(self, topic: str, partitions: int) -> bool:
        return bool(self.records)


class Streams:
    """A StreamsPort of a Broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def read(
        self,
        kind: StreamKind,
        partitions: int,
        *,
        from_ms: int,
        to_the_very_end: bool,
        take: Callable[[StreamRecord], None],
    ) -> None:
        for partition in range(partitions):
            records = [r for r in self._broker.records if r.topic == kind and r.partition == partition]
            for record in dropwhile(lambda r: r.timestamp_ms < from_ms, records):
                headers = dict(record.headers)
                take(
                    StreamRecord(
                        topic=kind,
                        partition=partition,
                        stream_id=headers["stream_id"].decode(),
                        stream_seq=int(headers["stream_seq"]),
                        value=record.value,
                    )
                )


class Producer:
    """A PublisherPort of a Broker: the newest one that was opened fences the others."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._number = 0

    async def open(self) -> None:
        self._broker.producers += 1
        self._number = self._broker.producers

    async def publish(self, tx: KafkaTx) -> Sequence[int]:
        await asyncio.sleep(0)
        if self._number != self._broker.producers:
            raise Fenced("a newer producer has the transactional id")
        fault = self._broker.fault()
        if fault == "before":
            raise PublisherLost("the kafka_tx was aborted")
        first = len(self._broker.state)
        self._broker.txs.append(tx)
        if fault == "after":
            raise PublisherLost("the answer to the commit was lost")
        return range(first, first + len(tx.state))

    async def close(self) -> None:
        """Nothing to close."""
