"""A change below finality: nothing before it is accepted; then contra entries in the open period, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from datetime import date
from pathlib import Path

import pytest

from contracts.messages import Topics
from ledger.adapters.batch_store import BatchStore
from tests.integration.ledger.database import Books, Database
from tests.integration.ledger.kafka import drop_topics, make_topics, publishing
from tests.integration.ledger.service import Service
from tests.unit.ledger.story import (
    CHAIN,
    CHAIN_ID,
    GATEWAY,
    PAYER,
    TOKEN,
    VAULT,
    Story,
    account,
    deposit,
    internal,
    moved,
    vault_deposited,
)

INCIDENT = "31337-42-0a1b2c"
USDX = f"eip155:31337/erc20:{TOKEN}"
CUSTODY = (f"assets:gateway:onchain:{GATEWAY}:-", USDX)


def of(number: int) -> tuple[str, str]:
    return (f"liabilities:gateway:account:{account(number)}:available", USDX)


def story_of_an_incident() -> tuple[Story, int]:
    """In the old year 100 came in and were final; in the new year the chain says it were 60. How much came before."""
    story = Story()
    story.block(deposit(1, 100))
    for _ in range(41):  # into the next year
        story.block(mark=False)
    story.mark(finalized=42)
    story.block([internal(1, 2, 10)])
    before = len(story.records)
    story.retract(1)
    story.revoke(42, INCIDENT)
    story.block(deposit(1, 60), branch="b", incident=INCIDENT, mark=False)
    for _ in range(41):
        story.block(branch="b", mark=False)
    story.mark()
    return story, before


async def test_an_accepted_incident_corrects_final_balances_in_the_open_period(books: Books) -> None:
    story, before = story_of_an_incident()
    await books.fold([story.records[:before]])
    await books.promote()
    assert (await books.balances("final"))[of(1)] == -100
    await books.accept(INCIDENT)
    worker = await books.fold([story.records])
    assert worker.ended is not None
    assert worker.ended.how == "closed", worker.ended
    assert await books.balances("final") == await books.balances() == {CUSTODY: 60, of(1): -60}
    assert await books.promote() == 0
    columns = "event, action, accounting_date, late, incident_id"
    journal = await books.rows(f"SELECT {columns} FROM finance.journal WHERE block_number = 1 ORDER BY entry_id")
    assert journal == [
        ("Transfer", "post", date(2025, 12, 31), False, None),
        ("Deposited", "post", date(2025, 12, 31), False, None),
        ("Deposited", "reverse", date(2026, 1, 1), True, INCIDENT),
        ("Transfer", "reverse", date(2026, 1, 1), True, INCIDENT),
        ("Transfer", "post", date(2026, 1, 1), True, INCIDENT),
        ("Deposited", "post", date(2026, 1, 1), True, INCIDENT),
    ]
    assert await books.rows("SELECT * FROM finance.breaks WHERE open") == []


async def test_the_final_block_gets_its_new_hash(books: Books) -> None:
    """The number stays; reconcile asks by hash, and nobody has the old block any more."""
    story, before = story_of_an_incident()
    await books.fold([story.records[:before]])
    await books.promote()
    ((old,),) = await books.rows("SELECT finance.hex(final_hash) FROM ledger.chain_head")
    await books.accept(INCIDENT)
    await books.fold([story.records])
    await books.promote()
    assert old != story.chain[-1].hash
    rows = await books.rows("SELECT final_number, finance.hex(final_hash) FROM ledger.chain_head")
    assert rows == [(42, story.chain[-1].hash)]
    history = "SELECT final_number, finance.hex(final_hash) FROM ledger.chain_head_history ORDER BY promoted_at"
    assert await books.rows(history) == [(42, old), (42, story.chain[-1].hash)]


async def test_what_finance_sees_before_and_after(books: Books) -> None:
    story, _ = story_of_an_incident()
    await books.fold([story.records])
    reader = books.database.reader
    columns = "incident_id, state, accepted_by, action, amount_base_units::INT, accounting_date"
    sql = f"SELECT {columns} FROM finance.incidents ORDER BY entry_id, line"
    assert await books.rows(sql, dsn=reader) == [(INCIDENT, "waiting", None, None, None, None)]
    ((detail,),) = await books.rows("SELECT detail FROM finance.incidents", dsn=reader)
    assert f"incident accept {INCIDENT}" in detail
    await books.accept(INCIDENT)
    await books.fold([story.records])
    assert await books.rows(sql, dsn=reader) == [
        (INCIDENT, "accepted", "an operator", action, amount, date(2026, 1, 1))
        for action, amount in [("reverse", 100), ("reverse", 100), ("post", 60), ("post", 60)]
    ]


class Credulous(BatchStore):
    """Takes every incident for accepted, as a broken fold would."""

    async def accepted(self, incidents: Collection[str]) -> frozenset[str]:
        return frozenset(incidents)


async def test_the_schema_refuses_an_incident_that_nobody_accepted(books: Books) -> None:
    story, before = story_of_an_incident()
    await books.fold([story.records[:before]])
    balances = await books.balances()
    worker = await books.worker(store=await Credulous.open(books.database.writer, chain_id=CHAIN_ID))
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        await worker.feed(story.records)
        await worker.settled()
        await worker.close(timeout_s=5)
    assert worker.ended is not None
    assert worker.ended.how == "stopped"
    assert "entry_incident" in worker.ended.reason
    assert await books.rows("SELECT count(*)::INT FROM ledger.entry WHERE incident_id IS NOT NULL") == [(0,)]
    assert balances[of(1)] == -90


PARTITIONS = 2


@pytest.fixture
async def two(database: Database, kafka_bootstrap: str, kafka_prefix: str, tmp_path: Path) -> AsyncIterator[Service]:
    """Two partitions: gateway in 0, vault in 1."""
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


async def test_operators_see_the_incident_accept_it_and_the_running_service_goes_on(two: Service) -> None:
    owner = "0x" + "55" * 20
    story = Story(partitions=PARTITIONS, partition_of={"vault": 1})
    story.block(deposit(1, 100), [moved(PAYER, VAULT, 7), vault_deposited(owner, 7)])
    story.mark(finalized=1)
    story.block()
    before = len(story.records)
    story.retract(1)
    story.revoke(1, INCIDENT)
    story.block(deposit(1, 60), branch="b", incident=INCIDENT, mark=False)
    story.block(branch="b")
    story.mark(finalized=2)
    books = Books(two.database)

    async def seqs() -> list[tuple[int, ...]]:
        return await books.rows("SELECT stream_seq::INT FROM ledger.stream WHERE kind = 'events' ORDER BY partition")

    async def state() -> list[tuple[object, ...]]:
        sql = "SELECT stopped_incident FROM ledger.stream WHERE kind = 'events' ORDER BY partition"
        return await books.rows(sql)

    async def folded_before() -> bool:
        return await seqs() == [(sum(1 for r in story.records[:before] if r.partition == p),) for p in (0, 1)]

    async def waiting() -> bool:
        return await state() == [(INCIDENT,), (INCIDENT,)]

    async def done() -> bool:
        return await seqs() == [(len(story.of(0)),), (len(story.of(1)),)] and await state() == [(None,), (None,)]

    async def ready() -> bool:
        return (await two.ready())[0] == 200

    async def promoted() -> bool:
        return await books.rows("SELECT final_number FROM ledger.chain_head") == [(2,)]

    process = await two.start()
    async with publishing(two.kafka, Topics(chain=CHAIN, prefix=two.prefix)) as publisher:
        await publisher.descriptions()
        whole, story.records = story.records, story.records[:before]
        await publisher.publish(story)
        story.records = whole
        await two.until("folded", folded_before)
        held = await books.balances()
        await publisher.publish(story)
        await two.until("both partitions wait", waiting)
    assert await books.balances() == held
    status, body = await two.ready()
    assert (status, INCIDENT in str(body)) == (503, True)
    stopped, listed, mistyped, empty = await asyncio.gather(
        two.command("status"),
        two.command("incident", "list", "--json"),
        two.command("incident", "accept", "31337-42-typo", "--reason", "why not"),
        two.command("incident", "accept", INCIDENT, "--reason", " "),
    )
    assert stopped[0] == 4
    assert f"chainbooks-ledger incident accept {INCIDENT} --reason TEXT" in stopped[1]
    (one,) = json.loads(listed[1])
    assert (listed[0], one["incident_id"], one["state"], one["entries"]) == (0, INCIDENT, "waiting", 0)
    assert [each["partition"] for each in one["waiting"]] == [0, 1]
    assert (mistyped[0], f"they wait for: {INCIDENT}" in mistyped[2]) == (2, True)
    assert (empty[0], "cannot be empty" in empty[2]) == (2, True)
    assert await state() == [(INCIDENT,), (INCIDENT,)]
    code, out, err = await two.command("incident", "accept", INCIDENT, "--reason", "seen", "--by", "ann")
    assert code == 0, out + err
    await two.until("the running service went on", done)
    assert process.returncode is None
    await two.until("ready", ready)
    await two.until("promoted", promoted)
    assert await books.balances("final") == await books.balances() == {CUSTODY: 60, of(1): -60}
    again, details, text, table, rebuilt, verified = await asyncio.gather(
        two.command("incident", "accept", INCIDENT, "--reason", "again", "--by", "bob"),
        two.command("incident", "show", INCIDENT, "--json"),
        two.command("incident", "show", INCIDENT),
        two.command("incident", "list"),
        two.command("rebuild", "--into", "again", "--json"),
        two.command("verify"),
    )
    assert (again[0], "was accepted before, by ann: seen" in again[1]) == (0, True)
    shown = json.loads(details[1])
    assert (shown["accepted_by"], shown["entries"], shown["waiting"]) == ("ann", 6, [])
    effect = {(each["account"], each["asset"]): int(each["net_base_units"]) for each in shown["effect"]}
    assert (effect[of(1)], effect[CUSTODY]) == (40, -40)
    assert "-40 base units" in text[1]
    assert "ann" in table[1]
    assert (rebuilt[0], json.loads(rebuilt[1])["equal"]) == (0, True), rebuilt
    assert verified[0] == 0, verified
    assert await two.stop(process) == 0
