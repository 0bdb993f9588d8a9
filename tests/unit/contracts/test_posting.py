"""Posting rules: every form, custody, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.codec import Decoded
from contracts.description import ContractDocument, PostingEntry
from contracts.messages import PaymentEvent, asset_id
from contracts.posting import Posting, PostingRules, Rejection
from contracts.registry import Registry
from contracts.typed import DocumentError
from tests.unit.contracts.build import (
    CHAIN_ID,
    GATEWAY,
    NATIVE,
    STRANGER,
    TOKEN,
    VAULT,
    log,
    payment_event,
    shipped_registry,
)
from tests.unit.contracts.signatures import event as abi_item

EMITTER = "0x" + "77" * 20
CLEARING = f"clearing:b:contract:{EMITTER}:-"
ONCHAIN = f"assets:b:onchain:{EMITTER}:-"
USDX = asset_id(CHAIN_ID, TOKEN)
ETH = asset_id(CHAIN_ID, NATIVE)

SIGNATURE = (
    "Moved(bytes32! id, address! token, uint256 gross, uint256 fee, "
    "int256 delta, bool paid, uint32 kind, bytes32 other)"
)


def document(postings: list[dict[str, Any]], *, native: str = "events", kind: str = "money") -> dict[str, Any]:
    """A document with one event and these postings."""
    return {
        "format": "chainbooks.contract.v1",
        "contract": "c",
        "book": "b",
        "chain_id": CHAIN_ID,
        "addresses": [EMITTER],
        "start_block": 0,
        "native": native,
        "assets": [],
        "custody": True,
        "default_inflow": "income:{book}:fees:-:-",
        "sequence": None,
        "reconcile": [],
        "events": {"Moved": {"kind": kind, "postings": postings}},
        "abi": [abi_item(SIGNATURE)],
    }


def moved(**args: Any) -> PaymentEvent:
    values: dict[str, Any] = {
        "id": "0x" + "01" * 32,
        "token": TOKEN,
        "gross": "100",
        "fee": "3",
        "delta": "-5",
        "paid": True,
        "kind": 2,
        "other": "0x" + "02" * 32,
    }
    return PaymentEvent(
        op="applied",
        event_id="0x" + "ee" * 32,
        revision=1,
        chain_id=CHAIN_ID,
        block_number=1,
        block_hash="0x" + "bb" * 32,
        block_timestamp=0,
        tx_hash="0x" + "cc" * 32,
        tx_index=0,
        log_index=0,
        address=EMITTER,
        contract="c",
        event="Moved",
        book="b",
        subject="s",
        args=values | args,
        amounts=[],
        correlation={},
        description_version="0x",
    )


def posting(**fields: Any) -> dict[str, Any]:
    entry = {
        "debit": "clearing",
        "credit": "liabilities:{book}:account:{id}:available",
        "asset": "token",
        "amount": "gross",
    }
    return entry | fields


def post(
    postings: list[dict[str, Any]], event: PaymentEvent, *, native: str = "events"
) -> tuple[Posting, ...] | Rejection:
    return PostingRules.from_document(document(postings, native=native)).postings(event)


ACCOUNT = f"liabilities:b:account:0x{'01' * 32}:available"


@pytest.mark.parametrize(
    ("rule", "args", "expected"),
    [
        ({}, {}, [(CLEARING, ACCOUNT, USDX, 100)]),
        ({}, {"gross": "0"}, []),
        ({}, {"gross": str(2**256 - 1)}, [(CLEARING, ACCOUNT, USDX, 2**256 - 1)]),
        ({"amount": "gross - fee"}, {}, [(CLEARING, ACCOUNT, USDX, 97)]),
        ({"amount": "gross - fee"}, {"gross": "3"}, []),
        ({"amount": "gross - 1"}, {}, [(CLEARING, ACCOUNT, USDX, 99)]),
        ({"amount": 7}, {}, [(CLEARING, ACCOUNT, USDX, 7)]),
        ({"amount": "7"}, {}, [(CLEARING, ACCOUNT, USDX, 7)]),
        ({"amount": "kind"}, {}, [(CLEARING, ACCOUNT, USDX, 2)]),
        ({"amount": "delta", "signed": True}, {}, [(ACCOUNT, CLEARING, USDX, 5)]),
        ({"amount": "delta", "signed": True}, {"delta": "5"}, [(CLEARING, ACCOUNT, USDX, 5)]),
        ({"amount": "fee - gross", "signed": True}, {}, [(ACCOUNT, CLEARING, USDX, 97)]),
        ({"amount": "delta", "signed": True}, {"delta": str(-(2**255))}, [(ACCOUNT, CLEARING, USDX, 2**255)]),
        ({"when": "paid == true"}, {}, [(CLEARING, ACCOUNT, USDX, 100)]),
        ({"when": "paid == true"}, {"paid": False}, []),
        ({"when": "paid != true"}, {}, []),
        ({"when": "fee != zero"}, {"fee": "0"}, []),
        ({"when": "fee == 3"}, {}, [(CLEARING, ACCOUNT, USDX, 100)]),
        ({"when": "kind == 2"}, {}, [(CLEARING, ACCOUNT, USDX, 100)]),
        ({"when": ["kind == 2", "paid == false"]}, {}, []),
        ({"when": "id == other"}, {}, []),
        ({"when": "other == zero"}, {"other": "0x" + "00" * 32}, [(CLEARING, ACCOUNT, USDX, 100)]),
        ({"asset": "native"}, {}, [(ONCHAIN, ACCOUNT, ETH, 100)]),
        ({}, {"token": NATIVE}, [(ONCHAIN, ACCOUNT, ETH, 100)]),
        ({"asset": TOKEN}, {"token": NATIVE}, [(CLEARING, ACCOUNT, USDX, 100)]),
        ({"asset": "emitter"}, {}, [(CLEARING, ACCOUNT, asset_id(CHAIN_ID, EMITTER), 100)]),
        (
            {"debit": "unattributed", "credit": "income:{book}:fees:-:{kind}"},
            {"token": NATIVE},
            [(f"liabilities:b:unattributed:{EMITTER}:-", "income:b:fees:-:2", ETH, 100)],
        ),
        ({"debit": "liabilities:{book}:account:{other}:available"}, {"other": "0x" + "01" * 32}, []),
    ],
)  # fmt: skip
def test_a_rule_posts_what_it_says(
    rule: dict[str, Any], args: dict[str, Any], expected: list[tuple[str, str, str, int]]
) -> None:
    assert post([posting(**rule)], moved(**args)) == tuple(Posting(*line) for line in expected)


def test_several_transfers_stand_in_the_order_of_the_rules() -> None:
    rules = [posting(amount="gross - fee"), posting(amount="fee", credit="income:{book}:fees:-:-")]
    lines = post(rules, moved())
    assert lines == (Posting(CLEARING, ACCOUNT, USDX, 97), Posting(CLEARING, "income:b:fees:-:-", USDX, 3))


def test_an_informational_event_posts_nothing() -> None:
    rules = PostingRules.from_document(document([], kind="info"))
    assert rules.postings(moved()) == ()


def test_a_retraction_has_the_postings_of_what_it_retracts() -> None:
    applied = moved()
    retracted = msgspec.structs.replace(applied, op="retracted", revision=2)
    assert post([posting()], applied) == post([posting()], retracted)


@pytest.mark.parametrize(
    ("rule", "event", "native", "code"),
    [
        ({"amount": "gross - fee"}, moved(fee="101"), "events", "negative_amount"),
        ({}, moved(token=NATIVE), "none", "native_not_tracked"),
        ({"asset": "native"}, moved(), "none", "native_not_tracked"),
        ({}, moved(gross=100), "events", "malformed_args"),
        ({}, moved(gross="-1"), "events", "malformed_args"),
        ({}, moved(gross="1_0"), "events", "malformed_args"),
        ({}, moved(gross="9" * 79), "events", "malformed_args"),
        ({}, moved(gross=None), "events", "malformed_args"),
        ({}, moved(id="0x" + "01" * 29 + ":evil"), "events", "malformed_args"),
        ({}, moved(token="0x12"), "events", "malformed_args"),
        ({}, msgspec.structs.replace(moved(), args={}), "events", "malformed_args"),
        ({}, msgspec.structs.replace(moved(), book="other"), "events", "malformed_args"),
        ({}, msgspec.structs.replace(moved(), event="Other"), "events", "unknown_event"),
        ({}, msgspec.structs.replace(moved(), chain_id=1), "events", "wrong_chain"),
    ],
)  # fmt: skip
def test_what_cannot_be_posted_is_a_rejection(
    rule: dict[str, Any], event: PaymentEvent, native: str, code: str
) -> None:
    found = post([posting(**rule)], event, native=native)
    assert isinstance(found, Rejection)
    assert found.code == code
    assert found.reason


def test_a_document_from_elsewhere_is_checked_again() -> None:
    wrong = document([posting(amount="__import__('os').system('true')")])
    with pytest.raises(DocumentError):
        PostingRules.from_document(wrong)
    with pytest.raises(DocumentError):
        PostingRules.from_document({"format": "chainbooks.contract.v9"})
    with pytest.raises(DocumentError):
        PostingRules.from_document(document([posting()]) | {"unknown": 1})


@pytest.mark.parametrize("text", ["'}; import os", "{id", "a b", "x:y", '"', "{id}{id}", "{__class__}", "é"])
def test_text_of_a_description_never_becomes_code(text: str) -> None:
    """A segment either is refused or stays a segment."""
    with pytest.raises(DocumentError):
        PostingRules.from_document(document([posting(credit=f"liabilities:{{book}}:account:{text}:available")]))


def test_default_inflow_of_a_contract_and_of_its_wallet_are_the_same(tmp_path: Path) -> None:
    own = PostingRules.from_document(document([posting()]))
    assert own.default_inflow(EMITTER) == "income:b:fees:-:-"
    assert own.default_inflow(STRANGER) is None
    registry = shipped_registry(tmp_path)
    gateway, custody = (
        PostingRules.from_document(registry.contract(name).document) for name in ("payment-gateway", "erc20")
    )
    assert (
        gateway.default_inflow(GATEWAY)
        == custody.default_inflow(GATEWAY)
        == f"liabilities:gateway:unattributed:{GATEWAY}:-"
    )
    assert custody.default_inflow(VAULT) == f"liabilities:vault:unattributed:{VAULT}:-"


def transfer(
    registry: Registry, sender: str, receiver: str, amount: int, *, token: str = TOKEN
) -> Decoded | Rejection | None:
    abi = registry.contract("erc20").codecs["Transfer"].abi
    topics, data = log(abi, {"from": sender, "to": receiver, "value": amount})
    codec = registry.dispatch(bytes.fromhex(token[2:]), topics, 100)
    assert codec is not None
    return codec.decode(topics, data)


def custody_lines(registry: Registry, sender: str, receiver: str, amount: int) -> tuple[Posting, ...] | Rejection:
    decoded = transfer(registry, sender, receiver, amount)
    assert isinstance(decoded, Decoded)
    contract = registry.contract("erc20")
    event = payment_event(contract.codecs["Transfer"], decoded, address=TOKEN)
    return PostingRules.from_document(contract.document).postings(event)


def clearing(book: str, address: str) -> str:
    return f"clearing:{book}:contract:{address}:-"


def onchain(book: str, address: str) -> str:
    return f"assets:{book}:onchain:{address}:-"


def test_custody_moves_assets_against_clearing(tmp_path: Path) -> None:
    registry = shipped_registry(tmp_path)
    incoming = transfer(registry, STRANGER, GATEWAY, 5)
    assert isinstance(incoming, Decoded)
    assert (incoming.book, incoming.subject) == ("gateway", GATEWAY)
    assert [(amount.asset, amount.base_units, amount.symbol) for amount in incoming.amounts] == [(USDX, "5", "USDX")]
    assert custody_lines(registry, STRANGER, GATEWAY, 5) == (
        Posting(onchain("gateway", GATEWAY), clearing("gateway", GATEWAY), USDX, 5),
    )
    assert custody_lines(registry, VAULT, STRANGER, 5) == (
        Posting(clearing("vault", VAULT), onchain("vault", VAULT), USDX, 5),
    )


def test_custody_ignores_what_is_not_ours_and_what_moves_nothing(tmp_path: Path) -> None:
    registry = shipped_registry(tmp_path)
    assert transfer(registry, STRANGER, EMITTER, 5) is None
    assert custody_lines(registry, GATEWAY, GATEWAY, 5) == ()
    assert custody_lines(registry, STRANGER, GATEWAY, 0) == ()


def test_a_transfer_between_two_books_is_refused(tmp_path: Path) -> None:
    found = transfer(shipped_registry(tmp_path), GATEWAY, VAULT, 5)
    assert isinstance(found, Rejection)
    assert found.code == "cross_book_transfer"


def test_a_transfer_within_a_book_moves_both_wallets(tmp_path: Path) -> None:
    deployment = f"""\
kind: deployment
chain: {CHAIN_ID}
contracts:
  payment-gateway: {{addresses: ["{GATEWAY}", "{VAULT}"]}}
tokens: [{{address: "{TOKEN}", symbol: USDX, decimals: 6}}]
"""
    registry = shipped_registry(tmp_path, deployment)
    assert custody_lines(registry, GATEWAY, VAULT, 5) == (
        Posting(clearing("gateway", GATEWAY), onchain("gateway", GATEWAY), USDX, 5),
        Posting(onchain("gateway", VAULT), clearing("gateway", VAULT), USDX, 5),
    )


def test_an_erc721_transfer_is_never_posted(tmp_path: Path) -> None:
    """Same topic0, four topics: refused when it names a wallet of ours, nobody's business otherwise."""
    registry = shipped_registry(tmp_path)
    abi = registry.contract("erc20").codecs["Transfer"].abi
    for receiver, code in ((GATEWAY, "topic_count"), (STRANGER, None)):
        topics, data = log(abi, {"from": STRANGER, "to": receiver, "value": 1})
        topics.append(data)
        codec = registry.dispatch(bytes.fromhex(TOKEN[2:]), topics, 100)
        assert codec is not None
        found = codec.decode(topics, b"")
        assert (found.code if isinstance(found, Rejection) else found) == code


@pytest.mark.parametrize(("data", "code"), [(b"", "truncated"), (b"\0" * 64, "trailing_data")])
def test_a_transfer_of_another_size_is_refused_when_it_names_a_wallet(tmp_path: Path, data: bytes, code: str) -> None:
    registry = shipped_registry(tmp_path)
    topics, _ = log(registry.contract("erc20").codecs["Transfer"].abi, {"from": STRANGER, "to": GATEWAY, "value": 1})
    codec = registry.dispatch(bytes.fromhex(TOKEN[2:]), topics, 100)
    assert codec is not None
    found = codec.decode(topics, data)
    assert isinstance(found, Rejection)
    assert found.code == code


def test_a_transfer_without_indexed_addresses_is_found_by_its_data(tmp_path: Path) -> None:
    registry = shipped_registry(tmp_path)
    abi = registry.contract("erc20").codecs["Transfer"].abi
    topics, data = log(abi, {"from": STRANGER, "to": GATEWAY, "value": 1})
    codec = registry.dispatch(bytes.fromhex(TOKEN[2:]), topics[:1], 100)
    assert codec is not None
    assert isinstance(codec.decode(topics[:1], topics[1] + topics[2] + data), Rejection)
    assert codec.decode(topics[:1], topics[1] + topics[1] + data) is None


def test_a_spoofed_transfer_of_an_unlisted_token_reaches_nobody(tmp_path: Path) -> None:
    registry = shipped_registry(tmp_path)
    topics, _ = log(registry.contract("erc20").codecs["Transfer"].abi, {"from": STRANGER, "to": GATEWAY, "value": 1})
    assert registry.dispatch(bytes.fromhex(EMITTER[2:]), topics, 100) is None


def test_every_field_of_a_posting_entry_is_known_to_the_document() -> None:
    """The document keeps what the author wrote; a field that it dropped would change the meaning of a version."""
    entry = posting(amount="delta", signed=True, when=["kind == 2"])
    kept = ContractDocument.model_validate(document([entry])).events["Moved"].postings[0]
    assert kept == PostingEntry(**entry)


@pytest.mark.parametrize("value", ["-1", str(2**256), "x", None, [], "9" * 5000])
def test_a_custody_message_with_a_wrong_amount_is_a_rejection(tmp_path: Path, value: Any) -> None:
    registry = shipped_registry(tmp_path)
    decoded = transfer(registry, STRANGER, GATEWAY, 5)
    assert isinstance(decoded, Decoded)
    contract = registry.contract("erc20")
    event = payment_event(contract.codecs["Transfer"], decoded, address=TOKEN, args=decoded.args | {"value": value})
    found = PostingRules.from_document(contract.document).postings(event)
    assert isinstance(found, Rejection)
    assert found.code == "malformed_args"
