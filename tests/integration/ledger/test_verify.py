"""``verify``: sound books pass; whatever a superuser changes behind the triggers is found, and named."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from ledger.adapters.books_reader import BooksReader
from ledger.adapters.registry import store_descriptions
from ledger.adapters.verification import verify_books
from tests.integration.ledger.database import TOPICS, Books, Database, copied
from tests.integration.ledger.service import Service
from tests.unit.ledger.random_story import random_story
from tests.unit.ledger.story import CHAIN_ID, GATEWAY, PAYER, Story, captured, moved, registry, splits

PARTITIONS = 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sound(postgres_admin_url: str, ledger_template: str) -> AsyncIterator[Database]:
    """Books with everything in them: reorgs, late entries, two partitions, a break, quarantine, an open tail."""
    async with copied(postgres_admin_url, ledger_template) as database:
        await fold_everything(database)
        yield database


async def fold_everything(database: Database) -> None:
    books = Books(database, partitions=PARTITIONS)
    await books.set_up()
    connection = await asyncpg.connect(database.writer)
    await store_descriptions(connection, CHAIN_ID, list(registry().records()))
    await connection.close()
    story = random_story(11, blocks=25, story=Story(partitions=PARTITIONS, partition_of={"vault": 1}))
    story.block([moved(GATEWAY, PAYER, 40)])
    rejected = story.block([captured(1, 2, 100, 2)])
    story.reject(rejected)
    story.reject(rejected, log_index=91)
    story.reject(rejected, log_index=91, op="retracted", revision=2)
    story.mark(finalized=story.chain[-1].number)
    story.block([captured(1, 3, 500, 5)])
    for partition in range(PARTITIONS):
        await books.fold(list(splits(story.of(partition), [9])), partition=partition)
    await books.fold([story.rejected], topic=TOPICS.rejected)
    await books.promote(entries_max=20)


async def verdict(database: Database, *corruptions: str) -> dict[str, tuple[str, ...]]:
    """Checks that fail, with what they name, after a superuser's changes; nothing of it is kept."""
    connection = await asyncpg.connect(database.admin)
    db_tx = connection.transaction()
    await db_tx.start()
    try:
        await connection.execute("SET LOCAL session_replication_role = replica")
        for statement in corruptions:
            assert not (await connection.execute(statement)).endswith(" 0"), statement
        results = await verify_books(BooksReader(connection, chain_id=CHAIN_ID))
    finally:
        await db_tx.rollback()
        await connection.close()
    return {result.check.name: result.failures for result in results if not result.passed}


async def test_sound_books_pass_every_check(sound: Database) -> None:
    assert await verdict(sound) == {}


async def test_the_books_of_these_tests_have_everything_in_them(sound: Database) -> None:
    counts = """
        SELECT (SELECT count(*) FROM ledger.entry WHERE ordinal % 2 = 0),
            (SELECT count(*) FROM ledger.entry WHERE late),
            (SELECT count(*) FROM ledger.break WHERE resolved_at IS NULL), (SELECT count(*) FROM ledger.batch),
            (SELECT count(*) FROM ledger.quarantine WHERE closed_by IS NULL),
            (SELECT count(*) FROM ledger.quarantine WHERE closed_by IS NOT NULL),
            (SELECT count(DISTINCT stream_no) - 1 FROM ledger.entry),
            (SELECT count(*) FROM ledger.entry CROSS JOIN ledger.chain_head WHERE block_number > final_number)
    """
    ((*found,),) = await Books(sound).rows(counts)
    assert all(found), found


FIRST = "(SELECT min(entry_id) FROM ledger.entry WHERE lines > 0 AND ordinal = 1)"
ONE_ACCOUNT = "account_id = (SELECT min(account_id) FROM ledger.balance WHERE final_debits > 0)"
CONTRA = "(SELECT min(entry_id) FROM ledger.entry WHERE ordinal = 2 AND lines > 0)"
CONTRA_EVENT = f"(SELECT event_id FROM ledger.entry WHERE entry_id = {CONTRA})"
LAST = "(SELECT max(entry_id) FROM ledger.entry WHERE ordinal = 1)"
HEAD = "(SELECT final_number FROM ledger.chain_head)"
CLEARING_BREAK = "kind = 'clearing' AND resolved_at IS NULL"
SECOND_BATCH = "batch_id = (SELECT batch_id FROM ledger.batch WHERE stream_no = 1 ORDER BY batch_id OFFSET 1 LIMIT 1)"


@pytest.mark.parametrize(
    ("corruption", "check", "named"),
    [
        (f"UPDATE ledger.entry SET subject = 'x' WHERE entry_id = {FIRST}", "record chain", "records 1 to 9 are not"),
        (f"UPDATE ledger.transfer SET amount = amount + 1 WHERE entry_id = {FIRST}", "record chain", "events.v1/"),
        ("UPDATE ledger.stream SET record_chain = sha256('x') WHERE stream_no = 1", "record chain", "events.v1/0"),
        (f"UPDATE ledger.batch SET record_chain = sha256('x') WHERE {SECOND_BATCH}", "record chain", "batch 175921860"),
        (f"DELETE FROM ledger.entry WHERE entry_id = {FIRST}", "record chain", "are not the"),
        (f"DELETE FROM ledger.transfer WHERE entry_id = {FIRST}", "lines of entries", "has 0"),
        (f"DELETE FROM ledger.entry WHERE entry_id = {FIRST}", "lines of entries", "belong to no entry"),
        (f"UPDATE ledger.entry SET lines = lines + 1 WHERE entry_id = {FIRST}", "lines of entries", "entry 1759218"),
        (
            f"UPDATE ledger.transfer SET asset_id = 3 - asset_id WHERE entry_id = {FIRST}",
            "accounts of transfers",
            "line 1: ",
        ),
        (
            f"UPDATE ledger.transfer SET debit_account_id = 999999 WHERE entry_id = {FIRST}",
            "accounts of transfers",
            "999999 (unknown)",
        ),
        (
            f"UPDATE ledger.balance SET debits = debits + 1 WHERE {ONE_ACCOUNT}",
            "debits = credits",
            "asset eip155:31337",
        ),
        (f"UPDATE ledger.balance SET final_debits = 0 WHERE {ONE_ACCOUNT}", "debits = credits", "final debits"),
        (
            f"UPDATE ledger.balance SET debits = debits + 1, credits = credits + 1 WHERE {ONE_ACCOUNT}",
            "balances = postings",
            ":gateway:",
        ),
        (
            f"UPDATE ledger.balance SET final_debits = 1, final_credits = final_credits + 1 WHERE {ONE_ACCOUNT}",
            "balances = postings",
            "final balance has",
        ),
        (f"DELETE FROM ledger.balance WHERE {ONE_ACCOUNT}", "balances = postings", "no row"),
        (
            f"UPDATE ledger.entry SET ordinal = 3 WHERE entry_id = {LAST}",
            "ordinals",
            "is revision 3, expected 1",
        ),
        (f"UPDATE ledger.entry SET log_index = 77 WHERE entry_id = {CONTRA}", "ordinals", "names another log"),
        (
            f"UPDATE ledger.transfer SET amount = amount + 1 WHERE entry_id = {CONTRA}",
            "contra entries",
            "does not mirror",
        ),
        (
            f"DELETE FROM ledger.entry WHERE ordinal = 1 AND event_id = {CONTRA_EVENT}",
            "contra entries",
            "reverses revision 1, which is not there",
        ),
        ("UPDATE ledger.stream SET entries = entries + 1 WHERE stream_no = 1", "stream positions", "events.v1/0"),
        ("UPDATE ledger.stream SET stream_seq = 3 WHERE stream_no = 2", "stream positions", "through record 3"),
        ("UPDATE ledger.stream SET next_offset = 9 WHERE stream_no = 1", "stream positions", "next offset 9"),
        ("DELETE FROM ledger.batch WHERE stream_no = 2", "stream positions", "batches 0 entries"),
        (
            f"UPDATE ledger.entry SET batch_id = batch_id + 1 WHERE entry_id = {FIRST}",
            "places of entries",
            "batch 17592",
        ),
        (f"UPDATE ledger.entry SET stream_no = 4 WHERE entry_id = {FIRST}", "places of entries", "stream 4"),
        (f"UPDATE ledger.batch SET first_offset = 1 WHERE {SECOND_BATCH}", "batches in a row", "from offset 1"),
        (f"UPDATE ledger.batch SET last_seq = 1 WHERE {SECOND_BATCH}", "batches in a row", "events.v1/0"),
        ("UPDATE ledger.chain_head SET final_number = final_number + 1", "promotion", "is finalized through block"),
        ("UPDATE ledger.chain_head SET final_hash = sha256('x')", "promotion", "another hash"),
        ("DELETE FROM ledger.chain_head_history", "promotion", "its history ends with"),
        (
            f"UPDATE ledger.entry SET block_hash = sha256('x') WHERE ordinal = 1 AND block_number = {HEAD}",
            "promotion",
            "stands in final block",
        ),
        (f"UPDATE ledger.break SET difference = 1 WHERE {CLEARING_BREAK}", "clearing", "says 1"),
        (
            f"UPDATE ledger.break SET resolved_at = now(), resolved_block = 1 WHERE {CLEARING_BREAK}",
            "clearing",
            "no break is open",
        ),
        ("UPDATE ledger.quarantine SET record_offset = 1000000", "quarantine", "at offset 1000000"),
        (
            f"UPDATE ledger.quarantine SET quarantine_id = {FIRST}, stream_no = 1 WHERE closed_by IS NULL",
            "quarantine",
            "posted as an entry",
        ),
        (
            "UPDATE ledger.quarantine SET closed_by = quarantine_id WHERE closed_by IS NOT NULL",
            "quarantine",
            "did not come later",
        ),
        (f"UPDATE ledger.entry SET incident_id = 'i-1', late = true WHERE entry_id = {FIRST}", "incidents", "i-1"),
        ("DELETE FROM ledger.registry WHERE contract = 'erc20'", "descriptions", "entries of erc20"),
    ],
)
async def test_a_change_behind_the_triggers_is_found_and_named(
    sound: Database, corruption: str, check: str, named: str
) -> None:
    found = await verdict(sound, corruption)
    assert check in found, found
    assert named in " ".join(found[check])


async def test_the_command_tells_in_a_table_and_for_scripts(database: Database, tmp_path: Path) -> None:
    service = Service(database=database, kafka="127.0.0.1:9", prefix="test.", folder=tmp_path, partitions=PARTITIONS)
    code, _, err = await service.command("verify")
    assert (code, "was the ledger ever run" in err) == (2, True)
    await fold_everything(database)
    code, out, err = await service.command("verify")
    assert (code, err) == (0, ""), out
    assert "15 of 15 checks passed" in out
    connection = await asyncpg.connect(database.admin)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(f"UPDATE ledger.balance SET debits = debits + 7 WHERE {ONE_ACCOUNT}")
    await connection.close()
    code, out, _ = await service.command("verify", "--json")
    failed = {check["check"]: check for check in json.loads(out)["checks"] if check["failing"]}
    assert (code, set(failed)) == (1, {"debits = credits", "balances = postings"})
    code, out, _ = await service.command("verify")
    assert code == 1
    for text in ("13 of 15 checks passed", failed["balances = postings"]["failures"][0], "what to do: "):
        assert text in out, out
