"""Looks into the stack's Kafka: which topics there are, and what one contract's events look like as they come.

Reads only, as a consumer without a group, and only what is committed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from contracts.messages import PaymentEvent, Topics, decode_event

TIMEOUT_MS: Final = 10_000
POLL_MS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicLine:
    """One topic: how many partitions, how many records between the first and the last offset."""

    name: str
    partitions: int
    records: int


async def list_topics(bootstrap_servers: str) -> list[TopicLine]:
    """Every topic but Kafka's own, by name."""
    described = await _partitions(bootstrap_servers)
    if not described:
        return []
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, request_timeout_ms=TIMEOUT_MS)
    await consumer.start()
    try:
        lines = []
        for name, count in described.items():
            partitions = [TopicPartition(name, number) for number in range(count)]
            first = await consumer.beginning_offsets(partitions)
            last = await consumer.end_offsets(partitions)
            records = sum(last[partition] - first[partition] for partition in partitions)
            lines.append(TopicLine(name=name, partitions=count, records=records))
        return lines
    finally:
        await consumer.stop()


async def tail(bootstrap_servers: str, *, contract: str, last: int, follow: bool = True) -> AsyncIterator[str]:
    """One line an event of the contract (all contracts when empty).

    The ``last`` records of each partition, then new ones.
    """
    topic = Topics(chain="local").events
    count = (await _partitions(bootstrap_servers)).get(topic, 0)
    if not count:
        yield f"there is no topic {topic} yet: chainbooks-indexer topics ensure makes it"
        return
    partitions = [TopicPartition(topic, number) for number in range(count)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=TIMEOUT_MS,
    )
    await consumer.start()
    try:
        consumer.assign(partitions)
        first, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, max(first[partition], end[partition] - last))
        while True:
            batch = await consumer.getmany(timeout_ms=POLL_MS)
            if not batch and not follow:
                return
            for records in batch.values():
                for record in records:
                    line = _line(record.value or b"", dict(record.headers))
                    if line and (not contract or dict(record.headers).get("contract") == contract.encode()):
                        yield line
    finally:
        await consumer.stop()


async def _partitions(bootstrap_servers: str) -> dict[str, int]:
    """How many partitions each topic has, Kafka's own left out; by name."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=TIMEOUT_MS)
    await admin.start()
    try:
        names = sorted(name for name in await admin.list_topics() if not name.startswith("__"))
        if not names:
            return {}
        described = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics(names)}
        return {name: described[name] for name in names}
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
