"""A fold of a few blocks in memory, for an author who tries a description: postings, refusals, what stays in clearing.

It begins with empty books: what happened before its first block it does not know. The ledger's fold is another program
(ledger.core.fold); this one publishes and stores nothing. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts.messages import PaymentEvent
from contracts.posting import Posting, PostingRules, Rejection, join_text

Account = tuple[str, str]
"""Code and asset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One event and what came of it."""

    event: PaymentEvent
    outcome: tuple[Posting, ...] | Rejection


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a tx left in a clearing account: positive is inflow that nobody claims, negative outflow, a break."""

    block_number: int
    tx_hash: str
    account: str
    asset: str
    amount: int
    goes_to: str | None  # who is credited with inflow; None for outflow


@dataclass(slots=True)
class Trial:
    """Events go in, in chain order; ``left`` says what their txs did not bring back to zero."""

    rules: Mapping[str, PostingRules]  # by version
    balances: dict[Account, int] = field(default_factory=dict)
    _earlier: dict[tuple[str, str, str, str, str], Mapping[str, Any]] = field(default_factory=dict)
    _clearing: dict[tuple[int, str, str, str], int] = field(default_factory=dict)
    _inflow: dict[str, str | None] = field(default_factory=dict)

    def take(self, event: PaymentEvent) -> Tried:
        """Posts one event."""
        rules = self.rules[event.description_version]
        outcome = rules.postings(event, _Books(self, event))
        if isinstance(outcome, Rejection):
            return Tried(event=event, outcome=outcome)
        for argument in rules.join_keys(event.event):
            key = (event.book, event.contract, event.event, argument, join_text(event.args.get(argument)))
            self._earlier[key] = event.args
        for account, asset, amount in _sides(outcome):
            self.balances[account, asset] = self.balances.get((account, asset), 0) + amount
            if account.startswith("clearing:"):
                place = (event.block_number, event.tx_hash, account, asset)
                self._clearing[place] = self._clearing.get(place, 0) - amount
                self._inflow[account] = rules.default_inflow(account.split(":")[3]) or self._inflow.get(account)
        return Tried(event=event, outcome=outcome)

    def left(self) -> list[Left]:
        """In the order in which it happened."""
        return [
            Left(
                block_number=number,
                tx_hash=tx_hash,
                account=account,
                asset=asset,
                amount=amount,
                goes_to=self._inflow[account] if amount > 0 else None,
            )
            for (number, tx_hash, account, asset), amount in self._clearing.items()
            if amount
        ]

    def earlier(self, key: tuple[str, str, str, str, str]) -> Mapping[str, Any] | None:
        return self._earlier.get(key)


@dataclass(frozen=True, slots=True)
class _Books:
    """``contracts.posting.Books`` of a trial."""

    trial: Trial
    event: PaymentEvent

    def joined(self, event: str, argument: str, value: object) -> Mapping[str, Any] | None:
        return self.trial.earlier((self.event.book, self.event.contract, event, argument, join_text(value)))

    def balance(self, account: str, asset: str) -> int:
        return self.trial.balances.get((account, asset), 0)


def _sides(lines: Sequence[Posting]) -> Iterator[tuple[str, str, int]]:
    for line in lines:
        yield line.debit, line.asset, line.amount
        yield line.credit, line.asset, -line.amount
