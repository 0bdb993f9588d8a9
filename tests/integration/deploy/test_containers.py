"""The stack and the tests' services as containers: proved wherever a Docker engine answers.

The usual images are used where they can be pulled, else images that are built here from this machine's own parts.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local import compose, engine
from deploy.runtime.settings import ChainSettings, KafkaSettings, PostgresSettings, ServiceSettings, load
from tests.integration.deploy import local_images
from tests.integration.deploy.local_command import LocalCommand, local_command
from tests.services import KAFKA_IMAGE, POSTGRES_IMAGE, kafka_container, postgres_container


class Settings(ServiceSettings):
    chain: ChainSettings
    kafka: KafkaSettings
    postgres: PostgresSettings


@pytest.fixture(scope="module", autouse=True)
def an_engine() -> None:
    reason = engine.why_no_engine()
    if reason:
        pytest.skip(f"the container path is not proved in this run: {reason}")


@pytest.fixture
def command(tmp_path: Path) -> Iterator[LocalCommand]:
    environment = {"COMPOSE_PROJECT_NAME": f"chainbooks-test-{secrets.token_hex(4)}"}
    if compose.why_not() is not None:  # no registry answers
        tags = local_images.build()
        environment |= {f"CHAINBOOKS_{part.upper()}_IMAGE": tag for part, tag in tags.items()}
    command = local_command(tmp_path / ".local", **environment)
    yield command
    done = command.run("clean")
    assert done.returncode == 0, done.stderr


async def test_the_stack_starts_as_containers_and_goes_on_where_it_was(command: LocalCommand) -> None:
    up = command.run("up")
    assert up.returncode == 0, up.stderr
    assert "starting containers" in up.stderr
    settings = load(Settings, command.folder / "chainbooks.toml")
    await commit_a_record(settings.kafka.bootstrap_servers, topic="kept")
    owner_dsn = settings.postgres.owner_dsn
    assert owner_dsn is not None
    with psycopg.connect(owner_dsn.get_secret_value(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (value INT)")
        connection.execute("CREATE ROLE chainbooks_writer LOGIN")
    with psycopg.connect(settings.postgres.dsn.get_secret_value()):
        pass
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres@127.0.0.1:{command.port('POSTGRES_PORT')}/chainbooks")

    status = command.run("status")
    assert (status.returncode, status.stdout.count("container")) == (0, 3)
    assert "=== kafka" in command.run("logs").stdout
    assert command.run("down").returncode == 0
    assert command.run("status").returncode == 3

    again = command.run("up")
    assert again.returncode == 0, again.stderr
    assert command.run("topics").stdout.split()[0] == "kept"
    with psycopg.connect(owner_dsn.get_secret_value()) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


async def test_the_tests_get_a_broker_that_commits_transactions_from_testcontainers() -> None:
    image = KAFKA_IMAGE if engine.why_no_images([KAFKA_IMAGE]) is None else local_images.build()["kafka"]
    with kafka_container(image) as bootstrap_servers:
        await commit_a_record(bootstrap_servers, topic="made-on-purpose")


def test_the_tests_get_a_superuser_from_testcontainers() -> None:
    image = POSTGRES_IMAGE if engine.why_no_images([POSTGRES_IMAGE]) is None else local_images.build()["postgres"]
    with postgres_container(image) as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE made_on_purpose")
        assert connection.execute("SELECT usesuper FROM pg_user WHERE usename = current_user").fetchone() == (True,)


async def commit_a_record(bootstrap_servers: str, *, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, transactional_id=topic)
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"x")
    finally:
        await producer.stop()
