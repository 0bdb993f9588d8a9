"""What nobody may do to the books: tried as the writer, as the owner, as the superuser, also on a named partition."""

from __future__ import annotations

import asyncpg
import pytest

from tests.integration.ledger.database import Books
from tests.unit.ledger.story import Story, deposit

CHANGES = [
    "UPDATE {table} SET event_at = event_at",
    "DELETE FROM {table}",
    "TRUNCATE {table} CASCADE",
    "TRUNCATE {table}",
]
JOURNAL = ["ledger.entry", "ledger.transfer", "{partition}"]
APPEND_ONLY = [
    "chain",
    "registry",
    "account",
    "batch",
    "chain_head_history",
    "reconciliation",
    "reconciliation_item",
    "period",
    "period_close",
    "incident",
]
KEPT = ["stream", "chain_head", "asset", "balance", "quarantine", "break"]


@pytest.fixture
async def filled(books: Books) -> Books:
    story = Story()
    story.block(deposit(1, 100, seq=1))
    story.mark(finalized=1)
    await books.fold([story.records])
    await books.promote()
    return books


async def attempt(dsn: str, sql: str, *, role: str | None = None) -> str:
    """The SQLSTATE's name that refuses a statement; fails when nothing does."""
    connection = await asyncpg.connect(dsn)
    try:
        if role:
            await connection.execute(f"SET ROLE {role}")
        async with connection.transaction():
            await connection.execute(sql)
            await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            raise AssertionError(f"nothing refused: {sql}")
    except asyncpg.PostgresError as exc:
        return type(exc).__name__
    finally:
        await connection.close()


async def journal_tables(books: Books) -> list[str]:
    rows = await books.rows(
        "SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE relkind = 'r'"
    )
    partitions = [name for (name,) in rows if name.startswith("ledger.")]
    assert len(partitions) == 4  # two months, of entries and transfers
    return ["ledger.entry", "ledger.transfer", *partitions]


async def test_the_writer_cannot_change_the_journal_not_even_a_named_partition(filled: Books) -> None:
    for table in await journal_tables(filled):
        for change in CHANGES:
            assert await attempt(filled.database.writer, change.format(table=table)) == "InsufficientPrivilegeError"


@pytest.mark.parametrize("role", ["chainbooks_owner", None])
async def test_neither_owner_nor_superuser_changes_the_journal_by_plain_sql(filled: Books, role: str | None) -> None:
    rows = await filled.rows("SELECT tableoid::regclass::text FROM ledger.entry LIMIT 1")
    used = rows[0][0]
    for table in ("ledger.entry", "ledger.transfer", used, used.replace("entry", "transfer")):
        for change in CHANGES:
            refused = await attempt(filled.database.admin, change.format(table=table), role=role)
            assert refused in ("RestrictViolationError", "FeatureNotSupportedError"), (table, change, refused)
    assert await filled.rows("SELECT count(*)::int FROM ledger.transfer") == [(2,)]


async def test_rights_alone_would_not_be_enough(filled: Books) -> None:
    """Somebody grants the writer everything: the triggers still refuse."""
    await filled.rows("GRANT ALL ON ALL TABLES IN SCHEMA ledger TO chainbooks_writer")
    for table in await journal_tables(filled):
        empty = not await filled.rows(f"SELECT 1 FROM {table} LIMIT 1")
        for change in CHANGES:
            if empty and change.startswith(("UPDATE", "DELETE")):
                continue  # there is no row to change
            refused = await attempt(filled.database.writer, change.format(table=table))
            assert refused in ("RestrictViolationError", "FeatureNotSupportedError"), (table, change, refused)


@pytest.mark.parametrize("table", [*APPEND_ONLY, *KEPT])
async def test_no_row_is_ever_deleted(filled: Books, table: str) -> None:
    for sql in (f"DELETE FROM ledger.{table}", f"TRUNCATE ledger.{table} CASCADE"):
        assert await attempt(filled.database.writer, sql) == "InsufficientPrivilegeError"
        if sql.startswith("TRUNCATE") or await filled.rows(f"SELECT 1 FROM ledger.{table} LIMIT 1"):
            assert await attempt(filled.database.admin, sql) == "RestrictViolationError"


@pytest.mark.parametrize("table", APPEND_ONLY)
async def test_append_only_rows_never_change(filled: Books, table: str) -> None:
    column = (
        await filled.rows(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'ledger'"
            " AND table_name = $1 AND is_generated = 'NEVER' AND is_identity = 'NO'",
            table,
        )
    )[0][0]
    sql = f'UPDATE ledger.{table} SET "{column}" = "{column}"'
    assert await attempt(filled.database.writer, sql) == "InsufficientPrivilegeError"
    if await filled.rows(f"SELECT 1 FROM ledger.{table} LIMIT 1"):
        assert await attempt(filled.database.admin, sql) == "RestrictViolationError"


async def test_the_writer_changes_only_what_it_has_to(filled: Books) -> None:
    for sql in (
        "UPDATE ledger.quarantine SET reason = 'other'",
        "UPDATE ledger.break SET opened_block = 1",
        "UPDATE ledger.asset SET code = 'other'",
        "INSERT INTO ledger.period_close DEFAULT VALUES",
        "CREATE TABLE ledger.mine (a int)",
        "DROP TABLE ledger.entry",
        "ALTER TABLE ledger.entry DISABLE TRIGGER ALL",
    ):
        assert await attempt(filled.database.writer, sql) == "InsufficientPrivilegeError", sql


async def test_the_reader_sees_finance_and_nothing_else(filled: Books) -> None:
    views = await filled.rows("SELECT table_name FROM information_schema.views WHERE table_schema = 'finance'")
    assert len(views) >= 8
    for (view,) in views:
        await filled.rows(f"SELECT * FROM finance.{view} LIMIT 5", dsn=filled.database.reader)
    assert await attempt(filled.database.reader, "SELECT 1 FROM ledger.entry") == "InsufficientPrivilegeError"
    assert await attempt(filled.database.reader, "SELECT ledger.ensure_partitions('{2030-01-01}')") == (
        "InsufficientPrivilegeError"
    )
    for view in ("balances", "quarantine", "breaks"):
        sql = f"UPDATE finance.{view} SET as_of_block = 0"
        assert await attempt(filled.database.reader, sql) in (
            "InsufficientPrivilegeError",
            "ObjectNotInPrerequisiteStateError",
        )


ENTRY = """
INSERT INTO ledger.entry (entry_id, event_at, event_id, ordinal, lines, stream_no, batch_id, chain_id, block_number,
    block_hash, tx_hash, tx_index, log_index, address, contract, event, book, subject, args, correlation,
    description_version, late, accounting_date)
SELECT entry_id + {offset}, event_at, event_id, {ordinal}, {lines}, stream_no, batch_id, chain_id, block_number,
    block_hash, tx_hash, tx_index, log_index, address, contract, event, book, subject, args, correlation,
    description_version, late, accounting_date FROM ledger.entry ORDER BY entry_id LIMIT 1
"""
FRESH = ENTRY.replace("accounting_date)", "accounting_date, fresh)").replace(
    "accounting_date FROM", "accounting_date, TRUE FROM"
)
TRANSFER = """
INSERT INTO ledger.transfer (entry_id, event_at, line, debit_account_id, credit_account_id, asset_id, amount)
SELECT entry_id {offset}, event_at, {line}, {debit}, {credit}, asset_id, {amount}
FROM ledger.transfer ORDER BY entry_id, line LIMIT 1
"""


@pytest.mark.parametrize(
    ("sql", "refused"),
    [
        (ENTRY.format(offset=1000, ordinal=1, lines=0), "UniqueViolationError"),  # posted twice
        (ENTRY.format(offset=1000, ordinal=4, lines=0), "ForeignKeyViolationError"),  # reverses what was never posted
        (ENTRY.format(offset=1000, ordinal=0, lines=0), "CheckViolationError"),
        (FRESH.format(offset=1000, ordinal=3, lines=0), "ForeignKeyViolationError"),  # the first stands
        (FRESH.format(offset=1000, ordinal=2, lines=0), "CheckViolationError"),
        (FRESH.format(offset=1000, ordinal=1, lines=0), "CheckViolationError"),
        (TRANSFER.format(offset="", line=9, debit="debit_account_id", credit="credit_account_id", amount=1),
         "ForeignKeyViolationError"),  # one line more, later
        (TRANSFER.format(offset="+ 99", line=1, debit="debit_account_id", credit="credit_account_id", amount=1),
         "ForeignKeyViolationError"),  # no entry
        (TRANSFER.format(offset="", line=9, debit="-1", credit="credit_account_id", amount=1),
         "ForeignKeyViolationError"),  # no account
        (TRANSFER.format(offset="", line=9, debit="debit_account_id", credit="debit_account_id", amount=1),
         "CheckViolationError"),
        (TRANSFER.format(offset="", line=9, debit="debit_account_id", credit="credit_account_id", amount=0),
         "CheckViolationError"),
        (TRANSFER.format(offset="", line=9, debit="debit_account_id", credit="credit_account_id", amount=-1),
         "CheckViolationError"),
    ],
)  # fmt: skip
async def test_what_cannot_be_in_the_books_is_refused_by_the_schema(filled: Books, sql: str, refused: str) -> None:
    assert await attempt(filled.database.writer, sql) == refused


async def test_a_transfer_in_another_asset_than_its_accounts_is_refused(filled: Books) -> None:
    sql = """
    WITH other AS (SELECT asset_id FROM ledger.asset WHERE listed IS FALSE LIMIT 1),
    fresh AS (
        INSERT INTO ledger.entry (entry_id, event_at, event_id, ordinal, lines, stream_no, batch_id, chain_id,
            block_number, block_hash, tx_hash, tx_index, log_index, address, contract, event, book, subject, args,
            correlation, description_version, late, accounting_date)
        SELECT entry_id + 500, event_at, sha256('other'), 1, 1, stream_no, batch_id, chain_id, block_number, block_hash,
            tx_hash, tx_index, log_index, address, contract, event, book, subject, args, correlation,
            description_version, late, accounting_date FROM ledger.entry ORDER BY entry_id LIMIT 1
        RETURNING entry_id, event_at
    )
    INSERT INTO ledger.transfer (entry_id, event_at, line, debit_account_id, credit_account_id, asset_id, amount)
    SELECT f.entry_id, f.event_at, 1, t.debit_account_id, t.credit_account_id, t.asset_id + {more}, 5
    FROM fresh AS f, (SELECT * FROM ledger.transfer LIMIT 1) AS t
    """
    assert await attempt(filled.database.writer, sql.format(more=1)) == "ForeignKeyViolationError"
    connection = await asyncpg.connect(filled.database.writer)
    try:  # with the accounts' own asset the same statement is fine
        assert await connection.execute(sql.format(more=0)) == "INSERT 0 1"
    finally:
        await connection.close()
