"""The fold of one batch: items in, entries with their transfers out. Pure, and the same for any batching.

Three steps: ``needs`` says what has to be read back from the journal (most batches need nothing), the shell reads it,
``fold`` decides. An applied event gets the transfers of its description's rules; the last event of a tx also gets the
lines that net what the tx left as inflow on clearing; a retraction mirrors the transfers of what it takes back and
never asks the rules again. What cannot be posted is quarantined; what cannot be true stops the partition. A change
below finality (a record that names an incident) is posted when that incident was accepted, into the open period.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, Protocol

import msgspec

from contracts.accounts import ACCOUNT_CLASSES, parse_account, unattributed_code
from contracts.messages import PaymentEvent, Watermark, asset_address
from contracts.posting import Books, Posting
from contracts.values import Rejection
from ledger.core.recall import NOTHING_RECALLED, NOTHING_UNREAD, JoinKey, NotRead, Recall, Recalled, Unread, join_keys
from ledger.core.record_chain import GENESIS, extended
from ledger.core.records import Change, Item, Mark, Position, Refused, Stop, Withdrawn

AMOUNT_MAX: Final = 10**78 - 1
CLEARING: Final = "clearing:"
_SEGMENT: Final = r"[A-Za-z0-9_.\-]{1,128}"
_NAMED: Final = rf"(?!-:){_SEGMENT}"
_CODE: Final = re.compile(rf"(?:{'|'.join(ACCOUNT_CLASSES)}):{_NAMED}:{_NAMED}:{_SEGMENT}:{_SEGMENT}")
"""What ``contracts.accounts.parse_account`` takes, in one look; that one says what is wrong."""

TxGroup = tuple[bytes, bytes, str]
"""Block hash, tx hash, book: what clearing is netted over."""

Nets = dict[tuple[str, str], tuple[int, str]]
"""(clearing account, asset) → inflow in base units (negative: outflow), and the account for what nobody claims."""


class Rules(Protocol):
    """The posting rules of one description version (contracts.posting.PostingRules)."""

    def postings(self, event: PaymentEvent, books: Books) -> tuple[Posting, ...] | Rejection: ...
    def join_keys(self, event: str) -> tuple[str, ...]: ...
    def default_inflow(self, address: str) -> str | None: ...


RuleBook = Mapping[str, Rules]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """What a worker holds of its partition between two batches."""

    position: Position
    record_chain: bytes = GENESIS
    latest: int | None = None
    latest_at: int | None = None  # Unix seconds of the latest block, as the last watermark said
    finalized: int | None = None
    open_block: bytes | None = None  # hash of the block of the last event; None: not known (just claimed)
    open_txs: Mapping[TxGroup, Nets] = field(default_factory=dict)  # clearing of that block's txs so far


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearingLine:
    """A line that an earlier entry of a tx has on clearing."""

    group: TxGroup
    account: str
    asset: str
    inflow: int  # base units; negative: outflow
    version: str  # description version of its entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What to read back before a batch can be folded."""

    originals: tuple[Change, ...] = ()  # retractions whose entry is not in the batch itself
    groups: tuple[tuple[TxGroup, int], ...] = ()  # txs with entries in earlier batches, and their event_at
    posted: tuple[Change, ...] = ()  # in careful mode: all events
    withdrawn: tuple[bytes, ...] = ()  # event ids whose quarantine rows may be closed
    incidents: tuple[str, ...] = ()  # that records name


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What was read back."""

    originals: Mapping[tuple[bytes, int], tuple[Posting, ...]] = field(default_factory=dict)
    clearing: tuple[ClearingLine, ...] = ()
    posted: frozenset[tuple[bytes, int]] | None = None  # None: not careful, duplicates are not expected
    quarantined: Mapping[tuple[bytes, int], int] = field(default_factory=dict)  # → quarantine_id
    withdrawn: frozenset[tuple[bytes, int]] = frozenset()  # in careful mode: quarantined and taken back, never posted
    accepted: frozenset[str] = frozenset()  # of the incidents that were asked for
    recalled: Recalled = NOTHING_RECALLED


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry to post."""

    change: Change
    lines: tuple[Posting, ...]
    late: bool
    counts_at: int  # Unix seconds; its UTC day is the accounting date
    keys: tuple[JoinKey, ...] = ()  # by which later events find it
    fresh: bool = False  # the revisions just before were never posted: they were quarantined and taken back


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """A quarantine row that a retraction closes: by its id, or by the number of its record in this batch."""

    seq: int  # of the retraction
    quarantine_id: int | None = None
    refused_seq: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What one batch does to the books."""

    before: StreamState
    after: StreamState
    entries: tuple[Entry, ...] = ()
    refused: tuple[Refused, ...] = ()
    closings: tuple[Closing, ...] = ()
    mark: Mark | None = None  # the last watermark
    duplicates: int = 0
    stop: Stop | None = None
    unread: Unread = NOTHING_UNREAD  # not empty: this is no result; read that, and fold again

    @property
    def touches_final(self) -> bool:
        """Whether an entry may belong to a block that was promoted already."""
        finalized = self.before.finalized
        return finalized is not None and any(e.change.event.block_number <= finalized for e in self.entries)


def needs(items: Sequence[Item], state: StreamState, *, careful: bool = False) -> Needs:
    """What ``fold`` has to know of earlier batches."""
    changes = [item for item in items if isinstance(item, Change)]
    originals: tuple[Change, ...] = ()
    withdrawn = {item.event_id for item in items if isinstance(item, Withdrawn)}
    retractions = [change for change in changes if change.retracts]
    if retractions:
        here = {(change.event_id, change.event.revision) for change in changes}
        originals = tuple(c for c in retractions if careful or (c.event_id, c.event.revision - 1) not in here)
        withdrawn |= {change.event_id for change in retractions}
    groups: dict[TxGroup, int] = {}
    cut = None if state.open_block is not None or not changes else changes[0].block_hash
    for change in changes:
        event = change.event
        unusual = event.closes_tx and (careful or event.late or event.revision > 1)
        if not change.retracts and (unusual or change.block_hash == cut):
            groups[_group(change)] = event.block_timestamp
    return Needs(
        originals=originals,
        groups=tuple(groups.items()),
        posted=tuple(changes) if careful else (),
        withdrawn=tuple(sorted(withdrawn)),
        incidents=tuple(sorted({c.event.incident_id for c in changes if c.event.incident_id is not None})),
    )


def fold(
    items: Sequence[Item], state: StreamState, known: Knowledge, rules: RuleBook, *, stream_id: str | None
) -> Folded:
    """Decides the batch. Ends at the first item that stops the partition; what came before it stands.

    ``stream_id`` is the stream's, as the scan of these items found it.
    """
    return _Fold(state, known, rules, stream_id).run(items)


def refusing(items: Iterable[Item], seq: int, reason: str) -> list[Item]:
    """The items with one change replaced by its refusal: the database would not take it."""
    return [
        Refused(
            offset=item.offset,
            seq=item.seq,
            origin="database",
            code="refused_by_database",
            reason=reason,
            record=item.record,
            event_id=item.event_id,
            revision=item.event.revision,
            message=item.event,
        )
        if item.seq == seq and isinstance(item, Change)
        else item
        for item in items
    ]


class _Fold:
    """The state of one fold while it goes through the items."""

    def __init__(self, state: StreamState, known: Knowledge, rules: RuleBook, stream_id: str | None) -> None:
        self._before = state
        self._stream_id = stream_id
        self._known = known
        self._rules = rules
        self._entries: list[Entry] = []
        self._refused: list[Refused] = []
        self._closings: list[Closing] = []
        self._mark: Mark | None = None
        self._duplicates = 0
        self._chain = state.record_chain
        self._latest_at = state.latest_at
        self._finalized = -1 if state.finalized is None else state.finalized
        self._open_block = state.open_block
        self._originals: dict[tuple[bytes, int], tuple[Posting, ...]] = dict(known.originals)
        self._quarantined: dict[tuple[bytes, int], Closing] = {
            key: Closing(seq=0, quarantine_id=value) for key, value in known.quarantined.items()
        }
        self._posted = None if known.posted is None else set(known.posted)
        self._nets: dict[TxGroup, Nets] = {group: dict(nets) for group, nets in state.open_txs.items()}
        self._inflow_accounts: dict[tuple[str, str], str] = {}
        self._keep_originals = True
        self._recall = Recall(known.recalled)
        self._withdrawn = set(known.withdrawn)

    def run(self, items: Sequence[Item]) -> Folded:
        self._keep_originals = any(isinstance(item, Change) and item.retracts for item in items)
        self._read_back()
        position = self._before.position
        stop: Stop | None = None
        for item in items:
            stop = self._take(item)
            if stop is not None:
                break
            position = Position(next_offset=item.offset + 1, stream_id=self._stream_id, stream_seq=item.seq)
        return Folded(
            before=self._before,
            after=self._after(position),
            entries=tuple(self._entries),
            refused=tuple(self._refused),
            closings=tuple(self._closings),
            mark=self._mark,
            duplicates=self._duplicates,
            stop=stop,
            unread=self._recall.unread,
        )

    def _after(self, position: Position) -> StreamState:
        mark = self._mark
        nets = {group: nets for group, nets in self._nets.items() if group[0] == self._open_block}
        return StreamState(
            position=position,
            record_chain=self._chain,
            latest=self._before.latest if mark is None else mark.watermark.latest.number,
            latest_at=self._latest_at,
            finalized=self._before.finalized if mark is None else mark.watermark.finalized.number,
            open_block=self._open_block,
            open_txs=nets,
        )

    def _read_back(self) -> None:
        """Nets of txs that were read back replace what memory holds of them."""
        for line in self._known.clearing:
            self._nets.pop(line.group, None)
        for line in self._known.clearing:
            self._count(self._nets.setdefault(line.group, {}), line.account, line.asset, line.inflow, line.version)

    def _take(self, item: Item) -> Stop | None:
        match item:
            case Change():
                if (stop := self._unaccepted(item)) is not None:
                    return stop
                return self._retract(item) if item.retracts else self._apply(item)
            case Mark():
                return self._watermark(item)
            case Refused():
                self._quarantine(item)
            case Withdrawn():
                return self._withdraw(item.event_id, item.revision, item.seq, item.offset)
        return None

    def _unaccepted(self, change: Change) -> Stop | None:
        """A change below finality waits until an operator accepts the incident that it names."""
        event = change.event
        if event.incident_id is None or event.incident_id in self._known.accepted:
            return None
        does = "takes back" if change.retracts else "adds"
        reason = (
            f"incident {event.incident_id}: the chain has changed below finality. Its first record {does} "
            f"{event.event} of {event.contract} in block {event.block_number} (tx {event.tx_hash}, event "
            f"{event.event_id}); how many follow is not known. Nothing of it is posted until somebody runs: "
            f"chainbooks-ledger incident accept {event.incident_id} --reason TEXT"
        )
        return Stop(offset=change.offset, reason=reason, incident=event.incident_id)

    def _apply(self, change: Change) -> Stop | None:
        event = change.event
        self._enter_block(change)
        if self._is_duplicate(change):
            return None
        fresh = (change.event_id, event.revision - 2) in self._withdrawn
        before = (change.event_id, event.revision - 1)
        if self._posted is not None and event.revision > 1 and not fresh and before not in self._posted:
            reason = f"revision {event.revision} of event {event.event_id} comes without revision {event.revision - 1}"
            return Stop(offset=change.offset, reason=reason)
        rules = self._rules.get(event.description_version)
        if rules is None:
            reason = f"description version {event.description_version} of {event.contract} is not in the registry topic"
            return Stop(offset=change.offset, reason=reason, unknown_version=event.description_version)
        try:
            lines = rules.postings(event, self._recall.before(event))
        except NotRead:
            return None
        if isinstance(lines, tuple):
            lines = _checked(lines)
        if isinstance(lines, Rejection):
            self._quarantine(_refused(change, lines))
            return None
        keys = join_keys(event, rules.join_keys(event.event))
        lines += self._netting(change, lines, rules)
        self._post(change, lines, keys, fresh=fresh)
        self._recall.post(change.event_id, event.args, keys, lines)
        return None

    def _retract(self, change: Change) -> Stop | None:
        event = change.event
        if event.op != "revoked" and event.block_number <= self._finalized:
            reason = (
                f"event {event.event_id} of block {event.block_number} is retracted, but block {self._finalized} was "
                "final: what was final can only be revoked, by an incident; this is not posted"
            )
            return Stop(offset=change.offset, reason=reason)
        self._enter_block(change)
        if self._is_duplicate(change):
            return None
        original = self._originals.get((change.event_id, event.revision - 1))
        if original is None:
            return self._withdraw(change.event_id, event.revision, change.seq, change.offset)
        lines = tuple(Posting(line.credit, line.debit, line.asset, line.amount) for line in original)
        group = _group(change)
        if group in self._nets:
            self._count_lines(self._nets[group], lines, event.description_version)
        self._post(change, lines)
        self._recall.retract(change.event_id, lines)
        return None

    def _watermark(self, mark: Mark) -> Stop | None:
        watermark: Watermark = mark.watermark
        if watermark.finalized.number < self._finalized:
            reason = f"finalized went back from {self._finalized} to {watermark.finalized.number}"
            return Stop(offset=mark.offset, reason=reason)
        self._finalized = watermark.finalized.number
        self._latest_at = watermark.latest_timestamp
        self._mark = mark
        return None

    def _withdraw(self, event_id: bytes, revision: int, seq: int, offset: int) -> Stop | None:
        """A retraction of something that is in quarantine closes that row."""
        closing = self._quarantined.pop((event_id, revision - 1), None)
        if closing is None:
            what = f"revision {revision - 1} of event 0x{event_id.hex()}"
            return Stop(offset=offset, reason=f"retracts {what}, which was neither posted nor quarantined")
        self._closings.append(replace(closing, seq=seq))
        self._withdrawn.add((event_id, revision - 1))
        return None

    def _quarantine(self, refused: Refused) -> None:
        self._refused.append(refused)
        if refused.event_id is not None and refused.revision is not None:
            self._quarantined[(refused.event_id, refused.revision)] = Closing(seq=0, refused_seq=refused.seq)

    def _post(
        self, change: Change, lines: tuple[Posting, ...], keys: tuple[JoinKey, ...] = (), *, fresh: bool = False
    ) -> None:
        event = change.event
        late = event.late or event.incident_id is not None or event.block_number <= self._finalized
        self._entries.append(Entry(change, lines, late, self._counts_at(event), keys, fresh))
        self._chain = extended(self._chain, event, lines)
        if self._keep_originals:
            self._originals[(change.event_id, event.revision)] = lines

    def _counts_at(self, event: PaymentEvent) -> int:
        """Of its block; of the latest block known when an incident changes what was reported already."""
        if event.incident_id is None or self._latest_at is None:
            return event.block_timestamp
        return max(event.block_timestamp, self._latest_at)

    def _is_duplicate(self, change: Change) -> bool:
        if self._posted is None:
            return False
        key = (change.event_id, change.event.revision)
        if key in self._posted:
            self._duplicates += 1
            return True
        self._posted.add(key)
        return False

    def _enter_block(self, change: Change) -> None:
        if change.block_hash != self._open_block:
            self._open_block = change.block_hash

    def _netting(self, change: Change, lines: tuple[Posting, ...], rules: Rules) -> tuple[Posting, ...]:
        """Counts the event's lines on clearing; on the last event of its tx, returns the lines that net the inflow."""
        event = change.event
        group = (change.block_hash, change.tx_hash, event.book)
        nets = self._nets.get(group)
        if nets is None:
            nets = {}
            if not event.closes_tx:
                self._nets[group] = nets
        self._count_lines(nets, lines, event.description_version)
        if not nets or not event.closes_tx:
            return ()
        extra: list[Posting] = []
        for (account, asset), (inflow, target) in sorted(nets.items()):
            rest = inflow
            while rest > 0:
                amount = min(rest, AMOUNT_MAX)
                extra.append(Posting(account, target, asset, amount))
                rest -= amount
            if inflow > 0:
                nets[(account, asset)] = (0, target)
        return tuple(extra)

    def _count_lines(self, nets: Nets, lines: tuple[Posting, ...], version: str) -> None:
        for line in lines:
            if line.credit.startswith(CLEARING):
                self._count(nets, line.credit, line.asset, line.amount, version)
            if line.debit.startswith(CLEARING):
                self._count(nets, line.debit, line.asset, -line.amount, version)

    def _count(self, nets: Nets, account: str, asset: str, inflow: int, version: str) -> None:
        known = nets.get((account, asset))
        nets[(account, asset)] = ((0 if known is None else known[0]) + inflow, self._inflow_account(account, version))

    def _inflow_account(self, clearing: str, version: str) -> str:
        """Where unclaimed inflow of this clearing account goes, as the last event that touched it says."""
        target = self._inflow_accounts.get((clearing, version))
        if target is None:
            _, book, _, address, _ = clearing.split(":")
            rules = self._rules.get(version)
            found = rules.default_inflow(address) if rules is not None else None
            target = self._inflow_accounts[(clearing, version)] = found or unattributed_code(book, address)
        return target


def _group(change: Change) -> TxGroup:
    return (change.block_hash, change.tx_hash, change.event.book)


def _refused(change: Change, rejection: Rejection) -> Refused:
    return Refused(
        offset=change.offset,
        seq=change.seq,
        origin="rules",
        code=rejection.code,
        reason=rejection.reason.replace("\0", "␀"),
        record=change.record,
        event_id=change.event_id,
        revision=change.event.revision,
        message=change.event,
    )


def _checked(lines: tuple[Posting, ...]) -> tuple[Posting, ...] | Rejection:
    """Codes and assets are made of values from the chain: what is none is refused here, before it costs a batch."""
    for line in lines:
        fault = _code_fault(line.debit) or _code_fault(line.credit) or _asset_fault(line.asset)
        if fault is not None:
            return Rejection(code="malformed_account", reason=fault)
        if not 0 < line.amount <= AMOUNT_MAX:
            return Rejection(code="amount_out_of_range", reason=f"amount {line.amount} is not 1 to 10^78 - 1")
    return lines


@lru_cache(maxsize=65_536)
def _code_fault(code: str) -> str | None:
    if _CODE.fullmatch(code):
        return None
    try:
        parse_account(code)
    except ValueError as exc:
        return str(exc).replace("\0", "␀")
    return None


@lru_cache(maxsize=4_096)
def _asset_fault(asset: str) -> str | None:
    try:
        _, address = asset_address(asset)
        bytes.fromhex(address[2:])
    except ValueError as exc:
        return f"asset {asset[:100]!r}: {exc}".replace("\0", "␀")
    return None
