"""What posting rules ask of the books just before an event: earlier events by key, and balances. Pure.

A fold begins with what was read back. What it lacks is noted in ``unread`` and the event is left out; the shell reads
it and folds the batch again. So most batches, whose rules ask nothing, cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from contracts.messages import PaymentEvent
from contracts.posting import Posting, join_text

Balance = tuple[str, str]
"""Account code and asset."""


class JoinKey(NamedTuple):
    """By what an earlier event is found."""

    book: str
    contract: str
    event: str
    argument: str
    value: str  # text of its JSON form


class Earlier(NamedTuple):
    """A standing event that can be joined."""

    event_id: bytes
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """What has to be read before a batch can be folded. False when there is nothing."""

    joins: frozenset[JoinKey] = frozenset()
    balances: frozenset[Balance] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.joins or self.balances)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """What was read: for each key its standing events, oldest first; debits minus credits of each account."""

    joins: Mapping[JoinKey, Sequence[Earlier]] = field(default_factory=dict)
    balances: Mapping[Balance, int] = field(default_factory=dict)

    def and_then(self, more: Recalled) -> Recalled:
        return Recalled(joins=dict(self.joins) | dict(more.joins), balances=dict(self.balances) | dict(more.balances))


NOTHING_UNREAD: Final = Unread()
NOTHING_RECALLED: Final = Recalled()


class NotRead(Exception):
    """Rules asked for something that was not read back."""


class Recall:
    """What the books know while one batch is folded."""

    def __init__(self, recalled: Recalled) -> None:
        self._joins = {key: list(events) for key, events in recalled.joins.items()}
        self._balances = dict(recalled.balances)
        self._fresh: dict[JoinKey, list[Earlier]] = {}  # of keys whose past was not read
        self._keys_of: dict[bytes, list[JoinKey]] = {}
        for key, events in self._joins.items():
            for event in events:
                self._keys_of.setdefault(event.event_id, []).append(key)
        self._missing_joins: set[JoinKey] = set()
        self._missing_balances: set[Balance] = set()

    @property
    def unread(self) -> Unread:
        return Unread(joins=frozenset(self._missing_joins), balances=frozenset(self._missing_balances))

    def before(self, event: PaymentEvent) -> _BooksBefore:
        """What the rules of an event may ask. Its methods raise NotRead."""
        return _BooksBefore(self, event)

    def post(self, event_id: bytes, args: Mapping[str, Any], keys: Iterable[JoinKey], lines: Iterable[Posting]) -> None:
        """An event was posted."""
        for key in keys:
            known = self._joins.get(key)
            events = self._fresh.setdefault(key, []) if known is None else known
            events.append(Earlier(event_id, args))
            self._keys_of.setdefault(event_id, []).append(key)
        self._move(lines)

    def retract(self, event_id: bytes, lines: Iterable[Posting]) -> None:
        """An event was taken back, with these contra lines."""
        for key in self._keys_of.pop(event_id, ()):
            for known in (self._joins, self._fresh):
                if key in known:
                    known[key] = [event for event in known[key] if event.event_id != event_id]
        self._move(lines)

    def joined(self, key: JoinKey) -> Mapping[str, Any] | None:
        """The latest standing event of a key. One of this batch is the latest, whatever came before."""
        events = self._joins.get(key)
        if events is None:
            fresh = self._fresh.get(key)
            if fresh:
                return fresh[-1].args
            self._missing_joins.add(key)
            raise NotRead(key)
        return events[-1].args if events else None

    def balance(self, account: Balance) -> int:
        if account not in self._balances:
            self._missing_balances.add(account)
            raise NotRead(account)
        return self._balances[account]

    def _move(self, lines: Iterable[Posting]) -> None:
        if not self._balances:
            return
        for line in lines:
            for account, amount in ((line.debit, line.amount), (line.credit, -line.amount)):
                if (account, line.asset) in self._balances:
                    self._balances[account, line.asset] += amount


class _BooksBefore:
    """``contracts.posting.Books`` for one event."""

    __slots__ = ("_event", "_recall")

    def __init__(self, recall: Recall, event: PaymentEvent) -> None:
        self._recall = recall
        self._event = event

    def joined(self, event: str, argument: str, value: object) -> Mapping[str, Any] | None:
        ours = self._event
        return self._recall.joined(JoinKey(ours.book, ours.contract, event, argument, join_text(value)))

    def balance(self, account: str, asset: str) -> int:
        return self._recall.balance((account, asset))


def join_keys(event: PaymentEvent, arguments: Iterable[str]) -> tuple[JoinKey, ...]:
    """Under which keys later events find this one."""
    return tuple(
        JoinKey(event.book, event.contract, event.event, argument, join_text(event.args[argument]))
        for argument in arguments
        if argument in event.args
    )
