"""Makes the topics of a chain, refuses those that are configured otherwise (``chainbooks-indexer topics ensure``)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from contracts.messages import Topics
from indexer.errors import BrokerUnavailable, ConfigurationRefused

TIMESTAMPS: Final = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": "9223372036854775807",  # record times are block times: chains may run ahead
}
STREAM_CONFIG: Final = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    **TIMESTAMPS,
}
COMPACTED_CONFIG: Final = {
    "cleanup.policy": "compact",
    "segment.bytes": "16777216",
    "min.cleanable.dirty.ratio": "0.1",
    **TIMESTAMPS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPlan:
    """How one topic has to be. Configuration that is not named keeps the broker's default."""

    name: str
    partitions: int
    config: Mapping[str, str]


def plans(topics: Topics, *, partitions: int) -> list[TopicPlan]:
    """Every topic that the indexer of a chain uses."""
    streams = (topics.events, topics.final, topics.rejected, topics.replay)
    compacted = (topics.state, topics.registry)
    return [
        *(TopicPlan(name=name, partitions=partitions, config=STREAM_CONFIG) for name in streams),
        TopicPlan(name=topics.control, partitions=1, config=STREAM_CONFIG),
        *(TopicPlan(name=name, partitions=1, config=COMPACTED_CONFIG) for name in compacted),
    ]


class KafkaTopics:
    """The admin client's part: create, describe, compare."""

    def __init__(self, *, bootstrap_servers: str, replication_factor: int, timeout_s: float = 30.0) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._replication_factor = replication_factor
        self._timeout_s = timeout_s

    async def ensure(self, wanted: list[TopicPlan]) -> list[str]:
        """Creates what is missing and returns its names. Raises ConfigurationRefused, BrokerUnavailable."""
        return await self._admin(wanted, create=True)

    async def check(self, wanted: list[TopicPlan]) -> None:
        """Refuses missing and differing topics. Raises ConfigurationRefused, BrokerUnavailable."""
        await self._admin(wanted, create=False)

    async def _admin(self, wanted: list[TopicPlan], *, create: bool) -> list[str]:
        client = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap_servers)
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    await client.start()
                    existing = set(await client.list_topics())
                    missing = [plan for plan in wanted if plan.name not in existing]
                    if missing and not create:
                        names = ", ".join(plan.name for plan in missing)
                        raise ConfigurationRefused(
                            f"topics are missing: {names}; run: chainbooks-indexer topics ensure"
                        )
                    await self._create(client, missing)
                    await self._compare(client, [plan for plan in wanted if plan.name in existing])
                    return [plan.name for plan in missing]
                finally:
                    await client.close()
        except (KafkaError, TimeoutError, OSError) as exc:
            raise BrokerUnavailable(f"Kafka's admin interface does not answer: {type(exc).__name__} {exc}") from exc

    async def _create(self, client: AIOKafkaAdminClient, missing: list[TopicPlan]) -> None:
        if not missing:
            return
        response = await client.create_topics(
            [
                NewTopic(
                    name=plan.name,
                    num_partitions=plan.partitions,
                    replication_factor=self._replication_factor,
                    topic_configs=dict(plan.config),
                )
                for plan in missing
            ]
        )
        for name, code, *rest in response.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise ConfigurationRefused(f"topic {name} cannot be made: {error.__name__} {' '.join(map(str, rest))}")

    async def _compare(self, client: AIOKafkaAdminClient, existing: list[TopicPlan]) -> None:
        if not existing:
            return
        described: list[dict[str, Any]] = await client.describe_topics([plan.name for plan in existing])
        partitions = {topic["topic"]: len(topic["partitions"]) for topic in described}
        problems = []
        for plan in existing:
            if partitions[plan.name] != plan.partitions:
                problems.append(f"{plan.name} has {partitions[plan.name]} partitions, not {plan.partitions}")
            actual = await self._config(client, plan)
            problems += [
                f"{plan.name} has {key}={actual.get(key)}, not {value}"
                for key, value in plan.config.items()
                if actual.get(key) != value
            ]
        if problems:
            raise ConfigurationRefused("topics are configured otherwise: " + "; ".join(problems))

    async def _config(self, client: AIOKafkaAdminClient, plan: TopicPlan) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, plan.name, configs=dict(plan.config))
        (response,) = await client.describe_configs([resource])
        (entry,) = response.resources
        return {config[0]: config[1] for config in entry[4]}
