"""Makes the topics of a chain, refuses those that are configured otherwise (``chainbooks-indexer topics ensure``)."""

from __future__ import annotations

import asyncio

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from contracts.messages import Topics
from deploy.runtime.topics import COMPACTED_CONFIG, STREAM_CONFIG, TopicPlan, differences, missing_topics
from indexer.errors import BrokerUnavailable, ConfigurationRefused


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
                    missing = await missing_topics(client, wanted)
                    if missing and not create:
                        names = ", ".join(plan.name for plan in missing)
                        raise ConfigurationRefused(
                            f"topics are missing: {names}; run: chainbooks-indexer topics ensure"
                        )
                    await self._create(client, missing)
                    problems = await differences(client, [plan for plan in wanted if plan not in missing])
                    if problems:
                        raise ConfigurationRefused("topics are configured otherwise: " + "; ".join(problems))
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
