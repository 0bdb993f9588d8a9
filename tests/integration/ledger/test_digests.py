"""The law of the rebuild: any batches, any interleaving of partitions, any restarts give byte-identical digests."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import asyncpg
import pytest

from ledger.adapters import books
from ledger.adapters.batch_store import BatchStore
from ledger.adapters.books_reader import reading
from ledger.adapters.postgres import close, connect
from ledger.adapters.promotion_store import PromotionStore
from ledger.adapters.rebuilt_schema import rebuilt_schema
from ledger.adapters.registry import store_descriptions
from ledger.adapters.verification import verify_books
from ledger.comparison import Comparison, compare
from ledger.ports import Partition
from ledger.worker import Worker
from tests.integration.ledger.database import TOPICS, Database, StaticRegistry, make_observer
from tests.unit.ledger.random_story import random_story
from tests.unit.ledger.story import CHAIN, CHAIN_ID, GATEWAY, PAYER, Raw, Story, deposit, internal, moved, registry

PARTITIONS = 3
PAYMENTS = [deposit(1, 100), [internal(1, 2, 30)], [moved(GATEWAY, PAYER, 5)]]


def spread() -> Story:
    """Two books in two of three partitions."""
    return Story(partitions=PARTITIONS, partition_of={"gateway": 2, "vault": 1})


class Shuffled:
    """Folds a story into a schema of its own, as a seed says: who goes on, with how many records, who is cut off."""

    def __init__(self, database: Database, schema: str, story: Story, rng: random.Random) -> None:
        self._database = database
        self._schema = schema
        self._rng = rng
        self._group: asyncio.TaskGroup
        self._workers: dict[Partition, Worker] = {}
        self._records: dict[Partition, list[Raw]] = {
            Partition(topic, number): [record for record in records if record.partition == number]
            for topic, records in ((TOPICS.events, story.records), (TOPICS.rejected, story.rejected))
            for number in range(PARTITIONS)
        }
        self._incidents = story.incidents
        self._fed = dict.fromkeys(self._records, 0)

    async def fold(self) -> None:
        await self._set_up()
        async with asyncio.TaskGroup() as self._group:
            while open_ends := [p for p, records in self._records.items() if self._fed[p] < len(records)]:
                await self._turn(self._rng.choice(open_ends))
            for worker in self._workers.values():
                await worker.settled()
                assert worker.ended is None, worker.ended
                await worker.close(timeout_s=10)
        await self._promote()

    async def _set_up(self) -> None:
        async with rebuilt_schema(self._database.admin, self._schema, chain_id=CHAIN_ID) as space:
            assert await space.begin(replace=False) == "new"
        connection = await connect(self._database.writer, name="test", schema=self._schema)
        await books.add_chain(connection, chain_id=CHAIN_ID, name=CHAIN, topics=TOPICS, partitions=PARTITIONS)
        await store_descriptions(connection, CHAIN_ID, list(registry().records()))
        for incident in sorted(self._incidents):
            await connection.execute(
                "INSERT INTO ledger.incident (chain_id, incident_id, accepted_by, reason) VALUES ($1, $2, 'a', 'b')",
                CHAIN_ID,
                incident,
            )
        await close(connection)

    async def _turn(self, partition: Partition) -> None:
        worker = self._workers.get(partition) or await self._claim(partition)
        begin = self._fed[partition]
        count = self._rng.choice([1, 2, 7, 1_000])
        await worker.feed(self._records[partition][begin : begin + count])
        self._fed[partition] = begin + count
        roll = self._rng.random()
        if roll < 0.2:
            await worker.settled()
        elif roll < 0.3:  # cut off: what waits is dropped, and delivered again to the next one
            await self._workers.pop(partition).close(timeout_s=10)
            self._fed[partition] = 0
        elif roll < 0.4:
            await self._promote()

    async def _claim(self, partition: Partition) -> Worker:
        store = await BatchStore.open(self._database.writer, chain_id=CHAIN_ID, schema=self._schema)
        worker = Worker(
            await store.claim(partition, "test", held_before=False),
            chain_id=CHAIN_ID,
            store=store,
            registry=StaticRegistry(),
            observer=make_observer(),
            batch_records_max=self._rng.choice([1, 3, 50, 4_000]),
            finalized_moved=lambda: None,
        )
        self._group.create_task(worker.run())
        self._workers[partition] = worker
        return worker

    async def _promote(self) -> None:
        promoter = await PromotionStore.open(
            self._database.writer, chain_id=CHAIN_ID, entries_max=self._rng.choice([1, 5_000]), schema=self._schema
        )
        while await promoter.step() is not None:
            pass
        await promoter.close()


async def compared(database: Database, one: str, other: str) -> Comparison:
    async with AsyncExitStack() as stack:
        sides = [
            await stack.enter_async_context(reading(database.writer, chain_id=CHAIN_ID, schema=schema))
            for schema in (one, other)
        ]
        return await compare(*sides, folded_before={})


@pytest.mark.parametrize("seed", range(10))
async def test_any_batches_and_any_interleaving_give_identical_digests(database: Database, seed: int) -> None:
    story = random_story(seed, blocks=20, story=spread(), incidents=True)
    story.reject(story.chain[-1])
    story.mark(finalized=story.chain[-2].number)
    digests = set()
    for turn in range(3):
        await Shuffled(database, f"fold_{turn}", story, random.Random(seed * 100 + turn)).fold()
        found = await compared(database, "fold_0", f"fold_{turn}")
        assert found.equal, found
        assert found.entries_compared > 20
        assert found.final == story.finalized
        digests.add(tuple((each.name, each.rebuilt) for each in found.digests))
        async with reading(database.writer, chain_id=CHAIN_ID, schema=f"fold_{turn}") as reader:
            assert [result for result in await verify_books(reader) if not result.passed] == []
    assert len(digests) == 1
    assert [name for name, _ in digests.pop()] == ["journal", "record chains", "balances", "final balances"]


async def test_books_that_stand_at_different_places_are_compared_where_both_have_been(database: Database) -> None:
    """The live ledger goes on while a rebuild ends earlier, and the other way round; final balances too."""
    story = random_story(21, blocks=20, story=spread())
    story.mark(finalized=story.chain[-2].number)
    await Shuffled(database, "shorter", story, random.Random(1)).fold()
    sent = len(story.records)
    for _ in range(3):
        story.block(*PAYMENTS)
    story.mark(finalized=story.chain[-1].number)
    assert len(story.records) > sent
    await Shuffled(database, "longer", story, random.Random(2)).fold()
    one = await compared(database, "longer", "shorter")
    other = await compared(database, "shorter", "longer")
    assert one.equal, one
    assert other.equal, other
    assert [(d.live, d.rebuilt) for d in one.digests] == [(d.rebuilt, d.live) for d in other.digests]
    assert one.final == other.final == story.chain[-5].number
    assert other.notes, "the live ledger is behind, and that is said"
    assert not one.notes


async def test_a_balance_that_was_changed_beyond_the_journal_is_found_at_any_cut(database: Database) -> None:
    story = random_story(5, blocks=12, story=spread())
    story.mark(finalized=story.chain[-1].number)
    await Shuffled(database, "one", story, random.Random(1)).fold()
    story.block(*PAYMENTS)
    await Shuffled(database, "other", story, random.Random(2)).fold()
    assert (await compared(database, "other", "one")).equal
    connection = await asyncpg.connect(database.admin)
    await connection.execute("UPDATE other.balance SET final_debits = final_debits + 1 WHERE account_id = 1")
    await connection.close()
    found = await compared(database, "other", "one")
    assert [digest.name for digest in found.digests if not digest.equal] == ["final balances"]
    ((account,),) = [found.accounts]
    assert account.live is not None
    assert account.rebuilt is not None
    assert account.live.final_debits == account.rebuilt.final_debits + 1
