"""``rebuild``: the topics folded again give the same books, whatever the batches, and a difference is named."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from contracts.messages import Topics
from tests.integration.ledger.database import Books, Database
from tests.integration.ledger.kafka import Publisher, drop_topics, make_topics, publishing
from tests.integration.ledger.service import Service
from tests.unit.ledger.random_story import random_story
from tests.unit.ledger.story import CHAIN, Story

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
