"""Joins and whole balances on real PostgreSQL: the same books as in memory, for any batching and after any restart."""

from __future__ import annotations

import random

import asyncpg
import pytest

from ledger.adapters.books_reader import reading
from ledger.adapters.registry import store_descriptions
from ledger.adapters.verification import verify_books
from tests.integration.ledger.database import Books, Database
from tests.unit.ledger.fake_store import Shelf
from tests.unit.ledger.folding import fold_into
from tests.unit.ledger.story import CHAIN_ID, registry, splits
from tests.unit.ledger.subscription_story import subscription_story


@pytest.mark.parametrize("seed", range(6))
async def test_any_batching_gives_the_books_that_memory_gives(database: Database, seed: int) -> None:
    story = subscription_story(seed, blocks=40)
    shelf = Shelf()
    await fold_into(shelf, [story.records])
    books = Books(database)
    await books.set_up()
    connection = await asyncpg.connect(database.writer)
    await store_descriptions(connection, CHAIN_ID, list(registry().records()))
    await connection.close()
    rng = random.Random(seed)
    upto = rng.randrange(len(story.records))
    await books.fold(list(splits(story.records[:upto], [rng.randrange(1, 30)])))
    await books.fold(list(splits(story.records, [rng.randrange(1, 30), 1, 200])))
    assert {(code, asset): net for (code, asset), net in (await books.balances()).items()} == shelf.balances()
    rows = await books.rows("SELECT code FROM ledger.quarantine WHERE closed_at IS NULL ORDER BY quarantine_id")
    assert [row[0] for row in rows] == [row[2] for row in shelf.quarantine.values() if row[3] is None]
    async with reading(database.writer, chain_id=CHAIN_ID) as reader:
        assert [(r.check.name, r.failures) for r in await verify_books(reader) if not r.passed] == []


async def test_some_of_these_stories_begin_an_event_anew() -> None:
    """Quarantined on one branch, posted on the next: the stories of the test above have that."""
    fresh = 0
    for seed in range(6):
        shelf = Shelf()
        await fold_into(shelf, [subscription_story(seed, blocks=40).records])
        fresh += sum(entry.fresh for entry in shelf.entries)
    assert fresh > 0


async def test_keys_of_earlier_events_cannot_be_changed(database: Database) -> None:
    story = subscription_story(1)
    books = Books(database)
    await books.set_up()
    await books.fold([story.records])
    assert (await books.rows("SELECT count(*) FROM ledger.join_key"))[0][0] > 0
    for dsn in (database.writer, database.admin):
        connection = await asyncpg.connect(dsn)
        try:
            for statement in ("DELETE FROM ledger.join_key", "UPDATE ledger.join_key SET value = '1'"):
                with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.RestrictViolationError)):
                    await connection.execute(statement)
        finally:
            await connection.close()
