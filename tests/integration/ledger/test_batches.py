"""A batch in the database: what it posts, that it does not depend on how it was cut, and that a crash loses nothing."""

from __future__ import annotations

import asyncio
import dataclasses

import msgspec
import pytest

from ledger.adapters.batch_store import BatchStore
from ledger.core.fold import Knowledge, fold
from ledger.core.records import scan
from ledger.errors import Fenced
from ledger.ports import Partition
from tests.integration.ledger.database import TOPICS, Books, copied
from tests.unit.ledger.fake_store import Shelf
from tests.unit.ledger.folding import fold_into
from tests.unit.ledger.random_story import random_story
from tests.unit.ledger.story import (
    CHAIN_ID,
    GATEWAY,
    PAYER,
    TOKEN,
    Story,
    deposit,
    internal,
    moved,
    rules,
    splits,
)

USDX = f"eip155:31337/erc20:{TOKEN}"


async def test_a_deposit_moves_custody_and_claim_and_leaves_clearing_at_zero(books: Books) -> None:
    story = Story()
    story.block(deposit(1, 100, seq=1), deposit(2, 50, seq=2))
    story.block([internal(1, 2, 30, seq=3)])
    await books.fold([story.records])
    assert await books.balances() == {
        (f"assets:gateway:onchain:{GATEWAY}:-", USDX): 150,
        (f"liabilities:gateway:account:0x{'0' * 63}1:available", USDX): -70,
        (f"liabilities:gateway:account:0x{'0' * 63}2:available", USDX): -80,
    }


async def test_unclaimed_inflow_goes_to_the_default_inflow_and_a_claim_does_not(books: Books) -> None:
    story = Story()
    story.block([*deposit(1, 100), moved(PAYER, GATEWAY, 7)])
    await books.fold([story.records])
    balances = await books.balances()
    assert balances[(f"liabilities:gateway:unattributed:{GATEWAY}:-", USDX)] == -7
    assert (f"clearing:gateway:contract:{GATEWAY}:-", USDX) not in balances


async def test_a_tx_that_is_cut_by_a_restart_is_netted_as_a_whole(books: Books) -> None:
    """What the tx left on clearing so far is read back."""
    story = Story()
    story.block([*deposit(1, 100), moved(PAYER, GATEWAY, 7)])
    await books.fold([story.records[:1]])
    assert (f"clearing:gateway:contract:{GATEWAY}:-", USDX) in await books.balances()
    await books.fold([story.records[1:]])
    balances = await books.balances()
    assert balances[(f"liabilities:gateway:unattributed:{GATEWAY}:-", USDX)] == -7
    assert (f"clearing:gateway:contract:{GATEWAY}:-", USDX) not in balances


async def test_a_retraction_of_what_an_earlier_batch_quarantined_closes_that_row(books: Books) -> None:
    story = Story()
    story.block([moved(PAYER, GATEWAY, 1)], mark=False)
    story.records[0] = dataclasses.replace(story.records[0], value=b"{")
    await books.fold([story.records])
    assert await books.rows("SELECT open, revision FROM finance.quarantine") == [(True, 1)]
    story.retract(1)
    worker = await books.fold([story.records])
    assert worker.ended is not None
    assert worker.ended.how == "closed", worker.ended
    assert await books.rows("SELECT open, closed_reason FROM finance.quarantine") == [(False, "retracted")]
    assert await books.balances() == {}


@pytest.mark.parametrize(("seed", "incidents"), [(1, False), (2, False), (3, False), (4, True), (24, True)])
async def test_the_database_folds_as_the_model_does_for_any_split(
    postgres_admin_url: str, ledger_template: str, seed: int, *, incidents: bool
) -> None:
    story = random_story(seed, blocks=18 if not incidents else 25, incidents=incidents)
    assert bool(story.incidents) == incidents
    shelf = Shelf(accepted=story.incidents)
    await fold_into(shelf, [story.records])
    digests = []
    for sizes in ([10**6], [1], [3, 11]):
        async with copied(postgres_admin_url, ledger_template) as database:
            books = Books(database)
            await books.set_up()
            await books.accept(*story.incidents)
            await books.fold(list(splits(story.records, sizes)))
            await books.promote()
            digests.append(await books.digest())
    assert digests[0] == digests[1] == digests[2]
    assert digests[0]["latest"] == shelf.balances()
    assert digests[0]["chains"][0][2] == shelf.state.record_chain.hex()


async def test_duplicates_with_new_numbers_are_dropped(books: Books) -> None:
    """The same revisions again, as if they were published twice."""
    told = Story()
    told.block(deposit(1, 100), deposit(2, 5))
    told.block([internal(1, 2, 30)])
    told.retract(1)
    again = Story()
    again.records, again._seqs, again._offsets = list(told.records), dict(told._seqs), dict(told._offsets)
    for event in told.chain[0].events:
        again.put(event)
    await books.fold([told.records])
    before = await books.digest()
    worker = await books.fold([again.records])
    assert worker.ended is not None
    assert worker.ended.how == "closed", worker.ended
    after = await books.digest()
    assert after["journal"] == before["journal"]
    assert after["latest"] == before["latest"]
    assert after["quarantine"] == []
    assert after["chains"][0][2] == before["chains"][0][2]


@pytest.mark.parametrize("beside", [True, False])
async def test_a_revision_without_the_one_before_it_stops_and_says_so(books: Books, *, beside: bool) -> None:
    """Revision 3 of an event whose revision 2 never came, alone in its batch and beside a good event."""
    story = Story()
    block = story.block(deposit(1, 100), mark=False)
    await books.fold([story.records])
    before = await books.digest()
    if beside:
        story.block([internal(1, 2, 30)], mark=False)
    gap = story.put(msgspec.structs.replace(block.events[0], revision=3))
    worker = await books.fold([story.records])
    assert worker.ended is not None
    assert worker.ended.how == "stopped"
    reason = f"revision 3 of event {block.events[0].event_id} comes without revision 2"
    assert await books.rows("SELECT stopped_reason, stopped_offset::INT FROM ledger.stream WHERE kind = 'events'") == [
        (reason, gap.offset)
    ]
    after = await books.digest()
    assert after["quarantine"] == []
    assert len(after["journal"]) == len(before["journal"]) + beside


async def test_a_zombie_writer_cannot_commit(books: Books) -> None:
    story = Story()
    story.block(deposit(1, 100))
    zombie = await books.worker()
    successor = await books.worker()
    async with asyncio.TaskGroup() as group:
        group.create_task(zombie.run())
        group.create_task(successor.run())
        await zombie.feed(story.records)
        await zombie.settled()
        assert await books.balances() == {}
        await successor.feed(story.records)
        await successor.settled()
        await successor.close(timeout_s=5)
    assert zombie.ended is not None
    assert zombie.ended.how == "fenced"
    assert len(await books.balances()) == 2


async def test_a_zombie_does_not_stop_by_what_its_successor_did(books: Books) -> None:
    """It cannot know whether what it misses was folded by somebody else: it is fenced, and nobody is alarmed."""
    story = Story()
    story.block(deposit(1, 100))
    zombie, successor = await books.worker(), await books.worker()
    async with asyncio.TaskGroup() as group:
        group.create_task(zombie.run())
        group.create_task(successor.run())
        await zombie.feed(story.records[1:])
        await zombie.settled()
        await successor.close(timeout_s=5)
        await zombie.close(timeout_s=5)
    assert zombie.ended is not None
    assert zombie.ended.how == "fenced"
    assert not any("stopped" in reason for reason in books.observer.readiness().reasons)


async def test_a_writer_whose_position_is_old_cannot_commit(books: Books) -> None:
    """The epoch is ours, but the offset is not where we left it: an earlier commit of ours had succeeded."""
    story = Story()
    story.block(deposit(1, 100))
    store = await BatchStore.open(books.database.writer, chain_id=CHAIN_ID)
    empty = await store.claim(Partition(TOPICS.events, 0), "test", held_before=False)
    await books.fold([story.records])
    current = await store.claim(Partition(TOPICS.events, 0), "test", held_before=False)
    found = scan(story.records, empty.state.position, chain_id=CHAIN_ID, kind="events")
    folded = fold(found.items, empty.state, Knowledge(), rules(), stream_id=found.position.stream_id)
    before = await books.digest()
    claim = dataclasses.replace(empty, epoch=current.epoch)
    staged = store.stage(claim, folded)
    with pytest.raises(Fenced) as caught:
        await store.commit(claim, staged)
    assert caught.value.by is None
    assert await books.digest() == before
    await store.close()
