"""Refuses topics that are missing or configured otherwise. The ledger never makes a topic: the indexer does."""

from __future__ import annotations

import asyncio
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from contracts.messages import Topics
from deploy.runtime.topics import COMPACTED_CONFIG, STREAM_CONFIG, TopicPlan, differences, missing_topics
from ledger.errors import BrokerUnavailable, ConfigurationRefused

TIMEOUT_S: Final = 30.0


async def check_topics(bootstrap_servers: str, topics: Topics, *, partitions: int) -> None:
    """Returns when all topics are there and as they have to be. Raises ConfigurationRefused, BrokerUnavailable."""
    wanted = [
        TopicPlan(name=topics.events, partitions=partitions, config=STREAM_CONFIG),
        TopicPlan(name=topics.rejected, partitions=partitions, config=STREAM_CONFIG),
        TopicPlan(name=topics.registry, partitions=1, config=COMPACTED_CONFIG),
    ]
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            try:
                await client.start()
                problems = await _problems(client, wanted)
            finally:
                await client.close()
    except (KafkaError, TimeoutError, OSError) as exc:
        raise BrokerUnavailable(f"Kafka's admin interface does not answer: {type(exc).__name__} {exc}") from exc
    if problems:
        raise ConfigurationRefused("topics do not fit: " + "; ".join(problems))


async def _problems(client: AIOKafkaAdminClient, wanted: list[TopicPlan]) -> list[str]:
    missing = await missing_topics(client, wanted)
    if missing:
        return [f"missing: {', '.join(plan.name for plan in missing)}; run: chainbooks-indexer topics ensure"]
    return await differences(client, wanted)
