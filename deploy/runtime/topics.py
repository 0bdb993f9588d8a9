"""How topics have to be configured, and what is different about those that are there. Makes and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

_TIMESTAMPS: Final = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": "9223372036854775807",  # record times are block times: chains may run ahead
}
STREAM_CONFIG: Final = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    **_TIMESTAMPS,
}
"""Of topics that keep every record for ever."""

COMPACTED_CONFIG: Final = {
    "cleanup.policy": "compact",
    "segment.bytes": "16777216",
    "min.cleanable.dirty.ratio": "0.1",
    **_TIMESTAMPS,
}
"""Of topics that keep the last record of each key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPlan:
    """How one topic has to be. Configuration that is not named keeps the broker's default."""

    name: str
    partitions: int
    config: Mapping[str, str]


async def missing_topics(client: AIOKafkaAdminClient, wanted: Sequence[TopicPlan]) -> list[TopicPlan]:
    """Those that the broker does not have. Raises aiokafka's KafkaError, as ``differences`` does."""
    existing = set(await client.list_topics())
    return [plan for plan in wanted if plan.name not in existing]


async def differences(client: AIOKafkaAdminClient, existing: Sequence[TopicPlan]) -> list[str]:
    """What is otherwise than planned, one sentence each: partitions and configuration of topics that are there."""
    if not existing:
        return []
    described: list[dict[str, Any]] = await client.describe_topics([plan.name for plan in existing])
    partitions = {topic["topic"]: len(topic["partitions"]) for topic in described}
    problems = []
    for plan in existing:
        if partitions[plan.name] != plan.partitions:
            problems.append(f"{plan.name} has {partitions[plan.name]} partitions, not {plan.partitions}; P is pinned")
        actual = await _config(client, plan)
        problems += [
            f"{plan.name} has {key}={actual.get(key)}, not {value}"
            for key, value in plan.config.items()
            if actual.get(key) != value
        ]
    return problems


async def _config(client: AIOKafkaAdminClient, plan: TopicPlan) -> dict[str, str]:
    resource = ConfigResource(ConfigResourceType.TOPIC, plan.name, configs=dict(plan.config))
    (response,) = await client.describe_configs([resource])
    (entry,) = response.resources
    return {config[0]: config[1] for config in entry[4]}
