"""What finance reads: signs, units, running balances, drill-down, completeness, quarantine."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from pathlib import Path

import asyncpg
import pytest

from ledger.adapters.registry import store_descriptions
from tests.integration.ledger.database import TOPICS, Books
from tests.integration.ledger.service import Service
from tests.unit.ledger.random_story import random_story
from tests.unit.ledger.story import (
    CHAIN_ID,
    GATEWAY,
    OTHER_TOKEN,
    PAYER,
    Story,
    account,
    deposit,
    internal,
    moved,
    registry,
)


@pytest.fixture
async def listed(books: Books) -> Books:
    """Books that know the allow-list, as after reading the registry topic."""
    connection = await asyncpg.connect(books.database.writer)
    try:
        await store_descriptions(connection, CHAIN_ID, registry().records())
    finally:
        await connection.close()
    return books


async def reader(books: Books, sql: str, *args: object) -> list[tuple[object, ...]]:
    return await books.rows(sql, *args, dsn=books.database.reader)


async def test_amounts_are_exact_in_units_and_in_base_units(listed: Books) -> None:
    """2^200 base units of 18 decimals: every digit counts, division would round."""
    story = Story()
    story.block(deposit(1, 2**200 + 1, token=OTHER_TOKEN, seq=1))
    await listed.fold([story.records])
    columns = "balance, debit, credit, net, balance_base_units, normal_side"
    sql = f"SELECT {columns} FROM finance.balances WHERE class = $1 AND basis = 'latest'"
    ((balance, debit, credit, net, base, side),) = await reader(listed, sql, "liabilities")
    assert base == 2**200 + 1
    assert str(balance) == "1606938044258990275541962092341162602522202.993782792835301377"
    assert (debit, credit, net, side) == (0, balance, balance.copy_negate(), "credit")  # type: ignore[attr-defined]
    ((_, debit, credit, net, _, side),) = await reader(listed, sql, "assets")
    assert (debit, credit, net, side) == (balance, 0, balance, "debit")


async def test_an_asset_that_is_not_listed_has_base_units_only(books: Books) -> None:
    story = Story()
    story.block(deposit(1, 5))
    await books.fold([story.records])
    sql = "SELECT DISTINCT balance, decimals, asset = asset_code FROM finance.balances"
    rows = await reader(books, sql)
    assert rows == [(None, None, True)]
    assert await reader(books, "SELECT DISTINCT debit, credit FROM finance.trial_balance") == [(None, None)]


async def test_a_shortfall_in_an_asset_that_is_not_listed_is_no_cover(books: Books) -> None:
    story = Story()
    story.block(deposit(1, 5))
    await books.fold([story.records])
    sql = "SELECT DISTINCT custody, unexplained, covered FROM finance.proof_of_funds WHERE basis = 'latest'"
    assert await reader(books, sql) == [(None, None, True)]
    await books.rows(  # as if a claim had grown by itself
        "UPDATE ledger.balance b SET credits = credits + 1 FROM ledger.account a"
        " WHERE a.account_id = b.account_id AND a.class = 'liabilities'"
    )
    assert await reader(books, sql) == [(None, None, False)]


async def test_the_trial_balance_balances_per_asset(listed: Books) -> None:
    story = random_story(11)
    story.mark(finalized=story.chain[-2].number)
    await listed.fold([story.records])
    await listed.promote()
    rows = await reader(
        listed,
        "SELECT basis, asset, sum(debit), sum(credit), min(debit), min(credit), bool_and(as_of_block IS NOT NULL)"
        " FROM finance.trial_balance GROUP BY basis, asset",
    )
    assert len(rows) == 4
    for _, _, debit, credit, least_debit, least_credit, dated in rows:
        assert debit == credit
        assert least_debit >= 0 and least_credit >= 0 and dated  # type: ignore[operator]  # noqa: PT018 - one sentence


async def test_a_statement_runs_to_the_balance_and_leads_to_the_log(listed: Books) -> None:
    story = Story()
    story.block(deposit(1, 1_000_000))
    block = story.block([internal(1, 2, 250_000)])
    story.retract(1)
    story.block([internal(2, 1, 0)], branch="b")
    await listed.fold([story.records])
    rows = await reader(
        listed,
        "SELECT action, event, debit, credit, running_balance, running_net, block_number, block_hash, tx_hash,"
        " log_index, counter_account, as_of_block FROM finance.account_statement WHERE account = $1"
        " ORDER BY entry_id, line",
        f"liabilities:gateway:account:{account(1)}:available",
    )
    assert [row[:6] for row in rows] == [
        ("post", "Deposited", 0, Decimal(1), Decimal(1), Decimal(-1)),
        ("post", "InternalTransfer", Decimal("0.25"), 0, Decimal("0.75"), Decimal("-0.75")),
        ("reverse", "InternalTransfer", 0, Decimal("0.25"), Decimal(1), Decimal(-1)),
    ]
    event = block.events[0]
    assert rows[1][6:10] == (2, block.hash, event.tx_hash, event.log_index)
    assert rows[1][10] == f"liabilities:gateway:account:{account(2)}:available"
    assert {row[11] for row in rows} == {2}


async def test_the_statement_of_one_account_uses_its_index(listed: Books) -> None:
    story = Story()
    story.block(*[deposit(n, 5) for n in range(1, 40)])
    await listed.fold([story.records])
    plan = await listed.rows(
        "EXPLAIN SELECT * FROM finance.account_statement WHERE account = 'liabilities:gateway:account:x:available'"
    )
    text = "\n".join(line for (line,) in plan)
    assert "transfer_debit" in text or "debit_account_id_entry_id_idx" in text, text
    assert "account_code" in text, text


async def test_the_journal_shows_every_line_once_and_events_without_lines(listed: Books) -> None:
    story = Story()
    story.block(deposit(1, 5), [internal(1, 1, 5)])
    await listed.fold([story.records])
    rows = await reader(
        listed,
        "SELECT event, line, action, debit_account LIKE 'assets:%', amount_base_units, revision FROM finance.journal"
        " ORDER BY entry_id, line",
    )
    assert rows == [
        ("Transfer", 1, "post", True, 5, 1),
        ("Deposited", 1, "post", False, 5, 1),
        ("InternalTransfer", None, "post", None, None, 1),
    ]


async def test_proof_of_funds_compares_custody_with_claims(listed: Books) -> None:
    story = Story()
    story.block(deposit(1, 1_000_000), [moved(PAYER, GATEWAY, 500_000)])
    story.block([moved(GATEWAY, PAYER, 200_000)])
    story.mark(finalized=2)
    await listed.fold([story.records])
    await listed.promote()
    rows = await reader(
        listed,
        "SELECT custody, claims, unexplained, covered, custody_base_units, as_of_block FROM finance.proof_of_funds"
        " WHERE basis = 'final'",
    )
    assert rows == [(Decimal("1.3"), Decimal("1.5"), Decimal("0.2"), False, 1_300_000, 2)]


async def test_completeness_finds_missing_contract_numbers(listed: Books) -> None:
    story = Story()
    story.block(deposit(1, 5, seq=1), deposit(1, 5, seq=2), deposit(1, 5, seq=5))
    story.block(deposit(1, 5, seq=6))
    await listed.fold([story.records])
    sql = "SELECT complete, last_seq::INT, missing::INT, detail FROM finance.completeness WHERE scope = 'contract'"
    assert await reader(listed, sql) == [(False, 6, 2, "2 missing; first gap after 2")]
    story.retract(1)
    await listed.fold([story.records])
    assert await reader(listed, sql) == [(False, 5, 2, "2 missing; first gap after 2")]


async def test_a_stopped_partition_is_incomplete_and_says_why(listed: Books, tmp_path: Path) -> None:
    story = Story()
    story.block(deposit(1, 5, seq=1))
    story.records[1] = dataclasses.replace(story.records[1], headers=story.records[0].headers)
    worker = await listed.fold([story.records])
    assert worker.ended is not None
    assert worker.ended.how == "stopped"
    rows = await reader(
        listed, "SELECT complete, detail FROM finance.completeness WHERE subject = $1", f"{TOPICS.events}/0"
    )
    ((complete, detail),) = rows
    assert not complete
    assert detail.startswith("stopped at offset 1: stream_seq is 1, expected 2: records are missing or were repeated")
    assert len(await listed.balances()) == 2
    service = Service(database=listed.database, kafka="127.0.0.1:1", prefix=TOPICS.prefix, folder=tmp_path)
    code, out, _ = await service.command("status")
    assert code == 4
    assert f"STOPPED {TOPICS.events}/0 at offset 1: stream_seq is 1, expected 2" in out
    again = await listed.worker()
    await again._store.close()  # a new claim alone does not hide it
    rows = await reader(listed, "SELECT complete FROM finance.completeness WHERE subject = $1", f"{TOPICS.events}/0")
    assert rows == [(False,)]


async def test_quarantine_keeps_the_raw_record_and_a_retraction_closes_it(listed: Books) -> None:
    story = Story()
    story.block(deposit(1, 5))
    poison = dataclasses.replace(story.records[0], value=b'{"half')
    story.records[0] = poison
    story.block()
    await listed.fold([story.records])
    columns = "open, origin, code, event_id, revision, record_value, record_offset, record_headers::JSONB ->> 'op'"
    sql = f"SELECT {columns} FROM finance.quarantine"
    event = story.chain[0].events[0]
    assert await reader(listed, sql) == [
        (True, "body", "malformed_body", event.event_id, 1, b'{"half', poison.offset, "applied")
    ]
    story.retract(2)
    await listed.fold([story.records])
    ((still_open, *_),) = await reader(listed, sql)
    assert still_open is False
    assert await listed.balances() == {}


async def test_rejected_logs_are_quarantined_and_their_retraction_closes_them(listed: Books) -> None:
    story = Story()
    block = story.block(deposit(1, 5))
    story.reject(block)
    await listed.fold([story.rejected], topic=TOPICS.rejected)
    sql = "SELECT open, origin, code, reason, block_number, contract FROM finance.quarantine"
    assert await reader(listed, sql) == [(True, "indexer", "wrong_size", "2 bytes of data", 1, "payment-gateway")]
    story.reject(block, revision=2, op="retracted")
    await listed.fold([story.rejected], topic=TOPICS.rejected)
    assert (await reader(listed, sql))[0][0] is False


async def test_what_postgres_itself_refuses_is_contained(listed: Books) -> None:
    """A lone surrogate, a sequence number that is none: JSON and headers are fine, the database is not."""
    story = Story()
    story.block(deposit(1, 5, seq=1), deposit(2, 7, seq=2))
    body = json.loads(story.records[1].value or b"") | {"contract_seq": "many"}
    story.records[1] = dataclasses.replace(story.records[1], value=json.dumps(body).encode())
    worker = await listed.fold([story.records])
    assert worker.ended is not None
    assert worker.ended.how == "closed", worker.ended
    rows = await reader(listed, "SELECT origin, code, revision FROM finance.quarantine")
    assert rows == [("database", "refused_by_database", 1)]
    assert await listed.rows("SELECT count(*)::INT FROM ledger.entry") == [(3,)]


PLAIN = {
    *("chain", "book", "account", "class", "kind", "subject", "asset", "asset_code", "contract", "event"),
    *("debit", "credit", "net", "balance", "amount", "difference", "debit_account", "credit_account"),
    *("block_number", "block_hash", "tx_hash", "log_index", "topic", "partition", "break_id", "quarantine_id"),
    *("line", "incident_id", "reason", "accepted_at", "accepted_by", "opened_at", "resolved_at", "recorded_at"),
    *("closed_at", "closed_reason", "record_headers", "event_id", "revision", "event_at", "accounting_date"),
    "state",
}
"""Columns that explain themselves, or that another view of the same name explains."""


async def test_every_view_and_every_column_that_needs_it_is_explained_in_the_database(books: Books) -> None:
    undescribed = await reader(
        books,
        "SELECT c.relname, a.attname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'finance'::REGNAMESPACE AND a.attnum > 0"
        " AND col_description(c.oid, a.attnum) IS NULL AND obj_description(c.oid, 'pg_class') IS NOT NULL",
    )
    columns = {f"{view}.{column}" for view, column in undescribed if column not in PLAIN}
    assert not {name for name in columns if not name.endswith("_base_units")}
    silent = await reader(
        books,
        "SELECT relname FROM pg_class WHERE relnamespace = 'finance'::REGNAMESPACE"
        " AND obj_description(oid, 'pg_class') IS NULL",
    )
    assert silent == []
