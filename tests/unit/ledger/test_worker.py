"""The worker on books in memory: what it stops at, what it contains, what it tries again."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import msgspec
import pytest

from ledger.errors import Contended, DatabaseRefused, DatabaseUnavailable
from ledger.ports import Claim, Partition, Staged
from ledger.worker import Worker
from tests.unit.ledger.fake_store import FakeStore, Shelf
from tests.unit.ledger.folding import StaticRegistry, fold_into, make_observer, make_worker
from tests.unit.ledger.random_story import random_story
from tests.unit.ledger.story import (
    BEGIN,
    BLOCK_SECONDS,
    CHAIN_ID,
    GATEWAY,
    PAYER,
    Raw,
    Story,
    deposit,
    internal,
    moved,
    rules,
    splits,
    vault_deposited,
)


def simple() -> Story:
    story = Story()
    story.block(deposit(1, 100))
    story.block([internal(1, 2, 30)])
    return story


def broken(record: Raw) -> Raw:
    return dataclasses.replace(record, value=b"{")


async def test_a_bad_body_is_quarantined_and_the_stream_goes_on() -> None:
    story = simple()
    story.records[3] = broken(story.records[3])
    shelf = Shelf()
    worker = await fold_into(shelf, [story.records])
    assert worker.ended is not None
    assert worker.ended.how == "closed"
    assert [code for _, _, code, _ in shelf.quarantine.values()] == ["malformed_body"]
    assert shelf.state.position.stream_seq == len(story.records)


async def test_what_came_before_bad_headers_stands_and_the_reason_is_written_down() -> None:
    story = simple()
    story.records[3] = dataclasses.replace(story.records[3], headers=())
    shelf = Shelf()
    worker = await fold_into(shelf, [story.records])
    assert worker.ended is not None
    assert worker.ended.how == "stopped"
    assert shelf.stopped is not None
    assert shelf.stopped[1] == story.records[3].offset
    assert len(shelf.entries) == 2
    assert not worker._observer.readiness().ready
    assert any("stopped" in reason for reason in worker._observer.readiness().reasons)


async def test_a_retraction_of_a_quarantined_event_closes_that_row() -> None:
    story = Story()
    story.block([moved(PAYER, GATEWAY, 1)])
    story.records[0] = broken(story.records[0])
    story.retract(1)
    for polls in ([story.records], [[record] for record in story.records]):
        shelf = Shelf()
        worker = await fold_into(shelf, polls)
        assert worker.ended is not None
        assert worker.ended.how == "closed", worker.ended
        ((_, revision, _, closed),) = shelf.quarantine.values()
        assert (revision, closed) == (1, 3)
        assert shelf.entries == []


async def test_a_retraction_of_nothing_stops() -> None:
    story = simple()
    first = story.records[0]
    body = json.loads(first.value or b"") | {"op": "retracted", "revision": 2}
    event = msgspec.convert(body, type(story.chain[0].events[0]))
    strange = msgspec.structs.replace(event, event_id="0x" + "77" * 32)
    story.put(strange)
    shelf = Shelf()
    worker = await fold_into(shelf, [story.records])
    assert worker.ended is not None
    assert worker.ended.how == "stopped"
    assert "neither posted nor quarantined" in worker.ended.reason


async def test_a_retraction_at_or_below_finalized_is_an_incident() -> None:
    story = simple()
    story.mark(finalized=2)
    story.retract(1)
    shelf = Shelf()
    for polls in ([story.records], [[record] for record in story.records]):
        shelf = Shelf()
        worker = await fold_into(shelf, polls)
        assert worker.ended is not None
        assert worker.ended.how == "stopped"
        assert "incident" in worker.ended.reason
        assert len(shelf.entries) == 3


async def revoked_story() -> Story:
    """A deposit of 100 that was final is replaced by one of 60, an hour later."""
    story = Story()
    story.block(deposit(1, 100))
    story.mark(finalized=1)
    story.block()
    story.retract(1)
    story.revoke(1, "31337-1-abc")
    story.block(deposit(1, 60), branch="b", incident="31337-1-abc")
    return story


async def test_an_incident_is_not_posted_before_it_is_accepted() -> None:
    story = await revoked_story()
    shelf = Shelf()
    worker = await fold_into(shelf, [story.records])
    assert worker.ended is not None
    assert (worker.ended.how, worker.ended.incident) == ("stopped", "31337-1-abc")
    for text in ("incident 31337-1-abc", "Deposited", "block 1", "incident accept 31337-1-abc --reason TEXT"):
        assert text in worker.ended.reason
    assert shelf.stopped == (worker.ended.reason, story.records[5].offset)
    assert len(shelf.entries) == 2
    assert shelf.state.position.stream_seq == 5


async def test_an_accepted_incident_is_posted_late_and_counts_on_the_day_that_was_reached() -> None:
    story = await revoked_story()
    shelf = Shelf(accepted={"31337-1-abc"})
    worker = await fold_into(shelf, [story.records])
    assert worker.ended is not None
    assert worker.ended.how == "closed", worker.ended
    before, after = shelf.entries[:2], shelf.entries[2:]
    assert [(e.late, e.counts_at) for e in before] == [(False, BEGIN + BLOCK_SECONDS)] * 2
    assert [(e.late, e.counts_at) for e in after] == [(True, BEGIN + 2 * BLOCK_SECONDS)] * 4
    assert sorted(shelf.balances().values()) == [-60, 60]


async def test_a_record_that_names_an_incident_waits_also_when_nothing_was_revoked() -> None:
    """The new branch has an event where the old one had none."""
    story = Story()
    story.block()
    story.mark(finalized=1)
    story.revoke(1, "31337-1-abc")
    story.block(deposit(1, 60), branch="b", incident="31337-1-abc")
    worker = await fold_into(Shelf(), [story.records])
    assert worker.ended is not None
    assert (worker.ended.how, worker.ended.incident) == ("stopped", "31337-1-abc")


async def test_a_revocation_of_what_is_in_quarantine_closes_that_row_when_it_is_accepted() -> None:
    story = Story()
    story.block([moved(PAYER, GATEWAY, 1)])
    story.records[0] = broken(story.records[0])
    story.mark(finalized=1)
    story.revoke(1, "x")
    shelf = Shelf()
    worker = await fold_into(shelf, [story.records])
    assert worker.ended is not None
    assert worker.ended.incident == "x"
    shelf.accepted.add("x")
    await fold_into(shelf, [story.records])
    ((_, _, _, closed),) = shelf.quarantine.values()
    assert closed == 4


async def test_finalized_never_goes_back() -> None:
    story = simple()
    story.mark(finalized=2)
    story.finalized = 1
    story.mark()
    worker = await fold_into(Shelf(), [story.records])
    assert worker.ended is not None
    assert worker.ended.how == "stopped"
    assert "went back" in worker.ended.reason


async def test_an_unknown_description_is_looked_for_once_more_and_then_stops() -> None:
    story = simple()
    shelf = Shelf()
    registry = StaticRegistry({})
    worker = await fold_into(shelf, [story.records], registry=registry)
    assert registry.refreshed == 1
    assert worker.ended is not None
    assert worker.ended.how == "stopped"
    assert "not in the registry topic" in worker.ended.reason
    assert shelf.entries == []


async def test_a_description_that_comes_later_is_found() -> None:
    class Late(StaticRegistry):
        async def refresh(self) -> None:
            await super().refresh()
            self.known = rules()

    shelf = Shelf()
    worker = await fold_into(shelf, [simple().records], registry=Late({}))
    assert worker.ended is not None
    assert worker.ended.how == "closed"
    assert len(shelf.entries) == 3


async def test_what_the_rules_refuse_is_quarantined_with_their_reason() -> None:
    story = Story()
    story.block([vault_deposited("0x" + "5 " * 20, 5)], deposit(1, 3))
    shelf = Shelf()
    await fold_into(shelf, [story.records])
    assert [code for _, _, code, _ in shelf.quarantine.values()] == ["malformed_account"]
    assert len(shelf.entries) == 2


class Troubled(FakeStore):
    """Commits go wrong as planned, then succeed."""

    def __init__(self, shelf: Shelf, failures: list[Exception]) -> None:
        super().__init__(shelf)
        self.failures = failures
        self.tries = 0

    async def commit(self, claim: Claim, staged: Staged) -> None:
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)
        await super().commit(claim, staged)


async def run_on(store: FakeStore, story: Story) -> Worker:
    worker = Worker(
        await store.claim(Partition("events", 0), "test", held_before=False),
        chain_id=CHAIN_ID,
        store=store,
        registry=StaticRegistry(),
        observer=make_observer(),
        batch_records_max=4_000,
        finalized_moved=lambda: None,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        await worker.feed(story.records)
        await worker.settled()
        await worker.close(timeout_s=5)
    return worker


async def test_deadlocks_try_the_same_batch_again() -> None:
    shelf = Shelf()
    store = Troubled(shelf, [Contended("deadlock"), Contended("serialisation")])
    worker = await run_on(store, simple())
    assert worker.ended is not None
    assert worker.ended.how == "closed"
    assert (store.tries, len(shelf.entries)) == (3, 3)


async def test_a_lost_connection_ends_the_worker() -> None:
    store = Troubled(Shelf(), [DatabaseUnavailable("gone")])
    worker = await run_on(store, simple())
    assert worker.ended is not None
    assert (worker.ended.how, store.tries) == ("lost", 1)


class Picky(FakeStore):
    """The database that cannot take one certain event."""

    def __init__(self, shelf: Shelf, poison: str) -> None:
        super().__init__(shelf)
        self.poison = poison

    async def commit(self, claim: Claim, staged: Staged) -> None:
        if any(entry.change.event.event_id == self.poison for entry in staged.folded.entries):
            raise DatabaseRefused("invalid input")
        await super().commit(claim, staged)


async def test_one_poisonous_event_is_quarantined_and_the_others_are_posted() -> None:
    story = Story()
    for number in range(1, 6):
        story.block(deposit(number, 100))
    poison = story.chain[2].events[1].event_id
    shelf = Shelf()
    worker = await run_on(Picky(shelf, poison), story)
    assert worker.ended is not None
    assert worker.ended.how == "closed", worker.ended
    assert [code for _, _, code, _ in shelf.quarantine.values()] == ["refused_by_database"]
    assert len(shelf.entries) == 9


async def test_a_retraction_that_the_database_refuses_stops() -> None:
    story = simple()
    story.retract(1)
    poison = json.loads(story.records[-1].value or b"")["event_id"]

    class PickyAboutRetractions(Picky):
        async def commit(self, claim: Claim, staged: Staged) -> None:
            if any(entry.change.retracts for entry in staged.folded.entries):
                raise DatabaseRefused("invalid input")
            await FakeStore.commit(self, claim, staged)

    shelf = Shelf()
    worker = await run_on(PickyAboutRetractions(shelf, poison), story)
    assert worker.ended is not None
    assert worker.ended.how == "stopped"
    assert "the database refuses" in worker.ended.reason
    assert len(shelf.entries) == 3


async def test_a_worker_that_waits_for_room_is_not_stuck_when_it_ends() -> None:
    worker = await make_worker(Shelf(), batch_records_max=1)
    story = simple()
    await worker.feed(story.records[:1])
    waiting = asyncio.ensure_future(worker.feed(story.records[1:]))
    await asyncio.sleep(0)
    assert not waiting.done()
    worker._closing = True
    worker._room.set()
    await waiting


@pytest.mark.parametrize("kind", ["closes", "cut"])
async def test_a_tx_that_is_cut_by_a_restart_is_netted_as_a_whole(kind: str) -> None:
    story = Story()
    story.block([*deposit(1, 100), moved(PAYER, GATEWAY, 7)])
    shelf = Shelf()
    for cut in (1, 2) if kind == "cut" else (3,):
        shelf = Shelf()
        await fold_into(shelf, [story.records[:cut]])
        await fold_into(shelf, [story.records[cut:]])
        last = shelf.entries[-1]
        assert [line.amount for line in last.lines] == [7, 7]
        assert not any(account.startswith("clearing") for account, _ in shelf.balances())


class Slow(Troubled):
    """Commits take a few turns of the loop, so that the worker looks ahead meanwhile."""

    async def commit(self, claim: Claim, staged: Staged) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        await super().commit(claim, staged)


@pytest.mark.parametrize("failures", [[], [DatabaseRefused("duplicate")], [Contended("deadlock")]])
async def test_looking_ahead_changes_nothing_also_when_a_batch_is_refused(
    monkeypatch: pytest.MonkeyPatch, failures: list[Exception]
) -> None:
    monkeypatch.setattr("ledger.worker.THREAD_ITEMS_MIN", 1)
    story = random_story(31, blocks=40)
    plain, shelf = Shelf(), Shelf()
    await fold_into(plain, [story.records])
    store = Slow(shelf, failures)
    worker = Worker(
        await store.claim(Partition("events", 0), "test", held_before=False),
        chain_id=CHAIN_ID,
        store=store,
        registry=StaticRegistry(),
        observer=make_observer(),
        batch_records_max=10,
        finalized_moved=lambda: None,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        for poll in splits(story.records, [7]):
            await worker.feed(poll)
        await worker.settled()
        await worker.close(timeout_s=5)
    assert worker.ended is not None
    assert worker.ended.how == "closed", worker.ended
    assert shelf.digest() == plain.digest()
    assert shelf.batches > 10
