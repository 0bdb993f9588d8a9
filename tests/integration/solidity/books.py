"""The books as an accountant would keep them from the gateway's logs alone, and what must agree with the chain.

Follows the flow table of the domain and nothing of the contract's own arithmetic: claims from the gateway's money
events, custody from the tokens' Transfers (native money: from the events, for plain sends leave no log).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.integration.solidity.chain import NATIVE, Contract, Log, Node

Args = Mapping[str, Any]


class Books:
    """What the logs say, folded in their order."""

    def __init__(self) -> None:
        self.available: dict[tuple[bytes, str], int] = defaultdict(int)
        self.escrow: dict[bytes, int] = defaultdict(int)
        self.escrow_asset: dict[bytes, str] = {}
        self.in_and_out: dict[str, int] = defaultdict(int)  # claims' own view of what came in and went out, per asset
        self.captured: dict[tuple[bytes, bytes], int] = defaultdict(int)
        self.refunded: dict[tuple[bytes, bytes], int] = defaultdict(int)
        self.authorized: dict[bytes, int] = {}
        self.numbers: list[int] = []

    def fold(self, logs: Sequence[Log]) -> Books:
        for log in logs:
            flow = FLOWS.get(log.name)
            if flow is not None:
                self.numbers.append(log.args["seq"])
                flow(self, log.args)
        return self

    def liabilities(self, asset: str) -> int:
        accounts = sum(amount for (_, held_in), amount in self.available.items() if held_in == asset)
        return accounts + sum(amount for name, amount in self.escrow.items() if self.escrow_asset[name] == asset)

    def _pay_merchant(self, args: Args, gross: int) -> None:
        asset, fee = args["asset"], args["fee"]
        assert 0 <= fee <= gross
        self.available[args["merchantId"], asset] += gross - fee
        if fee:
            self.available[args["feeAccount"], asset] += fee

    def _take(self, account: bytes, asset: str, amount: int) -> None:
        self.available[account, asset] -= amount
        assert self.available[account, asset] >= 0, "an account is below zero"

    def _deposited(self, args: Args) -> None:
        key = args["accountId"], args["asset"]
        self.in_and_out[args["asset"]] += args["received"]
        self.available[key] += args["received"]
        assert self.available[key] == args["balanceAfter"]

    def _invoice_paid(self, args: Args) -> None:
        payment = args["merchantId"], args["invoiceId"]
        assert payment not in self.captured, "an invoice was paid twice"
        self.in_and_out[args["asset"]] += args["gross"]
        self.captured[payment] = args["gross"]
        self._pay_merchant(args, args["gross"])
        assert self.available[args["merchantId"], args["asset"]] == args["merchantBalanceAfter"]

    def _payment_authorized(self, args: Args) -> None:
        payment = args["paymentId"]
        assert payment not in self.authorized, "a payment was authorized twice"
        self.in_and_out[args["asset"]] += args["amount"]
        self.authorized[payment] = self.escrow[payment] = args["amount"]
        self.escrow_asset[payment] = args["asset"]
        self.captured[args["merchantId"], payment] = 0

    def _payment_captured(self, args: Args) -> None:
        payment = args["paymentId"]
        self.escrow[payment] -= args["amount"]
        self.captured[args["merchantId"], payment] += args["amount"]
        self._pay_merchant(args, args["amount"])
        assert self.escrow[payment] == args["remainingHold"] >= 0
        assert self.captured[args["merchantId"], payment] <= self.authorized[payment]

    def _payment_voided(self, args: Args) -> None:
        assert self.escrow[args["paymentId"]] == args["amount"] > 0, "a void sends back the whole rest"
        self.escrow[args["paymentId"]] = 0
        self.in_and_out[args["asset"]] -= args["amount"]

    def _subscription_charged(self, args: Args) -> None:
        self._take(args["customerId"], args["asset"], args["gross"])
        self._pay_merchant(args, args["gross"])

    def _refunded(self, args: Args) -> None:
        payment, asset = (args["merchantId"], args["paymentId"]), args["asset"]
        assert 0 <= args["feeReturned"] <= args["amount"]
        self.in_and_out[asset] -= args["amount"]
        self.refunded[payment] += args["amount"]
        self._take(args["merchantId"], asset, args["amount"] - args["feeReturned"])
        self._take(args["feeAccount"], asset, args["feeReturned"])
        assert self.refunded[payment] == args["refundedTotal"] <= self.captured[payment]

    def _internal_transfer(self, args: Args) -> None:
        self._take(args["from"], args["asset"], args["amount"])
        self.available[args["to"], args["asset"]] += args["amount"]

    def _withdrawn(self, args: Args) -> None:
        self.in_and_out[args["asset"]] -= args["amount"]
        self._take(args["accountId"], args["asset"], args["amount"])
        assert self.available[args["accountId"], args["asset"]] == args["balanceAfter"]

    def _adjusted(self, args: Args) -> None:
        self._take(args["accountId"], args["asset"], -args["delta"])

    def _unattributed_swept(self, args: Args) -> None:
        self.in_and_out[args["asset"]] -= args["amount"]


FLOWS: dict[str, Callable[[Books, Args], None]] = {
    "Deposited": Books._deposited,
    "InvoicePaid": Books._invoice_paid,
    "PaymentAuthorized": Books._payment_authorized,
    "PaymentCaptured": Books._payment_captured,
    "PaymentVoided": Books._payment_voided,
    "SubscriptionCharged": Books._subscription_charged,
    "Refunded": Books._refunded,
    "InternalTransfer": Books._internal_transfer,
    "Withdrawn": Books._withdrawn,
    "Adjusted": Books._adjusted,
    "UnattributedSwept": Books._unattributed_swept,
}
"""The money events, and what each means in the books."""


def check_identities(node: Node, gateway: Contract, tokens: Sequence[Contract], *, plain_native: int | None) -> Books:
    """Everything that must hold between the gateway's logs and its getters, for native money and these tokens.

    ``plain_native``: what was sent to the gateway without a call; None leaves native custody out.
    """
    logs = node.logs([gateway.address, *(token.address for token in tokens)])
    books = Books().fold([log for log in logs if log.address == gateway.address])
    held = {token.address: 0 for token in tokens}
    for log in logs:
        if log.name == "Transfer" and log.address in held:
            moved = log.args["value"]
            held[log.address] += moved * ((log.args["to"] == gateway.address) - (log.args["from"] == gateway.address))
    if plain_native is not None:
        held[NATIVE] = books.in_and_out[NATIVE] + plain_native

    _check_custody(node, gateway, tokens, held=held, books=books)
    _check_claims(node, gateway, books)
    assert books.numbers == list(range(1, gateway.call("eventSeq") + 1)), "money events are numbered without a gap"
    return books


def _check_custody(
    node: Node, gateway: Contract, tokens: Sequence[Contract], *, held: dict[str, int], books: Books
) -> None:
    contracts = {token.address: token for token in tokens}
    for asset, expected in held.items():
        token = contracts.get(asset)
        actual = token.call("balanceOf", gateway.address) if token else node.native_balance(gateway.address)
        owed, unattributed = gateway.call("totalLiabilities", asset), gateway.call("unattributed", asset)
        assert actual == expected, f"custody of {asset}"
        assert books.liabilities(asset) == owed, f"liabilities in {asset}"
        assert unattributed == actual - owed >= 0, f"unattributed {asset}"
        assert gateway.call("shortfall", asset) == 0


def _check_claims(node: Node, gateway: Contract, books: Books) -> None:
    expected: list[tuple[str, tuple[Any, ...], int]] = []
    expected += [("balanceOf", key, amount) for key, amount in books.available.items()]
    expected += [("escrow", (name,), amount) for name, amount in books.escrow.items()]
    expected += [("captured", key, amount) for key, amount in books.captured.items()]
    expected += [("refundedTotal", key, books.refunded.get(key, 0)) for key in books.captured]
    if not expected:
        return
    answers = node.batch([gateway.request(function, *args) for function, args, _ in expected])
    for (function, args, amount), answer in zip(expected, answers, strict=True):
        assert gateway.answer(function, answer) == amount, f"{function}{args}"
