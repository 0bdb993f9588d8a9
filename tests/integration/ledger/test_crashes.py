"""A crash before and after every statement of the ledger: batches, claims and promotion end with the same books.

Chapters of one story are folded beside each other into two databases. In one of them, each chapter meets trouble at
another statement; after every chapter both must hold the same. Statements are counted, never listed here.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import asyncpg
import msgspec
import pytest

from ledger.adapters.batch_store import BatchStore
from ledger.adapters.books_reader import reading
from ledger.adapters.promotion_store import PromotionStore
from ledger.adapters.registry import store_descriptions
from ledger.adapters.verification import verify_books
from ledger.errors import DatabaseUnavailable
from ledger.ports import Claim, Partition
from ledger.worker import Ended
from tests.integration.ledger.database import TOPICS, Books, copied
from tests.integration.ledger.flaky import Fuse, Trouble
from tests.unit.ledger.story import (
    BLOCK_SECONDS,
    CHAIN_ID,
    GATEWAY,
    PAYER,
    Block,
    Raw,
    Story,
    deposit,
    digest,
    internal,
    moved,
    registry,
    requests,
)

MONTH_BLOCKS: Final = 31 * 24 * 3600 // BLOCK_SECONDS
MONTHS_EVERY: Final = 8
LOOKS_EVERY: Final = 16
HERE: Final = Partition(TOPICS.events, 0)

Polls = tuple[Sequence[Raw], Sequence[Raw]]


def chapter(story: Story, number: int) -> Polls:
    """The same shape each time: new accounts and an asset, a break, a quarantined record and its retraction, joins, an
    incident, a late event below finality. Two polls; the second has to read back what the first one did.
    """
    if number % MONTHS_EVERY == 0 and story.chain:  # a month that has no partition yet
        at = story.chain[-1].number + MONTH_BLOCKS
        story.chain.append(Block(number=at, hash=digest(f"far {at}"), events=[]))
    token, account = f"0x{number + 1:040x}", 1_000 + number
    begin = len(story.records)
    request = [requests("Funded", subId=str(number), amount="90"), requested(number), fulfilled(number)]
    foreign = [internal(account, 1, 5, asset=token)]  # nobody listed it
    final = story.block(deposit(account, 100), foreign, [moved(GATEWAY, PAYER, 3)], request, branch=f"{number}")
    story.mark(finalized=final.number)
    story.block(deposit(1, 50), [moved(PAYER, GATEWAY, 7)], [requested(number)], branch=f"{number}", mark=False)
    story.records[-2] = dataclasses.replace(story.records[-2], value=b"{")
    cut = len(story.records)
    final.events.append(late(final, number))
    story.put(final.events[-1])
    story.retract(1)
    story.revoke(1, f"incident-{number}")
    story.block(deposit(account, 60), branch=f"{number}b", incident=f"incident-{number}", mark=False)
    story.block([internal(1, 2, 1)], [requests("Canceled", subId=str(number))], branch=f"{number}b")
    return story.records[begin:cut], story.records[cut:]


def requested(number: int) -> Any:
    return requests("Requested", requestId=str(number), subId=str(number), hold="40")


def fulfilled(number: int) -> Any:
    return requests("Fulfilled", requestId=str(number), payment="30")


def late(block: Block, number: int) -> Any:
    event_id = "0x" + f"{number + 1:064x}"
    return msgspec.structs.replace(block.events[0], event_id=event_id, log_index=77, late=True)


async def set_up(books: Books) -> None:
    await books.set_up()
    connection = await asyncpg.connect(books.database.writer)
    await store_descriptions(connection, CHAIN_ID, list(registry().records()))
    await connection.close()


async def nothing() -> None:
    """Nobody looks."""


async def live(books: Books, polls: Polls, *, look: Callable[[], Awaitable[None]] = nothing) -> None:
    """As the pipeline does: whatever is lost or fenced is opened again, and begins where the database stands."""
    for upto in (polls[0], [*polls[0], *polls[1]]):
        while (await folded(books, upto)).how != "closed":
            await look()
        while not await promoted(books):
            pass


async def folded(books: Books, records: Sequence[Raw]) -> Ended:
    try:
        worker = await books.worker()
    except DatabaseUnavailable as exc:
        return Ended(how="lost", reason=str(exc))
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        await worker.feed(records)
        await worker.settled()
        await worker.close(timeout_s=10)
    assert worker.ended is not None
    assert worker.ended.how in ("closed", "lost", "fenced"), worker.ended
    return worker.ended


async def promoted(books: Books) -> bool:
    promoter = None
    try:
        promoter = await PromotionStore.open(books.database.writer, chain_id=CHAIN_ID, entries_max=4)
        while await promoter.step() is not None:
            pass
    except DatabaseUnavailable:
        return False
    finally:
        if promoter is not None:
            await promoter.close()
    return True


async def everything(books: Books) -> dict[str, Any]:
    """The digest, and what else a crash could spoil."""
    queries = {
        "breaks": "SELECT subject, asset_code, difference_base_units::TEXT, began_in_block, resolved_block"
        " FROM finance.breaks ORDER BY break_id",
        "streams": "SELECT next_offset, latest_number, finalized_number, stopped_reason FROM ledger.stream ORDER BY 1",
        "head": "SELECT final_number, final_hash FROM ledger.chain_head",
        "heads": "SELECT final_number, final_hash FROM ledger.chain_head_history ORDER BY promoted_at",
        "batches": "SELECT batch_id, first_offset, next_offset, entries, transfers, record_chain FROM ledger.batch"
        " ORDER BY 1",
        "joins": "SELECT book, event, argument, value, event_id FROM ledger.join_key ORDER BY 1, 2, 3, 4, 5",
    }
    return await books.digest() | {name: await books.rows(sql) for name, sql in queries.items()}


async def statements_of(books: Books, polls: Polls, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    fuse = Fuse(books.database.admin)
    fuse.plug_in(monkeypatch, books.database.writer)
    await live(books, polls)
    monkeypatch.undo()
    return fuse.seen


async def verified(books: Books) -> list[Any]:
    async with reading(books.database.writer, chain_id=CHAIN_ID) as reader:
        return [(r.check.name, r.failures) for r in await verify_books(reader) if not r.passed]


@pytest.mark.parametrize("trouble", ["killed before", "answer lost after"])
async def test_a_crash_at_any_statement_changes_nothing(
    postgres_admin_url: str, ledger_template: str, monkeypatch: pytest.MonkeyPatch, trouble: Trouble
) -> None:
    story = Story()
    async with copied(postgres_admin_url, ledger_template) as one, copied(postgres_admin_url, ledger_template) as other:
        calm, troubled = Books(one), Books(other)
        for books in (calm, troubled):
            await set_up(books)
            await books.accept(*(f"incident-{number}" for number in range(500)))
        polls = chapter(story, 0)
        await live(calm, polls)
        statements = await statements_of(troubled, polls, monkeypatch)
        assert len(statements) > 50, statements
        for at in range(len(statements)):
            polls = chapter(story, at + 1)
            await live(calm, polls)
            fuse = Fuse(troubled.database.admin, at=at, trouble=trouble)
            fuse.plug_in(monkeypatch, troubled.database.writer)
            await live(troubled, polls)
            monkeypatch.undo()
            assert fuse.burnt is not None, at
            if at % LOOKS_EVERY == 0 or at == len(statements) - 1:  # nothing is ever deleted: what is wrong stays
                assert await everything(troubled) == await everything(calm), (at, fuse.burnt)
        assert await verified(troubled) == []


class Intruder:
    """Another process that claims the partition while a worker is at some statement of its own."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._claiming: asyncio.Task[Claim] | None = None
        self._connection: asyncpg.Connection | None = None
        self.claimed_at_once = False

    async def claim(self, _: asyncpg.Connection) -> None:
        """Returns when the partition is claimed, or the claim waits for the worker's open db_tx."""
        self._connection = await asyncpg.connect(self._books.database.writer)
        store = BatchStore(self._connection, chain_id=CHAIN_ID)
        self._claiming = asyncio.ensure_future(store.claim(HERE, "intruder", held_before=False))
        watch = await asyncpg.connect(self._books.database.admin)
        sql = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1"
        try:
            async with asyncio.timeout(10):
                waits = False
                while not self._claiming.done() and not waits:
                    waits = await watch.fetchval(sql, self._connection.get_server_pid())
        finally:
            await watch.close()
        self.claimed_at_once = self._claiming.done()

    async def look(self) -> None:
        """Whoever had the partition before has committed nothing since."""
        if self._claiming is None:
            return
        claim = await self._claiming
        ((epoch, next_offset),) = await self._books.rows(
            "SELECT epoch, next_offset FROM ledger.stream WHERE stream_no = $1", claim.stream_no
        )
        assert epoch > claim.epoch or next_offset == claim.state.position.next_offset

    async def leave(self) -> None:
        assert self._connection is not None
        await self._connection.close()


async def test_a_zombie_cannot_commit_at_any_statement(
    postgres_admin_url: str, ledger_template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story()
    async with copied(postgres_admin_url, ledger_template) as one, copied(postgres_admin_url, ledger_template) as other:
        calm, troubled = Books(one), Books(other)
        for books in (calm, troubled):
            await set_up(books)
            await books.accept(*(f"incident-{number}" for number in range(500)))
        polls = chapter(story, 0)
        await live(calm, polls)
        statements = await statements_of(troubled, polls, monkeypatch)
        at_once = 0
        for at in range(len(statements)):
            polls = chapter(story, at + 1)
            await live(calm, polls)
            intruder = Intruder(troubled)
            fuse = Fuse(troubled.database.admin, at=at, between=intruder.claim)
            fuse.plug_in(monkeypatch, troubled.database.writer)
            await live(troubled, polls, look=intruder.look)
            monkeypatch.undo()
            at_once += intruder.claimed_at_once
            await intruder.leave()
            if at % LOOKS_EVERY == 0 or at == len(statements) - 1:
                assert await everything(troubled) == await everything(calm), (at, fuse.burnt)
        assert 0 < at_once < len(statements)  # before a worker has moved its stream, and after
        assert await verified(troubled) == []
