"""The services that the tests get: real, empty, and as the fixtures promise."""

from __future__ import annotations

import json
import urllib.request

import psycopg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tests.services import AnvilFactory


async def test_kafka_commits_transactions_on_topics_made_on_purpose(kafka_bootstrap: str, kafka_prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    topic = f"{kafka_prefix}probe"
    await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, transactional_id=topic)
    await producer.start()
    try:
        async with producer.transaction():
            sent = await producer.send_and_wait(topic, b"x")
        assert sent.offset == 0
    finally:
        await producer.stop()
        await admin.delete_topics([topic])
        await admin.close()


async def test_kafka_does_not_create_topics_by_itself(kafka_bootstrap: str, kafka_prefix: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, request_timeout_ms=1500, metadata_max_age_ms=500)
    await producer.start()
    try:
        with pytest.raises((KafkaError, TimeoutError)):
            await producer.send_and_wait(f"{kafka_prefix}nobody-made-this", b"x")
    finally:
        await producer.stop()


def test_postgres_superuser_makes_databases_and_roles(postgres_admin_url: str) -> None:
    with psycopg.connect(postgres_admin_url, autocommit=True) as connection:
        version, is_superuser = connection.execute(
            "SELECT current_setting('server_version_num')::int, usesuper FROM pg_user WHERE usename = current_user"
        ).fetchone() or (0, False)
    assert version >= 150000
    assert is_superuser


async def test_anvil_starts_with_the_options_asked_for_and_takes_its_port_again(anvil: AnvilFactory) -> None:
    node = await anvil(slots_in_an_epoch=1, chain_id=99)
    assert _chain_id(node.http_url) == 99
    node.stop()
    again = await anvil(port=node.port)
    assert again.http_url == node.http_url
    assert _chain_id(again.http_url) == 31337


def _chain_id(url: str) -> int:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as response:
        return int(json.load(response)["result"], 16)
