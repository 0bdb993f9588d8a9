"""Refuses topics that are missing or configured otherwise. The ledger never makes a topic: the indexer does."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from contracts.messages import Topics
from ledger.errors import BrokerUnavailable, ConfigurationRefused

STREAM_CONFIG: Final = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
COMPACTED_CONFIG: Final = {"cleanup.policy": "compact"}
TIMEOUT_S: Final = 30.0


async def check_topics(bootstrap_servers: str, topics: Topics, *, partitions: int) -> None:
    """Returns when all topics are there and as they have to be. Raises ConfigurationRefused, BrokerUnavailable."""
    wanted = {
        topics.events: (partitions, STREAM_CONFIG),
        topics.rejected: (partitions, STREAM_CONFIG),
        topics.registry: (1, COMPACTED_CONFIG),
    }
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await client.start()
            try:
                problems = await _problems(client, wanted)
            finally:
                await client.close()
    except (KafkaError, TimeoutError, OSError) as exc:
        raise BrokerUnavailable(f"Kafka's admin interface does not answer: {type(exc).__name__} {exc}") from exc
    if problems:
        raise ConfigurationRefused("topics do not fit: " + "; ".join(problems))


async def _problems(client: AIOKafkaAdminClient, wanted: dict[str, tuple[int, dict[str, str]]]) -> list[str]:
    existing = set(await client.list_topics())
    missing = [name for name in wanted if name not in existing]
    if missing:
        return [f"missing: {', '.join(missing)}; run: chainbooks-indexer topics ensure"]
    described: list[dict[str, Any]] = await client.describe_topics(list(wanted))
    counts = {topic["topic"]: len(topic["partitions"]) for topic in described}
    problems = []
    for name, (partitions, config) in wanted.items():
        if counts[name] != partitions:
            problems.append(f"{name} has {counts[name]} partitions, not {partitions}; P is pinned")
        resource = ConfigResource(ConfigResourceType.TOPIC, name, configs=config)
        (response,) = await client.describe_configs([resource])
        (entry,) = response.resources
        actual = {item[0]: item[1] for item in entry[4]}
        problems += [f"{name} has {k}={actual.get(k)}, not {v}" for k, v in config.items() if actual.get(k) != v]
    return problems
