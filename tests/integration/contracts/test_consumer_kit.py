"""The reference consumer on real topics: the same code and the same end as on the file."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from contracts import messages
from contracts.examples import check, consumer
from contracts.messages import Topics

EXAMPLES = Path(consumer.__file__).parent
EXPECTED = json.loads((EXAMPLES / "reorg.state.json").read_text())
PER_KAFKA_TX = 5


@pytest.fixture
async def topics(kafka_bootstrap: str, kafka_prefix: str) -> AsyncIterator[Topics]:
    """The fixture's records in real topics, in kafka_txs; before each a kafka_tx of an indexer that died in it."""
    topics = Topics(chain="local", prefix=kafka_prefix)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    names = [topics.events, topics.final]
    try:
        await admin.create_topics([NewTopic(name=name, num_partitions=2, replication_factor=1) for name in names])
        await publish(kafka_bootstrap, topics)
        yield topics
    finally:
        await admin.delete_topics(names)
        await admin.close()


async def publish(bootstrap: str, topics: Topics) -> None:
    lines = [json.loads(line) for line in (EXAMPLES / "reorg.ndjson").read_text().splitlines()]
    records = list({(line["topic"], line["partition"], line["offset"]): line for line in lines}.values())
    records.sort(key=lambda line: (line["topic"], line["partition"], line["offset"]))
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topics.prefix}{secrets.token_hex(4)}")
    await producer.start()
    try:
        for start in range(0, len(records), PER_KAFKA_TX):
            run = records[start : start + PER_KAFKA_TX]
            await producer.begin_transaction()
            await send(producer, topics, [foreign(record) for record in run])
            await producer.abort_transaction()
            async with producer.transaction():
                await send(producer, topics, run)
    finally:
        await producer.stop()


def foreign(record: dict[str, Any]) -> dict[str, Any]:
    """The record as it would have been on another branch: same place in the stream, other event."""
    if record["headers"]["op"] == "watermark":
        return record
    event_id = messages.event_id(chain_id=1, block_hash=bytes(32), position=record["offset"])
    return record | {"value": record["value"] | {"event_id": event_id}}


async def send(producer: AIOKafkaProducer, topics: Topics, records: list[dict[str, Any]]) -> None:
    futures = [
        await producer.send(
            topics.prefix + record["topic"],
            json.dumps(record["value"], separators=(",", ":"), ensure_ascii=False).encode(),
            key=record["key"].encode(),
            partition=record["partition"],
            headers=[(name, text.encode()) for name, text in record["headers"].items()],
        )
        for record in records
    ]
    await asyncio.gather(*futures)


async def test_the_reference_consumer_ends_in_the_same_state_on_real_topics(
    kafka_bootstrap: str, topics: Topics
) -> None:
    command = [sys.executable, str(EXAMPLES / "consumer.py"), "--kafka", kafka_bootstrap, topics.events, topics.final]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        printed, _ = await process.communicate()
    assert process.returncode == 0
    assert list(check.differences(json.loads(printed), EXPECTED)) == []


async def test_the_same_consumer_without_read_committed_does_not_pass(kafka_bootstrap: str, topics: Topics) -> None:
    consumers = consumer.Consumers()
    async with asyncio.timeout(60):
        await consumer.from_kafka(kafka_bootstrap, [topics.events, topics.final], consumers, "read_uncommitted")
    assert list(check.differences(consumers.state(), EXPECTED)) != []
