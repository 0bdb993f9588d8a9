"""Compares two books of one chain at the last point that both have reached: live ones with rebuilt ones.

The live ledger goes on meanwhile, so a common cut is taken: per stream the lower position, for final balances the lower
block. Both sides are read as streams in step; memory does not grow with the books. Why this is enough: adr/0005.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from ledger.adapters.books_reader import BooksReader, StreamAt
from ledger.core.journal import AccountAt, BalancesDigest, JournalDigest, JournalEntry, digest_of
from ledger.ports import Partition

ACCOUNTS_SHOWN: Final = 20
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCut:
    """Through which record a stream was compared."""

    partition: Partition
    through: int  # stream_seq
    live_seq: int
    rebuilt_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """One digest of both sides."""

    name: str
    live: str
    rebuilt: str

    @property
    def equal(self) -> bool:
        return self.live == self.rebuilt


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryDifference:
    """The first entry of a stream that is not the same; None: it is not there."""

    partition: Partition
    live: JournalEntry | None
    rebuilt: JournalEntry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountDifference:
    """An account with other sums; None: it is not there."""

    live: AccountAt | None
    rebuilt: AccountAt | None


@dataclass(slots=True, kw_only=True)
class Comparison:
    """What was compared, and what came of it."""

    cut: list[StreamCut] = field(default_factory=list)
    final: int | None = None  # block of the final balances
    digests: list[Digest] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # of streams: one side cannot have what the other has
    notes: list[str] = field(default_factory=list)  # what a reader should know, and is no difference
    entries: list[EntryDifference] = field(default_factory=list)
    accounts: list[AccountDifference] = field(default_factory=list)  # the first few
    accounts_differing: int = 0
    entries_compared: int = 0
    accounts_compared: int = 0

    @property
    def equal(self) -> bool:
        return not self.problems and all(digest.equal for digest in self.digests)


async def compare(live: BooksReader, rebuilt: BooksReader, *, folded_before: Mapping[Partition, int]) -> Comparison:
    """``folded_before``: where the live streams were before the ends of the topics were asked for; all of that is on
    the broker, or was lost there. Raises DatabaseUnavailable.
    """
    found = Comparison()
    ours, theirs = await live.streams(), await rebuilt.streams()
    for partition, stream in ours.items():
        other = theirs[partition]
        _judge_stream(found, stream, other, folded_before=folded_before.get(partition, 0))
        cut = min(stream.stream_seq, other.stream_seq)
        found.cut.append(
            StreamCut(partition=partition, through=cut, live_seq=stream.stream_seq, rebuilt_seq=other.stream_seq)
        )
    await _compare_journals(found, live, rebuilt, ours, theirs)
    heads = await live.final_number(), await rebuilt.final_number()
    found.final = None if None in heads else min(head for head in heads if head is not None)
    await _compare_balances(found, live, rebuilt)
    return found


def _judge_stream(found: Comparison, live: StreamAt, rebuilt: StreamAt, *, folded_before: int) -> None:
    """What the positions alone say."""
    name = f"{live.partition.topic}/{live.partition.number}"
    if live.stream_id and rebuilt.stream_id and live.stream_id != rebuilt.stream_id:
        found.problems.append(f"{name}: the live ledger folded stream {live.stream_id}, now it is {rebuilt.stream_id}")
    elif rebuilt.stopped_reason is not None and live.stream_seq > rebuilt.stream_seq:
        found.problems.append(
            f"{name}: the rebuild stops after record {rebuilt.stream_seq}, at offset {rebuilt.stopped_offset}: "
            f"{rebuilt.stopped_reason}; the live ledger went on to record {live.stream_seq}"
        )
    elif rebuilt.stream_seq < folded_before:
        found.problems.append(
            f"{name}: the live ledger folded {folded_before} records, the topic has {rebuilt.stream_seq}"
        )
    elif live.stream_seq == rebuilt.stream_seq and live.next_offset != rebuilt.next_offset:
        found.problems.append(
            f"{name}: record {live.stream_seq} was folded up to offset {live.next_offset}, now it ends at "
            f"{rebuilt.next_offset}"
        )
    elif rebuilt.stopped_reason is not None:
        found.notes.append(f"{name}: stops after record {rebuilt.stream_seq}, as the live ledger does: "
                           f"{rebuilt.stopped_reason}")  # fmt: skip
    elif live.stream_seq < rebuilt.stream_seq:
        found.notes.append(
            f"{name}: the live ledger is {rebuilt.stream_seq - live.stream_seq} records behind the topic; those were "
            "not compared"
        )


async def _compare_journals(
    found: Comparison,
    live: BooksReader,
    rebuilt: BooksReader,
    ours: Mapping[Partition, StreamAt],
    theirs: Mapping[Partition, StreamAt],
) -> None:
    sides: tuple[list[str], list[str]] = ([], [])
    for cut in found.cut:
        partition = cut.partition
        digests = JournalDigest(), JournalDigest()
        journals = (
            live.journal(ours[partition], through=cut.through),
            rebuilt.journal(theirs[partition], through=cut.through),
        )
        first: EntryDifference | None = None
        async for one, other in _side_by_side(journals[0], journals[1], _seq):
            for digest, entry in zip(digests, (one, other), strict=True):
                if entry is not None:
                    digest.add(entry)
            if first is None and one != other:
                first = EntryDifference(partition=partition, live=one, rebuilt=other)
                found.entries.append(first)
        found.entries_compared += digests[0].entries
        for side, digest in zip(sides, digests, strict=True):
            side.append(f"{partition.topic}/{partition.number} {cut.through} {digest.entries} {digest.hexdigest()}")
            side.append(digest.record_chain.hex())
    _add_digest(found, "journal", *(digest_of(iter(side[::2])) for side in sides))
    _add_digest(found, "record chains", *(digest_of(iter(side[1::2])) for side in sides))


async def _side_by_side(
    live: AsyncIterator[_T], rebuilt: AsyncIterator[_T], place: Callable[[_T], Any]
) -> AsyncIterator[tuple[_T | None, _T | None]]:
    """Both in their common order; what has the same place comes together, None where one side has nothing there."""
    one, other = await anext(live, None), await anext(rebuilt, None)
    while one is not None or other is not None:
        if other is None or (one is not None and place(one) < place(other)):
            yield one, None
            one = await anext(live, None)
        elif one is None or place(other) < place(one):
            yield None, other
            other = await anext(rebuilt, None)
        else:
            yield one, other
            one, other = await anext(live, None), await anext(rebuilt, None)


async def _compare_balances(found: Comparison, live: BooksReader, rebuilt: BooksReader) -> None:
    cut = {each.partition: each.through for each in found.cut}
    digests = BalancesDigest(), BalancesDigest()
    sides = [_moved(reader.balances(cut, final=found.final)) for reader in (live, rebuilt)]
    async for one, other in _side_by_side(sides[0], sides[1], _account):
        found.accounts_compared += 1
        for digest, account in zip(digests, (one, other), strict=True):
            if account is not None:
                digest.add(account)
        if one != other:
            found.accounts_differing += 1
            if len(found.accounts) < ACCOUNTS_SHOWN:
                found.accounts.append(AccountDifference(live=one, rebuilt=other))
    _add_digest(found, "balances", digests[0].latest, digests[1].latest)
    if found.final is not None:
        _add_digest(found, "final balances", digests[0].final, digests[1].final)


async def _moved(accounts: AsyncIterator[AccountAt]) -> AsyncIterator[AccountAt]:
    async for account in accounts:
        if account.debits or account.credits or account.final_debits or account.final_credits:
            yield account


def _seq(entry: JournalEntry) -> int:
    return entry.seq


def _account(account: AccountAt) -> tuple[bytes, bytes]:
    """The order that PostgreSQL's collation "C" has."""
    return account.code.encode(), account.asset.encode()


def _add_digest(found: Comparison, name: str, live: str, rebuilt: str) -> None:
    found.digests.append(Digest(name=name, live=live, rebuilt=rebuilt))
