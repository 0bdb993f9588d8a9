"""Kafka or Postgres away, at the start and in the middle; two instances; killed: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contracts.messages import Topics
from deploy.local import ports
from deploy.local.daemon import Daemon
from deploy.local.native import server
from deploy.local.native.kafka import Kafka
from deploy.local.paths import layout
from tests.integration.ledger.database import Books, Database, with_database
from tests.integration.ledger.kafka import Publisher, drop_topics, make_topics, publishing
from tests.integration.ledger.service import Service
from tests.unit.ledger.fake_store import Shelf
from tests.unit.ledger.folding import fold_into
from tests.unit.ledger.random_story import random_story
from tests.unit.ledger.story import CHAIN, Story, deposit


async def expected(story: Story) -> dict[tuple[str, str], int]:
    """The balances of the model."""
    shelf = Shelf()
    await fold_into(shelf, [story.records])
    return shelf.balances()


async def folded(service: Service, story: Story, *, partition: int = 0) -> None:
    """Waits until everything that was told is in the books."""
    books = Books(service.database)
    seq = len(story.of(partition))

    async def reached() -> bool:
        sql = "SELECT stream_seq::INT FROM ledger.stream WHERE kind = 'events' AND partition = $1"
        return await books.rows(sql, partition) == [(seq,)]

    await service.until(f"{seq} records folded", reached)


async def said(service: Service, text: str, number: int = -1) -> None:
    async def holds() -> bool:
        return text in service.log(number)

    await service.until(f"the log says {text!r}", holds)


async def test_killed_at_any_moment_and_started_again_the_books_are_whole(
    service: Service, publisher: Publisher
) -> None:
    story = random_story(21, blocks=30)
    process = await service.start(LEDGER__BATCH_RECORDS_MAX="7", LEDGER__INSTANCE_ID="one")
    await publisher.publish(story)
    books = Books(service.database)

    async def begun() -> bool:
        return (await books.rows("SELECT stream_seq::INT FROM ledger.stream WHERE kind = 'events'")) > [(20,)]

    for _ in range(2):
        await service.until("some batches", begun)
        await service.stop(process, signal.SIGKILL)
        process = await service.start(LEDGER__BATCH_RECORDS_MAX="7", LEDGER__INSTANCE_ID="one")
    await folded(service, story)
    assert await books.balances() == await expected(story)
    assert await service.stop(process) == 0


async def test_sigterm_ends_within_five_seconds_also_while_nothing_is_there(
    service: Service, publisher: Publisher
) -> None:
    del publisher
    away = await service.start(KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:9")
    await said(service, "waiting")
    status, body = await service.ready()
    assert status == 503
    assert any("waiting for kafka" in reason for reason in body["reasons"]), body
    async with asyncio.timeout(5):
        assert await service.stop(away) == 0


async def test_a_dependency_that_stays_away_is_exit_code_three(service: Service) -> None:
    process = await service.start(KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:9", LEDGER__START_TIMEOUT_S="0.5")
    assert await asyncio.wait_for(process.wait(), 30) == 3
    assert "a dependency stayed away too long" in service.log()
    assert "Traceback" not in service.log()
    process = await service.start(POSTGRES__DSN="postgresql://nobody@127.0.0.1:9/x", LEDGER__START_TIMEOUT_S="0.5")
    assert await asyncio.wait_for(process.wait(), 30) == 3
    assert service.log().count("waiting") == 1  # one line a stage


async def test_postgres_away_in_the_middle(service: Service, publisher: Publisher) -> None:
    """The database refuses and drops its connections for a while: records wait in Kafka, and are folded after."""
    story = random_story(22, blocks=20)
    process = await service.start()
    await publisher.publish(story)
    await folded(service, story)
    name = service.database.name
    admin = Books(Database(name="postgres", admin=with_database(service.database.admin, "postgres")))
    await admin.rows(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await admin.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    story.block(deposit(1, 77))
    await publisher.publish(story)
    await said(service, "waiting")
    status, _ = await service.ready()
    assert status == 503
    await admin.rows(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await folded(service, story)
    assert await Books(service.database).balances() == await expected(story)
    await service.until("ready again", lambda: _ready(service))
    assert await service.stop(process) == 0


async def test_lost_connections_are_replaced_without_a_word_to_kafka(service: Service, publisher: Publisher) -> None:
    story = random_story(23, blocks=10)
    process = await service.start()
    await publisher.publish(story)
    await folded(service, story)
    for _ in range(3):
        await Books(service.database).rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'chainbooks-ledger%'"
        )
        story.block(deposit(1, 5))
        await publisher.publish(story)
        await folded(service, story)
    assert await Books(service.database).balances() == await expected(story)
    assert await service.stop(process) == 0


async def test_two_instances_share_the_partitions_and_take_over(
    database: Database, kafka_bootstrap: str, kafka_prefix: str, tmp_path: Path
) -> None:
    topics = Topics(chain=CHAIN, prefix=kafka_prefix)
    await make_topics(kafka_bootstrap, topics, partitions=2)
    service = Service(database=database, kafka=kafka_bootstrap, prefix=kafka_prefix, folder=tmp_path, partitions=2)
    try:
        async with publishing(kafka_bootstrap, topics) as publisher:
            await publisher.descriptions()
            first = await service.start()
            story = Story(partitions=2, partition_of={"vault": 1})
            story.block(deposit(1, 5))
            await publisher.publish(story)
            for partition in range(2):
                await folded(service, story, partition=partition)
            await service.start()
            books = Books(database)

            async def owners() -> bool:
                rows = await books.rows("SELECT DISTINCT owner FROM ledger.stream WHERE kind = 'events'")
                return len(rows) == 2

            await service.until("both have a partition", owners)
            story.block(deposit(2, 9))
            await publisher.publish(story)
            for partition in range(2):
                await folded(service, story, partition=partition)
            assert await service.stop(first) == 0
            story.block(deposit(3, 1))
            await publisher.publish(story)
            for partition in range(2):
                await folded(service, story, partition=partition)
            assert sum(v for (code, _), v in (await books.balances()).items() if code.startswith("assets")) == 15
    finally:
        await service.stop_all()
        await drop_topics(kafka_bootstrap, topics)


async def test_two_processes_of_one_name_do_not_duel(service: Service, publisher: Publisher) -> None:
    """The newer one goes on, the older one says so and ends."""
    first = await service.start(LEDGER__INSTANCE_ID="same")
    await said(service, "partition claimed", 0)
    await service.start(LEDGER__INSTANCE_ID="same")
    assert await asyncio.wait_for(first.wait(), 30) == 5
    assert "another process runs as instance 'same'" in service.log(0)
    story = Story()
    story.block(deposit(1, 5))
    await publisher.publish(story)
    await folded(service, story)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Kafka]:
    """A broker of the test's own, to be stopped and started."""
    port, controller_port = ports.free_ports(2)
    kafka = Kafka(
        daemon=Daemon(name="kafka", folder=tmp_path / "run", ephemeral=True),
        folder=tmp_path / "kafka",
        jars=layout().kafka_jars,
        port=port,
        controller_port=controller_port,
        heap_mb=256,
    )
    server.start([kafka], timeout_s=60)
    yield kafka
    kafka.stop()


@pytest.fixture
async def own(database: Database, broker: Kafka, kafka_prefix: str, tmp_path: Path) -> AsyncIterator[Service]:
    await make_topics(broker.endpoint, Topics(chain=CHAIN, prefix=kafka_prefix), partitions=1)
    service = Service(database=database, kafka=broker.endpoint, prefix=kafka_prefix, folder=tmp_path)
    yield service
    await service.stop_all()


async def test_kafka_away_in_the_middle_and_at_the_start(own: Service, broker: Kafka) -> None:
    story = random_story(24, blocks=15)
    topics = Topics(chain=CHAIN, prefix=own.prefix)
    process = await own.start()
    async with publishing(broker.endpoint, topics) as publisher:
        await publisher.descriptions()
        await publisher.publish(story)
    await folded(own, story)
    pid = broker.daemon.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        broker.stop()
    late = await own.start(LEDGER__INSTANCE_ID="late")
    await said(own, "waiting", 1)
    await asyncio.to_thread(server.start, [broker], timeout_s=60)
    story.block(deposit(1, 3))
    async with publishing(broker.endpoint, topics) as publisher:
        publisher.sent = len(story.records) - 3
        await publisher.publish(story)
    await folded(own, story)
    assert await Books(own.database).balances() == await expected(story)
    assert await own.stop(late) == 0
    assert await own.stop(process) == 0


async def _ready(service: Service) -> bool:
    status, _ = await service.ready()
    return status == 200
