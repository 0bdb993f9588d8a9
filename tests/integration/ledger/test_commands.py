"""What a user types: help, refusals in one sentence with an exit code, never a traceback; migrate twice; telemetry."""

from __future__ import annotations

import dataclasses
import json
import secrets
from pathlib import Path

import asyncpg
import pytest

from contracts.messages import Topics
from ledger.adapters.migrations import available
from tests.integration.ledger.database import Books, Database, with_database
from tests.integration.ledger.kafka import Publisher, drop_topics, make_topics, publishing
from tests.integration.ledger.service import Service
from tests.unit.ledger.story import CHAIN, Story, deposit


async def refused(service: Service, *arguments: str, code: int, text: str, **settings: str) -> None:
    """The command ends with the code and says the text, and nothing of Python."""
    found, out, err = await service.command(*arguments, **settings)
    assert found == code, out + err
    assert text in err, err
    assert "Traceback" not in err + out


@pytest.fixture
def offline(database: Database, tmp_path: Path) -> Service:
    """A service whose Kafka is never asked."""
    return Service(database=database, kafka="127.0.0.1:9", prefix="x.", folder=tmp_path)


async def test_migrate_makes_an_empty_database_ready_and_does_it_twice(postgres_admin_url: str, tmp_path: Path) -> None:
    name = f"ledger_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(postgres_admin_url)
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        database = Database(name=name, admin=with_database(postgres_admin_url, name))
        service = Service(database=database, kafka="127.0.0.1:9", prefix="", folder=tmp_path)
        await refused(service, "status", code=2, text="chainbooks-ledger migrate")
        await refused(service, "balances", code=2, text="chainbooks-ledger migrate")
        code, out, err = await service.command("migrate", "--json")
        assert code == 0, err
        assert json.loads(out)["applied"] == available()
        code, out, _ = await service.command("migrate")
        assert (code, out) == (0, "the database is ready\n")
        owners = await Books(database).rows(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('ledger', 'finance')"
        )
        assert owners == [("chainbooks_owner",)]
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def test_rights_and_distance_are_told_apart(offline: Service) -> None:
    writer = offline.database.writer
    await refused(offline, "migrate", code=2, text="owner_dsn", POSTGRES__OWNER_DSN=writer)
    away = "postgresql://postgres@127.0.0.1:9/x"
    place = "Postgres cannot be reached at postgresql://postgres@127.0.0.1:9/x ([postgres] {})"
    await refused(offline, "migrate", code=3, text=place.format("owner_dsn"), POSTGRES__OWNER_DSN=away)
    await refused(offline, "status", code=3, text=place.format("dsn"), POSTGRES__DSN=away)
    await refused(offline, "balances", code=3, text=place.format("reader_dsn"), POSTGRES__READER_DSN=away)
    missing = offline.database.writer.replace(offline.database.name, "no_such_database")
    await refused(offline, "status", code=2, text="no_such_database", POSTGRES__DSN=missing)


async def test_a_book_that_is_not_there_is_answered_with_those_that_are(books: Books, offline: Service) -> None:
    code, out, _ = await offline.command("balances", "--book", "nosuch")
    assert (code, "no final balance matches; books of chain local: none yet" in out) == (0, True)
    story = Story()
    story.block(deposit(1, 5))
    await books.fold([story.records])
    code, out, _ = await offline.command("balances", "--book", "nosuch", "--latest")
    assert (code, "no latest balance matches; books of chain local: gateway" in out) == (0, True)
    code, out, _ = await offline.command("balances", "--book", "nosuch", "--json")
    assert (code, json.loads(out)["balances"]) == (0, [])


async def run_refused(service: Service, text: str, **settings: str) -> None:
    process = await service.start(**settings)
    assert await process.wait() == 2, service.log()
    assert text in service.log()
    assert "Traceback" not in service.log()


async def test_run_refuses_topics_and_books_that_do_not_fit(
    database: Database, kafka_bootstrap: str, kafka_prefix: str, tmp_path: Path
) -> None:
    topics = Topics(chain=CHAIN, prefix=kafka_prefix)
    service = Service(database=database, kafka=kafka_bootstrap, prefix=kafka_prefix, folder=tmp_path, partitions=2)
    await run_refused(service, "chainbooks-indexer topics ensure")
    await make_topics(
        kafka_bootstrap,
        topics,
        partitions=2,
        config={"retention.ms": "60000", "message.timestamp.after.max.ms": "3600000"},
    )
    try:
        await run_refused(service, "retention.ms=60000, not -1")
        await run_refused(service, "message.timestamp.after.max.ms=3600000, not 9223372036854775807")
        await run_refused(service, "P is pinned", KAFKA__PARTITIONS="4")
        await run_refused(service, "another database", KAFKA__TOPIC_PREFIX="other.")
        await run_refused(service, "this database knows chain 31337", CHAIN__NAME="renamed")
    finally:
        await drop_topics(kafka_bootstrap, topics)


async def test_run_refuses_a_topic_with_another_number_of_partitions(
    database: Database, kafka_bootstrap: str, kafka_prefix: str, tmp_path: Path
) -> None:
    topics = Topics(chain=CHAIN, prefix=kafka_prefix)
    await make_topics(kafka_bootstrap, topics, partitions=3)
    try:
        service = Service(database=database, kafka=kafka_bootstrap, prefix=kafka_prefix, folder=tmp_path, partitions=2)
        await run_refused(service, "has 3 partitions, not 2")
    finally:
        await drop_topics(kafka_bootstrap, topics)


async def test_metrics_and_one_trace_from_publisher_to_balance(
    service: Service, publisher: Publisher, tmp_path: Path
) -> None:
    trace_file = tmp_path / "spans.jsonl"
    process = await service.start(TELEMETRY__TRACE_FILE=str(trace_file))
    story = Story()
    story.block(deposit(1, 5))
    trace_id, span_id = "4b" * 16, "7a" * 8
    header = ("traceparent", f"00-{trace_id}-{span_id}-01".encode())
    story.records = [dataclasses.replace(record, headers=(*record.headers, header)) for record in story.records]
    await publisher.publish(story)
    books = Books(service.database)

    async def posted() -> bool:
        return await books.rows("SELECT count(*)::INT FROM ledger.entry") == [(2,)]

    await service.until("posted", posted)
    metrics = await service.metrics()
    assert 'chainbooks_ledger_entries_total{chain="local",op="post"} 2.0' in metrics
    for name in ("batch_records", "batch_seconds", "latest", "finalized", "claims"):
        assert f"chainbooks_ledger_{name}" in metrics, name
    assert await service.stop(process) == 0
    spans = [json.loads(line) for line in trace_file.read_text().splitlines()]
    fold = next(span for span in spans if span["name"] == "fold")
    assert fold["context"]["trace_id"] == f"0x{trace_id}"
    assert fold["parent_id"] == f"0x{span_id}"
    assert len([span for span in spans if span["name"] == "fold"]) <= 2  # per batch, never per event


async def test_a_stopped_partition_makes_the_service_unready_and_the_others_go_on(
    database: Database, kafka_bootstrap: str, kafka_prefix: str, tmp_path: Path
) -> None:
    topics = Topics(chain=CHAIN, prefix=kafka_prefix)
    await make_topics(kafka_bootstrap, topics, partitions=2)
    service = Service(database=database, kafka=kafka_bootstrap, prefix=kafka_prefix, folder=tmp_path, partitions=2)
    books = Books(database)
    try:
        async with publishing(kafka_bootstrap, topics) as publisher:
            await publisher.descriptions()
            story = Story(partitions=2, partition_of={"vault": 1})
            story.block(deposit(1, 5))
            story.records = [
                dataclasses.replace(r, headers=tuple(h for h in r.headers if h[0] != "stream_seq"))
                if r.partition == 1
                else r
                for r in story.records
            ]
            process = await service.start()
            await publisher.publish(story)

            async def state() -> bool:
                rows = await books.rows(
                    "SELECT stopped_reason IS NULL, stream_seq::INT FROM ledger.stream WHERE kind = 'events'"
                    " ORDER BY partition"
                )
                return rows == [(True, 3), (False, 0)]

            await service.until("partition 1 stopped, partition 0 folded", state)

            async def unready() -> bool:
                status, body = await service.ready()
                return status == 503 and "stream_seq" in " ".join(body["reasons"])

            await service.until("not ready", unready)
            assert "chainbooks_ledger_stopped" in await service.metrics()
            assert await service.stop(process) == 0
    finally:
        await service.stop_all()
        await drop_topics(kafka_bootstrap, topics)
