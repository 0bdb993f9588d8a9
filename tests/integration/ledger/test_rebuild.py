"""``rebuild``: the topics folded again give the same books, whatever the batches, and a difference is named."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from contracts.messages import Topics
from tests.integration.ledger.database import Books, Database
from tests.integration.ledger.kafka import Publisher, drop_topics, make_topics, publishing
from tests.integration.ledger.service import Service
from tests.unit.ledger.random_story import random_story
from tests.unit.ledger.story import CHAIN, CHAIN_ID, Story, deposit

PARTITIONS = 2


def spread() -> Story:
    """Two books in two partitions."""
    return Story(partitions=PARTITIONS, partition_of={"vault": 1})


@pytest.fixture
async def service(
    database: Database, kafka_bootstrap: str, kafka_prefix: str, tmp_path: Path
) -> AsyncIterator[Service]:
    topics = Topics(chain=CHAIN, prefix=kafka_prefix)
    await make_topics(kafka_bootstrap, topics, partitions=PARTITIONS)
    service = Service(
        database=database, kafka=kafka_bootstrap, prefix=kafka_prefix, folder=tmp_path, partitions=PARTITIONS
    )
    try:
        yield service
    finally:
        await service.stop_all()
        await drop_topics(kafka_bootstrap, topics)


@pytest.fixture
async def publisher(kafka_bootstrap: str, service: Service) -> AsyncIterator[Publisher]:
    async with publishing(kafka_bootstrap, Topics(chain=CHAIN, prefix=service.prefix)) as publisher:
        await publisher.descriptions()
        yield publisher


async def folded(service: Service, story: Story) -> None:
    """Waits until the live ledger has folded and promoted all that the story told."""
    books = Books(service.database)
    wanted = [
        (kind, number, sum(1 for r in records if r.partition == number))
        for kind, records in (("events", story.records), ("rejected", story.rejected))
        for number in range(PARTITIONS)
    ]

    async def done() -> bool:
        rows = await books.rows("SELECT kind, partition, stream_seq::INT FROM ledger.stream ORDER BY kind, partition")
        head = await books.rows("SELECT final_number FROM ledger.chain_head")
        return rows == wanted and head == [(story.finalized,)]

    await service.until("folded and promoted", done)


async def rebuilt(service: Service, *arguments: str) -> tuple[int, dict[str, Any]]:
    code, out, err = await service.command("rebuild", "--into", "again", "--json", *arguments)
    assert "Traceback" not in err
    assert code in (0, 1), out + err
    return code, json.loads(out)


async def schemas(service: Service) -> set[str]:
    rows = await Books(service.database).rows("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'again%'")
    return {row[0] for row in rows}


async def corrupt(service: Service, *statements: str) -> None:
    """As a superuser who bypasses the triggers."""
    connection = await asyncpg.connect(service.database.admin)
    try:
        await connection.execute("SET session_replication_role = replica")
        for statement in statements:
            assert not (await connection.execute(statement)).endswith(" 0"), statement
    finally:
        await connection.close()


async def told(service: Service, publisher: Publisher, *, seed: int, blocks: int = 20) -> Story:
    """A story that the live ledger has folded."""
    story = random_story(seed, blocks=blocks, story=spread())
    story.reject(story.chain[-1])
    story.mark(finalized=story.chain[-1].number)
    await publisher.publish(story)
    await folded(service, story)
    return story


async def test_the_topics_folded_again_give_the_same_digests_while_the_live_ledger_goes_on(
    service: Service, publisher: Publisher
) -> None:
    await service.start()
    story = await told(service, publisher, seed=7)
    code, one = await rebuilt(service, "--batch-records", "7", "--keep")
    assert (code, one["equal"], one["begun"], one["kept"]) == (0, True, "new", True)
    assert [d["of"] for d in one["digests"]] == ["journal", "record chains", "balances", "final balances"]
    assert one["final_block"] == story.finalized
    assert (
        one["entries_compared"] == (await Books(service.database).rows("SELECT count(*)::INT FROM ledger.entry"))[0][0]
    )
    assert one["entries_compared"] > 50
    code, again = await rebuilt(service, "--batch-records", "1000", "--replace")
    assert (code, again["begun"], again["records_folded"]) == (0, "replaced", one["records_folded"])
    assert again["digests"] == one["digests"]
    assert await schemas(service) == set()
    story.block()
    story.mark(finalized=story.chain[-1].number)
    await publisher.publish(story)
    await folded(service, story)
    code, later = await rebuilt(service)
    assert (code, later["equal"]) == (0, True)


async def test_what_is_not_the_same_is_named(service: Service, publisher: Publisher) -> None:
    process = await service.start()
    await told(service, publisher, seed=3)
    await service.stop(process)
    ((entry_id, event_at, seq, partition),) = await Books(service.database).rows(
        "SELECT t.entry_id, t.event_at::TEXT, (t.entry_id & ((1::BIGINT << 44) - 1))::INT, s.partition"
        " FROM ledger.transfer AS t JOIN ledger.entry AS e USING (entry_id, event_at)"
        " JOIN ledger.stream AS s USING (stream_no) ORDER BY t.entry_id OFFSET 5 LIMIT 1"
    )
    await corrupt(
        service,
        "UPDATE ledger.transfer SET amount = amount + 1"
        f" WHERE (entry_id, event_at, line) = ({entry_id}, '{event_at}', 1)",
        "UPDATE ledger.balance SET credits = credits + 5 WHERE account_id = 2",
    )
    code, found = await rebuilt(service)
    assert (code, found["equal"], found["kept"]) == (1, False, True)
    assert [d["of"] for d in found["digests"] if not d["equal"]] == ["journal", "record chains", "balances"]
    (entry,) = found["first_differing_entries"]
    assert (entry["partition"], entry["live"]["seq"]) == (partition, seq)
    one, other = (int(entry[side]["lines"][0]["amount"]) for side in ("live", "rebuilt"))
    assert one == other + 1
    (account,) = found["differing_accounts"]
    assert int(account["credits"]["live"]) == int(account["credits"]["rebuilt"]) + 5
    assert await schemas(service) == {"again", "again_finance"}
    code, out, _ = await service.command("rebuild", "--into", "again")
    assert code == 1
    assert f"at record {seq}" in out
    assert account["account"] in out


async def refused(service: Service, *arguments: str, code: int, text: str, **settings: str) -> None:
    found, out, err = await service.command("rebuild", *arguments, **settings)
    assert (found, text in err, "Traceback" in out + err) == (code, True, False), out + err


async def test_names_that_are_not_a_rebuild_s_are_refused_and_left_alone(
    service: Service, publisher: Publisher, database: Database
) -> None:
    await refused(service, "--into", "again", code=2, text="was the ledger ever run here?")
    await service.start()
    await told(service, publisher, seed=1, blocks=4)
    books = Books(database)
    connection = await asyncpg.connect(database.admin)
    await connection.execute("CREATE SCHEMA theirs; CREATE TABLE theirs.t (n INT); CREATE SCHEMA other_finance")
    await connection.close()
    for name, text in (
        ("ledger", "is taken"),
        ("Again", "lower-case"),
        ("order", "reserved word"),
        ("theirs", "theirs exists and is not a rebuild's"),
        ("other", "other_finance exists and is not a rebuild's"),
    ):
        await refused(service, "--into", name, "--replace", code=2, text=text)
    assert await books.rows("SELECT count(*)::INT FROM theirs.t") == [(0,)]
    await refused(service, "--into", "again", code=2, text="owner_dsn", POSTGRES__OWNER_DSN=database.writer)
    away = "postgresql://postgres@127.0.0.1:9/x"
    await refused(service, "--into", "again", code=3, text="Postgres cannot be reached", POSTGRES__OWNER_DSN=away)
    await refused(service, "--into", "again", code=3, text="Kafka", KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:9")
    assert await schemas(service) == set()


async def test_an_interrupted_rebuild_goes_on_where_it_stopped(service: Service, publisher: Publisher) -> None:
    live = await service.start()
    story = await told(service, publisher, seed=5, blocks=40)
    await service.stop(live)
    books = Books(service.database)
    locker = await asyncpg.connect(service.database.admin)
    code, first = await rebuilt(service, "--keep", "--batch-records", "3")
    assert (code, first["equal"]) == (0, True)
    for _ in range(20):
        story.block(deposit(1, 7))
    await publisher.publish(story)
    # A rebuild that waits for a lock in the middle of its work, and is told to end there.
    async with locker.transaction():
        await locker.execute("LOCK TABLE again.balance IN ACCESS EXCLUSIVE MODE")
        rebuild = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ledger", "rebuild", "--into", "again", "--batch-records", "1"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=service.environment(),
        )

        async def waits() -> bool:
            sql = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            return bool(await books.rows(sql))

        await service.until("the rebuild is at work", waits)
        await refused(service, "--into", "again", code=2, text="another rebuild works on schema again")
        rebuild.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(rebuild.communicate(), 20)
    await locker.close()
    assert rebuild.returncode == 130, err
    assert b"the same command goes on" in err
    assert b"Traceback" not in err
    await service.start()
    await folded(service, story)
    code, found = await rebuilt(service)
    assert (code, found["equal"], found["begun"]) == (0, True, "resumed")
    assert found["records_folded"] < first["records_folded"]
    assert await schemas(service) == set()


async def test_records_that_the_live_ledger_folded_and_the_topic_lost_are_a_difference(
    service: Service, publisher: Publisher, kafka_bootstrap: str
) -> None:
    process = await service.start()
    await told(service, publisher, seed=2, blocks=6)
    await service.stop(process)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(publisher.topics.events, 0): RecordsToDelete(before_offset=5)})
    await admin.close()
    code, found = await rebuilt(service)
    assert code == 1
    (problem,) = found["problems"]
    assert "the topic no longer has offset 0: it was truncated; the live ledger went on" in problem


async def test_an_incident_that_was_accepted_is_folded_again_and_one_that_waits_stops_both(
    service: Service, publisher: Publisher
) -> None:
    process = await service.start()
    story = await told(service, publisher, seed=4, blocks=8)
    story.revoke(1, "i-1")
    story.block(deposit(1, 9), incident="i-1", mark=False)
    story.mark()
    await publisher.publish(story)
    books = Books(service.database)

    async def waits() -> bool:
        return bool(await books.rows("SELECT 1 FROM ledger.stream WHERE stopped_incident = 'i-1'"))

    await service.until("the incident stops a partition", waits)
    await service.stop(process)
    code, found = await rebuilt(service)
    assert (code, found["equal"]) == (0, True)
    assert any("incident i-1" in note for note in found["notes"])
    await books.rows(
        "INSERT INTO ledger.incident (chain_id, incident_id, accepted_by, reason) VALUES ($1, 'i-1', 'a', 'b')",
        CHAIN_ID,
    )
    await service.start()
    await folded(service, story)
    code, found = await rebuilt(service)
    assert (code, found["equal"], found["notes"]) == (0, True, [])
