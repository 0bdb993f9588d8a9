"""The books in memory: what ``BatchStore`` does, in the simplest way, for tests of the core and the worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from contracts.posting import Posting
from ledger.core.fold import ClearingLine, Entry, Folded, Knowledge, Needs, StreamState
from ledger.core.recall import Earlier, JoinKey, Recalled, Unread
from ledger.core.records import Position, Stop
from ledger.errors import DatabaseRefused, Fenced, Superseded
from ledger.ports import Claim, Partition, Staged, StorePort


@dataclass(slots=True)
class Shelf:
    """One partition's books; survives its stores, as a database does."""

    epoch: int = 0
    owner: str | None = None
    state: StreamState = field(default_factory=lambda: StreamState(position=Position(next_offset=0)))
    entries: list[Entry] = field(default_factory=list)
    quarantine: dict[int, tuple[bytes | None, int | None, str, int | None]] = field(default_factory=dict)
    stopped: tuple[str, int] | None = None
    accepted: set[str] = field(default_factory=set)
    batches: int = 0

    def balances(self) -> dict[tuple[str, str], int]:
        """(account, asset) → net; zeros left out."""
        net: dict[tuple[str, str], int] = defaultdict(int)
        for entry in self.entries:
            for line in entry.lines:
                net[(line.debit, line.asset)] += line.amount
                net[(line.credit, line.asset)] -= line.amount
        return {key: value for key, value in net.items() if value}

    def journal(self) -> list[tuple[str, int, bool, int, tuple[Posting, ...]]]:
        return [(e.change.event.event_id, e.change.event.revision, e.late, e.counts_at, e.lines) for e in self.entries]

    def digest(self) -> object:
        """Everything that must not depend on batching."""
        return (self.journal(), self.balances(), self.state.record_chain, self.state.position, self.quarantine)


class FakeStore(StorePort):
    """Fences, refuses duplicates and orphans as the schema's constraints do."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    async def claim(self, partition: Partition, owner: str, *, held_before: bool = False) -> Claim:
        shelf = self.shelf
        name, _, _ = owner.partition("#")
        if held_before and shelf.owner not in (None, owner) and str(shelf.owner).partition("#")[0] == name:
            raise Superseded("another process of our name")
        shelf.owner = owner
        shelf.epoch += 1
        before = shelf.state  # what a database does not keep is forgotten
        state = StreamState(
            position=before.position,
            record_chain=before.record_chain,
            latest=before.latest,
            latest_at=before.latest_at,
            finalized=before.finalized,
        )
        return Claim(partition=partition, stream_no=1, kind="events", epoch=shelf.epoch, state=state)

    async def read_back(self, claim: Claim, needs: Needs) -> Knowledge:
        del claim
        entries = self.shelf.entries
        wanted = {(c.event_id, c.event.revision - 1) for c in needs.originals}
        groups = {group for group, _ in needs.groups}
        posted = {c.event_id for c in needs.posted}
        return Knowledge(
            originals={k: e.lines for e in entries if (k := (e.change.event_id, e.change.event.revision)) in wanted},
            clearing=tuple(line for e in entries if _group(e) in groups for line in _clearing(e)),
            posted=frozenset(
                (e.change.event_id, e.change.event.revision) for e in entries if e.change.event_id in posted
            )
            if needs.posted
            else None,
            accepted=await self.accepted(needs.incidents),
            withdrawn=frozenset(
                (event_id, revision)
                for event_id, revision, _, closed in self.shelf.quarantine.values()
                if closed is not None and event_id in posted and event_id is not None and revision is not None
            ),
            quarantined={
                (event_id, revision): number
                for number, (event_id, revision, _, closed) in self.shelf.quarantine.items()
                if closed is None and event_id in needs.withdrawn and event_id is not None and revision is not None
            },
        )

    async def recall(self, claim: Claim, unread: Unread) -> Recalled:
        del claim
        joins: dict[JoinKey, list[Earlier]] = {key: [] for key in unread.joins}
        standing: dict[bytes, Entry] = {}
        for entry in self.shelf.entries:
            standing.pop(entry.change.event_id, None)
            if not entry.change.retracts:
                standing[entry.change.event_id] = entry
        for event_id, entry in standing.items():
            for key in unread.joins & set(entry.keys):
                joins[key].append(Earlier(event_id, entry.change.event.args))
        net = self.shelf.balances()
        return Recalled(joins=joins, balances={account: net.get(account, 0) for account in unread.balances})

    def stage(self, claim: Claim, folded: Folded) -> Staged:
        del claim
        return Staged(folded=folded)

    async def commit(self, claim: Claim, staged: Staged) -> None:
        shelf, folded = self.shelf, staged.folded
        if claim.epoch != shelf.epoch:
            raise Fenced("another writer", by="somebody")
        if folded.before.position.next_offset != shelf.state.position.next_offset:
            raise Fenced("the position has moved")
        posted = {(e.change.event_id, e.change.event.revision) for e in shelf.entries}
        for entry in folded.entries:
            key = (entry.change.event_id, entry.change.event.revision)
            if key in posted or (key[1] > 1 and not entry.fresh and (key[0], key[1] - 1) not in posted):
                raise DatabaseRefused("entry_revision")
            if entry.fresh and any(
                (key[0], n) in posted and (key[0], n + 1) not in posted for n in range(1, key[1], 2)
            ):
                raise DatabaseRefused("entry_fresh")
            posted.add(key)
        shelf.entries.extend(folded.entries)
        for refused in folded.refused:
            shelf.quarantine[refused.seq] = (refused.event_id, refused.revision, refused.code, None)
        for closing in folded.closings:
            number = closing.quarantine_id or closing.refused_seq or 0
            event_id, revision, code, _ = shelf.quarantine[number]
            shelf.quarantine[number] = (event_id, revision, code, closing.seq)
        shelf.state = folded.after
        shelf.batches += 1

    async def stop(self, claim: Claim, stop: Stop) -> None:
        if claim.epoch != self.shelf.epoch:
            raise Fenced("another writer", by="somebody")
        self.shelf.stopped = (stop.reason, stop.offset)

    async def accepted(self, incidents: Collection[str]) -> frozenset[str]:
        return frozenset(self.shelf.accepted & set(incidents))

    async def maintain(self) -> None:
        return

    async def close(self) -> None:
        return


def _group(entry: Entry) -> tuple[bytes, bytes, str]:
    change = entry.change
    return (change.block_hash, change.tx_hash, change.event.book)


def _clearing(entry: Entry) -> list[ClearingLine]:
    found = []
    for line in entry.lines:
        for code, amount in ((line.debit, -line.amount), (line.credit, line.amount)):
            if code.startswith("clearing:"):
                found.append(
                    ClearingLine(
                        group=_group(entry),
                        account=code,
                        asset=line.asset,
                        inflow=amount,
                        version=entry.change.event.description_version,
                    )
                )
    return found
