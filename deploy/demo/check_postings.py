"""The checker's own postings: who owes and holds what after each event, written by hand. Part of ``check.py``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.demo.check_events import NATIVE, Deployment, Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Debit one account, credit another, by an amount above zero."""

    debit: str
    credit: str
    asset: str
    amount: int


Balances = dict[tuple[str, str], int]
"""(account code, asset) → debits − credits; zeros left out."""


def asset_id(address: str, chain_id: int) -> str:
    return f"eip155:{chain_id}/slip44:60" if address == NATIVE else f"eip155:{chain_id}/erc20:{address}"


class Chart:
    """Account codes of one contract, for one asset. ``outside`` is where money comes from or goes to on its other side:
    clearing for tokens (their Transfer moves custody), custody itself for the native coin (no log of its own)."""

    def __init__(self, book: str, address: str, asset_address: str) -> None:
        self.custody = f"assets:{book}:onchain:{address}:-"
        self.clearing = f"clearing:{book}:contract:{address}:-"
        self.unattributed = f"liabilities:{book}:unattributed:{address}:-"
        self.outside = self.custody if asset_address == NATIVE else self.clearing
        self._book = book

    def account(self, subject: str) -> str:
        return f"liabilities:{self._book}:account:{subject}:available"

    def escrow(self, payment: str) -> str:
        return f"liabilities:{self._book}:escrow:{payment}:-"


def _gateway_legs(name: str, a: Mapping[str, Any], c: Chart) -> list[tuple[str, str, int]]:
    """(debit, credit, amount) of one event of the gateway."""
    match name:
        case "Deposited":
            return [(c.outside, c.account(a["accountId"]), a["received"])]
        case "InvoicePaid":
            return [
                (c.outside, c.account(a["merchantId"]), a["gross"] - a["fee"]),
                (c.outside, c.account(a["feeAccount"]), a["fee"]),
            ]
        case "PaymentAuthorized":
            return [(c.outside, c.escrow(a["paymentId"]), a["amount"])]
        case "PaymentCaptured":
            return [
                (c.escrow(a["paymentId"]), c.account(a["merchantId"]), a["amount"] - a["fee"]),
                (c.escrow(a["paymentId"]), c.account(a["feeAccount"]), a["fee"]),
            ]
        case "PaymentVoided":
            return [(c.escrow(a["paymentId"]), c.outside, a["amount"])]
        case "SubscriptionCharged":
            return [
                (c.account(a["customerId"]), c.account(a["merchantId"]), a["gross"] - a["fee"]),
                (c.account(a["customerId"]), c.account(a["feeAccount"]), a["fee"]),
            ]
        case "Refunded":
            return [
                (c.account(a["merchantId"]), c.outside, a["amount"] - a["feeReturned"]),
                (c.account(a["feeAccount"]), c.outside, a["feeReturned"]),
            ]
        case "InternalTransfer":
            return [(c.account(a["from"]), c.account(a["to"]), a["amount"])]
        case "Withdrawn":
            return [(c.account(a["accountId"]), c.outside, a["amount"])]
        case "Adjusted" if a["delta"] < 0:
            return [(c.account(a["accountId"]), c.unattributed, -a["delta"])]
        case "Adjusted":
            return [(c.unattributed, c.account(a["accountId"]), a["delta"])]
        case "UnattributedSwept":
            return [(c.unattributed, c.outside, a["amount"])]
        case "AccountOpened" | "RoleGranted" | "FeeScheduleSet" | "AssetListed":
            return []
    raise ValueError(f"no posting for {name}")


def _vault_legs(name: str, a: Mapping[str, Any], c: Chart) -> list[tuple[str, str, int]]:
    if name == "Deposited":
        return [(c.outside, c.account(a["account"]), a["amount"])]
    return [(c.account(a["account"]), c.outside, a["amount"])]


def moves_of_tx(events: Sequence[Event], deployment: Deployment) -> Iterator[Move]:
    """The moves of one tx.

    What came in and was claimed by no event of the tx is moved on to unattributed; what went out without one stays in
    clearing, to be seen.
    """
    moves: list[Move] = []
    for event in events:
        moves += _moves(event, deployment)
    yield from moves
    clearing: Balances = defaultdict(int)
    for move in moves:
        clearing[move.debit, move.asset] += move.amount
        clearing[move.credit, move.asset] -= move.amount
    for (code, asset), amount in clearing.items():
        if code.startswith("clearing:") and amount < 0:
            unattributed = code.replace("clearing:", "liabilities:", 1).replace(":contract:", ":unattributed:", 1)
            yield Move(debit=code, credit=unattributed, asset=asset, amount=-amount)


def _moves(event: Event, deployment: Deployment) -> list[Move]:
    books = deployment.books
    if event.source == "token":
        asset, legs = event.address, []
        giver, receiver = event.args["from"], event.args["to"]
        if giver in books and giver != receiver:
            chart = Chart(books[giver], giver, asset)
            legs.append((chart.clearing, chart.custody, event.args["value"]))
        if receiver in books and giver != receiver:
            chart = Chart(books[receiver], receiver, asset)
            legs.append((chart.custody, chart.clearing, event.args["value"]))
    else:
        asset = event.args.get("asset", NATIVE)
        chart = Chart(books[event.address], event.address, asset)
        legs = (_gateway_legs if event.source == "gateway" else _vault_legs)(event.name, event.args, chart)
    named = asset_id(asset, deployment.chain_id)
    return [Move(debit=debit, credit=credit, asset=named, amount=amount) for debit, credit, amount in legs if amount]


def is_ours(event: Event, deployment: Deployment) -> bool:
    """Tokens move between many; only movements from or to our contracts count."""
    return event.source != "token" or not deployment.books.keys().isdisjoint((event.args["from"], event.args["to"]))


def balances_of(events: Iterable[Event], deployment: Deployment) -> Balances:
    """All books after these events, which are in chain order."""
    by_tx: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        by_tx[event.block_hash, event.tx_hash].append(event)
    sums: Balances = defaultdict(int)
    for events_of_tx in by_tx.values():
        for move in moves_of_tx(events_of_tx, deployment):
            sums[move.debit, move.asset] += move.amount
            sums[move.credit, move.asset] -= move.amount
    return {key: amount for key, amount in sums.items() if amount}
