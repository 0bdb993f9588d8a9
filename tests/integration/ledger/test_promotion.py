"""Final balances: one consistent cut, moved on in bounded steps; what stays on clearing is a break with its block."""

from __future__ import annotations

import asyncio
import dataclasses

import asyncpg
import msgspec
import pytest

from contracts.messages import PaymentEvent, encode
from ledger.errors import DatabaseRefused
from tests.integration.ledger.database import Books, Database, copied
from tests.unit.ledger.random_story import random_story
from tests.unit.ledger.story import GATEWAY, PAYER, TOKEN, Raw, Story, deposit, internal, moved, vault_deposited

USDX = f"eip155:31337/erc20:{TOKEN}"
CLEARING = (f"clearing:gateway:contract:{GATEWAY}:-", USDX)


async def test_final_balances_are_those_of_the_promoted_blocks(books: Books) -> None:
    story = Story()
    story.block(deposit(1, 100))
    story.block([internal(1, 2, 30)])
    story.block([internal(1, 2, 5)])
    story.mark(finalized=2)
    await books.fold([story.records])
    assert await books.balances("final") == {}
    assert await books.promote() == 1
    final = {code[-20:]: net for (code, _), net in (await books.balances("final")).items() if "account" in code}
    assert sorted(final.values()) == [-70, -30]
    assert await books.promote() == 0
    assert await books.rows("SELECT DISTINCT as_of_block FROM finance.balances WHERE basis = 'final'") == [(2,)]
    assert await books.rows("SELECT DISTINCT as_of_block FROM finance.balances WHERE basis = 'latest'") == [(3,)]


async def test_any_size_of_steps_gives_the_same_final_balances_and_breaks(
    postgres_admin_url: str, ledger_template: str
) -> None:
    story = random_story(5, blocks=20)
    last = story.chain[-1].number
    story.mark(finalized=last)
    found, taken = [], []
    for entries_max in (1, 7, 5_000):
        async with copied(postgres_admin_url, ledger_template) as database:
            books = Books(database)
            await books.set_up()
            await books.fold([story.records])
            steps = await books.promote(entries_max=entries_max)
            breaks = await books.rows(
                "SELECT subject, asset_code, began_in_block, began_in_tx, difference_base_units::TEXT, resolved_block"
                " FROM finance.breaks ORDER BY 1, 2, 3"
            )
            found.append((await books.balances("final"), breaks))
            assert await books.balances("final") == await books.balances("latest")
            head = await books.rows("SELECT final_number, final_hash IS NOT NULL FROM ledger.chain_head")
            assert head == [(last, True)]
            taken.append(steps)
    assert found[0] == found[1] == found[2]
    assert found[0][1], "the story has a break"
    assert taken[0] > taken[1] > taken[2] == 1


async def test_nothing_is_promoted_until_every_partition_has_passed(database: Database) -> None:
    books = Books(database, partitions=2)
    await books.set_up()
    story = Story(partitions=2, partition_of={"vault": 1})
    story.block(deposit(1, 100), [moved(PAYER, "0x" + "12" * 20, 9), vault_deposited("0x" + "55" * 20, 9)])
    story.mark(finalized=1)
    await books.fold([story.of(0)], partition=0)
    assert await books.promote() == 0
    await books.fold([story.of(1)], partition=1)
    assert await books.promote() == 1
    assert await books.balances("final") == await books.balances("latest")


async def test_promotion_goes_as_far_as_the_partition_that_is_furthest_behind(database: Database) -> None:
    books = Books(database, partitions=2)
    await books.set_up()
    story = Story(partitions=2)
    for _ in range(3):
        story.block(deposit(1, 100))
    behind = len(story.of(1))
    story.mark(finalized=1)
    story.mark(finalized=3)
    await books.fold([story.of(0)], partition=0)
    await books.fold([story.of(1)[: behind + 1]], partition=1)
    await books.promote()
    assert await books.rows("SELECT final_number FROM ledger.chain_head") == [(1,)]
    await books.fold([story.of(1)], partition=1)
    await books.promote()
    assert await books.rows("SELECT final_number FROM ledger.chain_head") == [(3,)]


async def test_an_outflow_without_a_claim_is_a_break_from_its_block_until_it_comes_back(books: Books) -> None:
    story = Story()
    story.block(deposit(1, 100))
    silent = story.block([moved(GATEWAY, PAYER, 40)])
    story.block(deposit(1, 1))
    story.mark(finalized=3)
    await books.fold([story.records])
    await books.promote()
    assert (await books.balances("final"))[CLEARING] == 40
    columns = "kind, open, book, contract, difference_base_units::INT, began_in_block, began_in_tx, detail"
    sql = f"SELECT {columns} FROM finance.breaks"
    assert await books.rows(sql) == [
        ("clearing", True, "gateway", GATEWAY, 40, 2, silent.events[0].tx_hash, "outflow without a claim")
    ]
    before = len(story.records)
    tx = story.block([moved(PAYER, GATEWAY, 40)], mark=False)
    event = msgspec.structs.replace(tx.events[0], closes_tx=False)  # not closed: the inflow stays on clearing
    story.records[-1] = _again(story, event)
    story.mark(finalized=4)
    await books.fold([story.records[before:]])
    await books.promote()
    assert CLEARING not in await books.balances("final")
    assert await books.rows("SELECT open, resolved_block FROM finance.breaks") == [(False, 4)]


def _again(story: Story, event: PaymentEvent) -> Raw:
    """The last record, with another body."""
    return dataclasses.replace(story.records[-1], value=encode(event))


async def test_a_late_entry_below_the_cut_is_final_at_once_and_judged(books: Books) -> None:
    story = Story()
    story.block(deposit(1, 100))
    block = story.block(deposit(1, 50))
    story.block(deposit(2, 1))
    story.mark(finalized=3)
    await books.fold([story.records])
    await books.promote()
    sent = len(story.records)
    sample = block.events[0]
    late = msgspec.structs.replace(
        sample,
        event_id="0x" + "ab" * 32,
        log_index=77,
        late=True,
        closes_tx=True,
        args={"from": GATEWAY, "to": PAYER, "value": "6"},
    )
    story.put(late)
    await books.fold([story.records[sent:]])
    assert await books.balances("final") == await books.balances("latest")
    assert (await books.balances("final"))[CLEARING] == 6
    assert await books.rows("SELECT open, began_in_block FROM finance.breaks") == [(True, 2)]
    assert await books.rows("SELECT count(*)::INT FROM finance.journal WHERE late") == [(1,)]


async def test_a_late_batch_and_a_promotion_do_not_run_beside_each_other(books: Books) -> None:
    """The promotion holds the chain's lock: the late batch waits for it, and then counts into the cut."""
    story = Story()
    story.block(deposit(1, 100))
    story.block(deposit(1, 50))
    story.mark(finalized=1)
    await books.fold([story.records])
    await books.promote()
    sent = len(story.records)
    story.put(msgspec.structs.replace(story.chain[0].events[1], event_id="0x" + "ab" * 32, log_index=77, late=True))
    blocker = await asyncpg.connect(books.database.writer)
    async with blocker.transaction():
        await blocker.execute("SELECT pg_advisory_xact_lock(hashtextextended('chainbooks.promotion.31337', 0))")
        folding = asyncio.ensure_future(books.fold([story.records[sent:]]))
        waiting = """
            SELECT count(*)::INT FROM pg_locks AS l INNER JOIN pg_database AS d ON l.database = d.oid
            WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()
        """
        async with asyncio.timeout(10):
            while await books.rows(waiting) != [(1,)]:  # noqa: ASYNC110 - the database's state is waited for
                await asyncio.sleep(0.005)
        assert not folding.done()
    await folding
    await blocker.close()
    final, latest = await books.balances("final"), await books.balances("latest")
    name = f"liabilities:gateway:account:0x{'0' * 63}1:available"
    assert (final[(name, USDX)], latest[(name, USDX)]) == (-200, -250)


async def test_partitions_that_name_different_final_hashes_are_not_promoted(database: Database) -> None:
    books = Books(database, partitions=2)
    await books.set_up()
    for partition, branch in ((0, "a"), (1, "b")):
        story = Story(partitions=2)
        story.block(branch=branch)
        story.mark(finalized=1)
        await books.fold([story.of(partition)], partition=partition)
    with pytest.raises(DatabaseRefused, match="different hashes"):
        await books.promote()
