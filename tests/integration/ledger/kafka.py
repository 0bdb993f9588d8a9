"""Topics and a transactional producer for the ledger's tests: what the indexer would have published."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from contracts.messages import Topics, encode
from deploy.runtime.topics import COMPACTED_CONFIG, STREAM_CONFIG
from tests.unit.ledger.story import Raw, Story, registry


async def make_topics(bootstrap: str, topics: Topics, *, partitions: int, config: dict[str, str] | None = None) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        wanted = [(name, partitions, STREAM_CONFIG | (config or {})) for name in (topics.events, topics.rejected)]
        wanted.append((topics.registry, 1, COMPACTED_CONFIG))
        await admin.create_topics(
            [
                NewTopic(name=name, num_partitions=count, replication_factor=1, topic_configs=settings)
                for name, count, settings in wanted
            ]
        )
    finally:
        await admin.close()


async def drop_topics(bootstrap: str, topics: Topics) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topics.events, topics.rejected, topics.registry])
    finally:
        await admin.close()


@dataclass(slots=True)
class Publisher:
    """Sends records in kafka_txs."""

    producer: AIOKafkaProducer
    topics: Topics
    sent: int = 0
    sent_rejected: int = 0

    async def descriptions(self) -> None:
        """Every description of the stories onto the registry topic."""
        async with self.producer.transaction():
            await asyncio.gather(
                *[
                    await self.producer.send(self.topics.registry, encode(record), key=record.version.encode())
                    for record in registry().records()
                ]
            )

    async def publish(self, story: Story) -> None:
        """What the story has told since the last call, in one kafka_tx."""
        await self.send(self.topics.events, story.records[self.sent :])
        await self.send(self.topics.rejected, story.rejected[self.sent_rejected :])
        self.sent, self.sent_rejected = len(story.records), len(story.rejected)

    async def send(self, topic: str, records: Sequence[Raw], *, per_tx: int = 2_000) -> None:
        for start in range(0, len(records), per_tx):
            async with self.producer.transaction():
                futures: list[Any] = [
                    await self.producer.send(topic, r.value, key=r.key, partition=r.partition, headers=list(r.headers))
                    for r in records[start : start + per_tx]
                ]
                await asyncio.gather(*futures)


@asynccontextmanager
async def publishing(bootstrap: str, topics: Topics) -> AsyncIterator[Publisher]:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, transactional_id=f"{topics.prefix}test-{secrets.token_hex(4)}", acks="all"
    )
    await producer.start()
    try:
        yield Publisher(producer=producer, topics=topics)
    finally:
        await producer.stop()
