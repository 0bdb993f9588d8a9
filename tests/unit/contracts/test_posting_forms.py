"""Posting rules that look beyond one argument: loops, joins, what remains, constants, our own accounts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from contracts.messages import PaymentEvent, asset_id
from contracts.posting import Posting, PostingRules, Rejection, join_text
from contracts.typed import DocumentError
from tests.unit.contracts.build import CHAIN_ID, NATIVE, TOKEN
from tests.unit.contracts.signatures import event as abi_item
from tests.unit.contracts.test_posting import EMITTER, document, moved

USDX = asset_id(CHAIN_ID, TOKEN)
ETH = asset_id(CHAIN_ID, NATIVE)
CLEARING = f"clearing:b:contract:{EMITTER}:-"
POOL = "liabilities:b:pool:all:-"
FIRST, SECOND = "0x" + "a1" * 20, "0x" + "b2" * 20

REQUESTED = abi_item("Requested(uint256 requestId, uint64! subId, bytes32 keyHash, uint96 estimate)")
FULFILLED = abi_item("Fulfilled(uint256! requestId, uint96 payment, bool native)")
REGISTERED = abi_item("KeyRegistered(bytes32 keyHash, address! oracle)")
CANCELED = abi_item("Canceled(uint64! subId, uint256 refund)")
PAID = {
    "type": "event",
    "name": "Paid",
    "inputs": [
        {"name": "payees", "type": "address[]", "indexed": False},
        {"name": "sums", "type": "uint256[]", "indexed": False},
        {
            "name": "receipt",
            "type": "tuple",
            "indexed": False,
            "components": [
                {"name": "gas", "type": "uint96"},
                {"name": "premium", "type": "uint96"},
                {"name": "token", "type": "address"},
            ],
        },
        {
            "name": "splits",
            "type": "tuple[]",
            "indexed": False,
            "components": [{"name": "to", "type": "address"}, {"name": "cut", "type": "uint32"}],
        },
        {"name": "hashed", "type": "uint256[]", "indexed": True},
    ],
}


def made(events: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    base = document([])
    return base | {"events": dict(events), "abi": [REQUESTED, FULFILLED, REGISTERED, CANCELED, PAID]} | fields


def paid_document(*postings: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return made({"Paid": {"kind": "money", "postings": list(postings)}}, **fields)


def event(name: str, args: dict[str, Any]) -> PaymentEvent:
    return msgspec.structs.replace(moved(), event=name, args=args)


def paid(**args: Any) -> PaymentEvent:
    values = {
        "payees": [FIRST, SECOND],
        "sums": ["10", "20"],
        "receipt": {"gas": "7", "premium": "3", "token": TOKEN},
        "splits": [{"to": FIRST, "cut": 4}, {"to": SECOND, "cut": 0}, {"to": FIRST, "cut": 5}],
        "hashed": {"keccak256": "0x" + "00" * 32},
    }
    return event("Paid", values | args)


class Known:
    """Books with these joinable events and balances."""

    def __init__(self, events: Mapping[tuple[str, str, str], Mapping[str, Any]], **balances: int) -> None:
        self.events = events
        self.balances: dict[tuple[str, str], int] = {}

    def joined(self, event: str, argument: str, value: object) -> Mapping[str, Any] | None:
        return self.events.get((event, argument, join_text(value)))

    def balance(self, account: str, asset: str) -> int:
        return self.balances.get((account, asset), 0)


def operator(address: str) -> str:
    return f"liabilities:b:operator:{address}:-"


POOLED = {"debit": "liabilities:{book}:pool:all:-", "credit": "liabilities:{book}:operator:{payee}:-", "asset": TOKEN}


def test_parallel_arrays_are_gone_through_together() -> None:
    rule = POOLED | {"for": {"payee": "payees", "sum": "sums"}, "amount": "sum"}
    lines = PostingRules.from_document(paid_document(rule)).postings(paid())
    assert lines == (Posting(POOL, operator(FIRST), USDX, 10), Posting(POOL, operator(SECOND), USDX, 20))


def test_an_array_of_tuples_gives_its_components() -> None:
    rule = {
        "for": {"split": "splits"},
        "debit": "clearing",
        "credit": "liabilities:{book}:operator:{split.to}:-",
        "asset": "receipt.token",
        "amount": "split.cut",
        "when": "split.to == 0x" + "a1" * 20,
    }
    lines = PostingRules.from_document(paid_document(rule)).postings(paid())
    assert lines == (Posting(CLEARING, operator(FIRST), USDX, 4), Posting(CLEARING, operator(FIRST), USDX, 5))


def test_components_of_a_tuple_are_amounts_and_assets() -> None:
    rule = {
        "debit": "clearing",
        "credit": "income:{book}:fees:-:-",
        "asset": "receipt.token",
        "amount": "receipt.gas - receipt.premium",
    }
    rules = PostingRules.from_document(paid_document(rule))
    assert rules.postings(paid()) == (Posting(CLEARING, "income:b:fees:-:-", USDX, 4),)
    native = paid(receipt={"gas": "7", "premium": "3", "token": NATIVE})
    assert rules.postings(native) == (Posting(f"assets:b:onchain:{EMITTER}:-", "income:b:fees:-:-", ETH, 4),)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"sums": ["10"]}, "unequal_arrays"),
        ({"sums": "10"}, "malformed_args"),
        ({"sums": ["10", "-1"]}, "malformed_args"),
        ({"payees": [FIRST, FIRST + ":x"]}, "malformed_args"),
        ({"payees": [FIRST] * 10_001, "sums": ["1"] * 10_001}, "too_many_lines"),
    ],
)
def test_arrays_that_do_not_fit_post_nothing(args: dict[str, Any], code: str) -> None:
    rule = POOLED | {"for": {"payee": "payees", "sum": "sums"}, "amount": "sum"}
    found = PostingRules.from_document(paid_document(rule)).postings(paid(**args))
    assert isinstance(found, Rejection)
    assert found.code == code


JOINED = {
    "Requested": {"kind": "info"},
    "KeyRegistered": {"kind": "info"},
    "Fulfilled": {
        "kind": "money",
        "joins": [
            {"name": "request", "event": "Requested", "key": "requestId"},
            {"name": "key", "event": "KeyRegistered", "key": "keyHash", "equals": "request.keyHash"},
        ],
        "postings": [
            {
                "debit": "liabilities:{book}:account:{request.subId}:available",
                "credit": "liabilities:{book}:operator:{key.oracle}:-",
                "asset": "LINK",
                "amount": "payment",
            }
        ],
    },
}
REQUEST = {"requestId": "77", "subId": "5", "keyHash": "0x" + "cc" * 32, "estimate": "9"}
KEY = {"keyHash": "0x" + "cc" * 32, "oracle": SECOND}


def test_a_join_brings_the_arguments_of_an_earlier_event() -> None:
    rules = PostingRules.from_document(made(JOINED, constants={"LINK": TOKEN}))
    books = Known({("Requested", "requestId", "77"): REQUEST, ("KeyRegistered", "keyHash", "0x" + "cc" * 32): KEY})
    fulfilled = event("Fulfilled", {"requestId": "77", "payment": "6", "native": False})
    assert rules.postings(fulfilled, books) == (
        Posting("liabilities:b:account:5:available", operator(SECOND), USDX, 6),
    )
    assert rules.join_keys("Requested") == ("requestId",)
    assert rules.join_keys("KeyRegistered") == ("keyHash",)
    assert rules.join_keys("Fulfilled") == ()


def test_a_join_without_its_earlier_event_is_refused_and_says_which() -> None:
    rules = PostingRules.from_document(made(JOINED, constants={"LINK": TOKEN}))
    found = rules.postings(event("Fulfilled", {"requestId": "77", "payment": "6", "native": False}))
    assert isinstance(found, Rejection)
    assert found.code == "join_missing"
    assert "Requested" in found.reason


def test_what_the_books_raise_goes_through() -> None:
    class Unread(Exception):
        pass

    class Lazy(Known):
        def joined(self, event: str, argument: str, value: object) -> Mapping[str, Any] | None:
            raise Unread

    rules = PostingRules.from_document(made(JOINED, constants={"LINK": TOKEN}))
    with pytest.raises(Unread):
        rules.postings(event("Fulfilled", {"requestId": "77", "payment": "6", "native": False}), Lazy({}))


CANCEL = made(
    {
        "Canceled": {
            "kind": "money",
            "postings": [
                {
                    "debit": "liabilities:{book}:account:{subId}:available",
                    "credit": "clearing",
                    "asset": TOKEN,
                    "amount": "refund",
                },
                {
                    "debit": "liabilities:{book}:account:{subId}:available",
                    "credit": "income:{book}:forfeit:-:-",
                    "asset": TOKEN,
                    "amount": "remaining",
                },
            ],
        }
    }
)


@pytest.mark.parametrize(("owed", "rest"), [(100, 70), (30, None)])
def test_what_remains_is_counted_after_the_lines_before(owed: int, rest: int | None) -> None:
    books = Known({})
    account = "liabilities:b:account:5:available"
    books.balances[account, USDX] = -owed
    lines = PostingRules.from_document(CANCEL).postings(event("Canceled", {"subId": "5", "refund": "30"}), books)
    expected = [Posting(account, CLEARING, USDX, 30)]
    if rest is not None:
        expected.append(Posting(account, "income:b:forfeit:-:-", USDX, rest))
    assert lines == tuple(expected)


def test_an_account_that_owes_less_than_nothing_has_no_remainder() -> None:
    found = PostingRules.from_document(CANCEL).postings(event("Canceled", {"subId": "5", "refund": "30"}))
    assert isinstance(found, Rejection)
    assert found.code == "negative_amount"


ACCOUNT = "0x" + "01" * 32
OTHER = "0x" + "02" * 32
CREDITS = {
    "debit": "clearing",
    "credit": "liabilities:{book}:account:{id}:available",
    "asset": "token",
    "amount": "gross",
}
DEBITS = CREDITS | {"debit": CREDITS["credit"], "credit": "clearing"}
MOVES = DEBITS | {"credit": "liabilities:{book}:account:{other}:held"}
CLAIM, INCOME, OWNER = f"assets:b:own-claim:{ACCOUNT}:-", "income:b:fees:-:-", "equity:b:owner:-:-"
OWED = f"liabilities:b:account:{ACCOUNT}:available"


@pytest.mark.parametrize(
    ("posting", "own", "withdraws", "extra"),
    [
        (CREDITS, [ACCOUNT], False, [Posting(CLAIM, INCOME, USDX, 100)]),
        (DEBITS, [ACCOUNT], False, [Posting(INCOME, CLAIM, USDX, 100)]),
        (DEBITS, [ACCOUNT], True, [Posting(OWNER, CLAIM, USDX, 100)]),
        (MOVES, [ACCOUNT], False, [Posting(INCOME, CLAIM, USDX, 100)]),
        (CREDITS, [OTHER], False, []),
    ],
)
def test_what_the_company_is_owed_is_its_own_claim(
    posting: dict[str, Any], own: list[str], withdraws: bool, extra: list[Posting]
) -> None:
    described = document([posting]) | {"own_accounts": own}
    described["events"]["Moved"]["withdraws"] = withdraws
    lines = PostingRules.from_document(described).postings(moved())
    assert isinstance(lines, tuple)
    assert list(lines[1:]) == extra


def test_a_move_within_an_own_account_changes_no_claim() -> None:
    described = document([MOVES]) | {"own_accounts": [ACCOUNT]}
    lines = PostingRules.from_document(described).postings(moved(other=ACCOUNT))
    assert lines == (Posting(OWED, f"liabilities:b:account:{ACCOUNT}:held", USDX, 100),)


POSTING = {"debit": "clearing", "credit": "income:{book}:fees:-:-", "asset": TOKEN, "amount": "receipt.gas"}


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"amount": "receipt"}, "amount", "which cannot be an amount"),
        ({"amount": "receipt.gass"}, "amount", "no component 'gass'"),
        ({"amount": "receipt.gas.more"}, "amount", "has no 'more'"),
        ({"amount": "payees"}, "amount", "which cannot be an amount"),
        ({"amount": "hashed"}, "amount", "the log has only its hash"),
        ({"for": {"x": "receipt"}}, "for", "no array"),
        ({"for": {"x": "hashed"}}, "for", "the log has only its hash"),
        ({"for": {"payees": "payees"}}, "for", "another meaning"),
        ({"for": {"x y": "payees"}}, "for", "is no name"),
        ({"for": {"x": "payees"}}, "for", "no variable is used"),
        ({"for": {"x": "sums"}, "amount": "y"}, "amount", "no argument 'y'"),
        ({"amount": "remaining"}, "amount", "no class that can be owed"),
        ({"amount": "remaining", "debit": "equity:{book}:x:-:-", "signed": True}, "amount", "cannot be signed"),
        ({"asset": "LINQ"}, "asset", "no argument 'LINQ'"),
        ({"debit": "assets:{book}:own-claim:x:-"}, "debit", "follows from `own_accounts`"),
    ],
)  # fmt: skip
def test_a_form_that_cannot_be_meant_is_refused_with_its_place(changes: dict[str, Any], where: str, what: str) -> None:
    with pytest.raises(DocumentError) as caught:
        PostingRules.from_document(paid_document(POSTING | changes, constants={"LINK": TOKEN}))
    issue = next(issue for issue in caught.value.issues if what in issue.what)
    assert where in issue.path
    assert issue.do


@pytest.mark.parametrize(
    ("join", "what"),
    [
        ({"event": "Nothing", "key": "requestId"}, "no event of this description"),
        ({"event": "other-contract.Requested", "key": "requestId"}, "no event of this description"),
        ({"event": "Requested", "key": "nothing"}, "no argument 'nothing'"),
        ({"event": "Requested", "key": "requestId", "equals": "payment"}, "join arguments"),
        ({"event": "Requested", "key": "requestId", "equals": "nothing"}, "no argument 'nothing'"),
    ],
)
def test_a_join_that_cannot_be_meant_is_refused(join: dict[str, Any], what: str) -> None:
    events = {
        "Requested": {"kind": "info"},
        "Fulfilled": {
            "kind": "money",
            "joins": [{"name": "request"} | join],
            "postings": [POSTING | {"amount": "payment"}],
        },
    }
    with pytest.raises(DocumentError) as caught:
        PostingRules.from_document(made(events))
    assert any(what in issue.what or what in issue.do for issue in caught.value.issues)


def test_a_join_that_nothing_uses_is_refused() -> None:
    events = dict(JOINED)
    events["Fulfilled"] = JOINED["Fulfilled"] | {"postings": [POSTING | {"amount": "payment"}]}
    with pytest.raises(DocumentError) as caught:
        PostingRules.from_document(made(events))
    assert [issue.path[-1] for issue in caught.value.issues] == [1]  # the first one is used by the second
