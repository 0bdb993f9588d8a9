"""Looks into the stack's Kafka: which topics there are, and what one contract's events look like as they come.

Reads only, as a consumer without a group, and only what is committed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from contracts.messages import PaymentEvent, Topics, decode_event, decode_registry_record
from deploy.local.failure import LocalError

TIMEOUT_MS: Final = 10_000
POLL_MS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicLine:
    """One topic: how many partitions, how many offsets from the first to the last.

    Records are fewer: the marker that ends a kafka_tx takes an offset in every partition that it touched.
    """

    name: str
    partitions: int
    offsets: int


async def list_topics(bootstrap_servers: str, *, prefix: str = "") -> list[TopicLine]:
    """Every topic that begins with the prefix, by name; Kafka's own are left out."""
    counts = {name: n for name, n in (await _partitions(bootstrap_servers)).items() if name.startswith(prefix)}
    if not counts:
        return []
    partitions = {name: [TopicPartition(name, number) for number in range(count)] for name, count in counts.items()}
    async with _reader(bootstrap_servers) as consumer:
        asked = [partition for of_topic in partitions.values() for partition in of_topic]
        first, last = await consumer.beginning_offsets(asked), await consumer.end_offsets(asked)
    return [
        TopicLine(name=name, partitions=len(each), offsets=sum(last[p] - first[p] for p in each))
        for name, each in partitions.items()
    ]


async def tail(
    bootstrap_servers: str, topics: Topics, *, contract: str = "", last: int | None = None, follow: bool = True
) -> AsyncIterator[str]:
    """One line an event of the contract (all contracts when empty).

    The ``last`` offsets of each partition (all without it), then new ones. Raises LocalError when there is no such
    topic, or no description of that name.
    """
    counts = await _partitions(bootstrap_servers)
    if topics.events not in counts:
        raise LocalError(f"there is no topic {topics.events} yet", do="chainbooks-indexer topics ensure makes it")
    async with _reader(bootstrap_servers) as consumer:
        if contract:
            _check_name(contract, await _described(consumer, topics.registry) if topics.registry in counts else ())
        partitions = [TopicPartition(topics.events, number) for number in range(counts[topics.events])]
        consumer.assign(partitions)
        first, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, first[partition] if last is None else max(first[partition], end[partition] - last))
        while (batch := await consumer.getmany(timeout_ms=POLL_MS)) or follow:
            for records in batch.values():
                for record in records:
                    line = _line(record.value or b"", dict(record.headers))
                    if line and (not contract or dict(record.headers).get("contract") == contract.encode()):
                        yield line


@asynccontextmanager
async def _reader(bootstrap_servers: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group, of what is committed."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=TIMEOUT_MS,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _described(consumer: AIOKafkaConsumer, registry: str) -> set[str]:
    """Names of the descriptions that the indexer has published."""
    partition = TopicPartition(registry, 0)
    consumer.assign([partition])
    end = (await consumer.end_offsets([partition]))[partition]
    names: set[str] = set()
    while await consumer.position(partition) < end:
        for record in (await consumer.getmany(partition, timeout_ms=POLL_MS)).get(partition, ()):
            if record.value is not None:
                names.add(decode_registry_record(record.value).contract)
    return names


def _check_name(contract: str, names: Collection[str]) -> None:
    if contract in names:
        return
    there = (
        f"there are: {', '.join(sorted(names))}" if names else "none is published yet: chainbooks-indexer run does it"
    )
    raise LocalError(f"no description is called {contract!r}", why=there, do="make tail without CONTRACT shows all")


async def _partitions(bootstrap_servers: str) -> dict[str, int]:
    """How many partitions each topic has, Kafka's own left out; by name."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=TIMEOUT_MS)
    await admin.start()
    try:
        names = sorted(name for name in await admin.list_topics() if not name.startswith("__"))
        if not names:
            return {}
        described = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics(names)}
        return {name: described[name] for name in names if described.get(name)}  # one may just have been deleted
    finally:
        await admin.close()


def _line(value: bytes, headers: dict[str, bytes]) -> str:
    if headers.get("op") == b"watermark":
        return ""
    try:
        event = decode_event(value)
    except msgspec.DecodeError as exc:
        return f"unreadable record: {exc}"
    return format_event(event)


def format_event(event: PaymentEvent) -> str:
    """One line: block, operation, contract, event, subject, amounts in base units."""
    amounts = ", ".join(f"{amount.arg}={amount.base_units} {amount.symbol or amount.asset}" for amount in event.amounts)
    return f"{event.block_number:>8} {event.op:<9} {event.contract}.{event.event} {event.subject} {amounts}".rstrip()
