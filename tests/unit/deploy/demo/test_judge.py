"""The judge is content with a right run, and says what is wrong with each kind of wrong one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.messages import PaymentEvent
from deploy.demo.books import Books
from deploy.demo.business import make_plan
from deploy.demo.chain import DoneReorg
from deploy.demo.judge import MONEY_EVENTS, problems
from deploy.demo.outcome import Outcome, SilentWithdrawal, Verdict
from deploy.demo.stage import Services, Stage
from deploy.demo.tap import Heard

BREAK = {
    "kind": "clearing",
    "book": "vault",
    "subject": "clearing:vault:contract:0xaa:-",
    "asset": "EURX",
    "difference": "2.5",
    "difference_base_units": "2500",
    "began_in_block": 52,
}

OWNER = "0x" + "ab" * 20


def item(kind: str, subject: str, **changed: Any) -> dict[str, Any]:
    document = {"kind": kind, "subject": subject, "book": "vault", "asset": "EURX", "ledger": "9", "onchain": "9"}
    return document | {"difference": "0", "problem": None} | changed


DIFFERENCES = [
    item("claim", f"liabilities:vault:account:{OWNER}:available", difference="2500"),
    item("claim", "legacy-vault.totalDeposits(address)", difference="2500"),
]
ITEMS = [item("custody", "assets"), item("count", "eventSeq"), *DIFFERENCES]


def event(event_id: str, tx_hash: str, block_number: int, *, retracted: bool = False) -> PaymentEvent:
    return PaymentEvent(
        op="retracted" if retracted else "applied",
        event_id=event_id,
        revision=2 if retracted else 1,
        chain_id=31337,
        block_number=block_number,
        block_hash="0x",
        block_timestamp=0,
        tx_hash=tx_hash,
        tx_index=0,
        log_index=0,
        address="0x",
        contract="payment-gateway",
        event="InvoicePaid",
        book="gateway",
        subject="",
        args={},
        amounts=[],
        correlation={},
        description_version="0x",
    )


def outcome() -> Outcome:
    heard = Heard(
        ops=Counter(applied=602, retracted=2),
        kinds=Counter({f"payment-gateway.{name}": 40 for name in MONEY_EVENTS}),
        standing={"a": event("a", "0xmoved", 43), "b": event("b", "0xother", 7)},
        retracted=[event("c", "0xmoved", 41, retracted=True), event("d", "0xdropped", 42, retracted=True)],
    )
    services = Services(kafka="", postgres="postgresql://u@h/d", anvil=Path(), from_stack=False)
    return Outcome(
        plan=make_plan(1),
        stage=Stage(
            services=services,
            name="t",
            folder=Path(),
            topic_prefix="t.",
            node_url="http://h",
            indexer_port=1,
            ledger_port=2,
        ),
        heard=heard,
        reorg=DoneReorg(
            depth=3,
            common_ancestor=40,
            dropped_tx="0xdropped",
            dropped_from_block=42,
            moved_tx="0xmoved",
            moved_from_block=41,
            moved_to_block=43,
        ),
        silent=SilentWithdrawal(block=52, book="vault", asset="EURX", decimals=3, amount=2500, owner=OWNER),
        books=Books(
            trial_balance=(),
            largest=(),
            breaks=(BREAK, BREAK | {"kind": "claim", "began_in_block": None, "difference_base_units": "-2500"}),
            quarantine=(),
            incomplete=(),
            posted=602,
            reversed=2,
            transfers=800,
            events=("a", "b"),
            digest="",
        ),
        reconciled=Verdict(exit_code=1, document={"block": {"number": 72}, "items": ITEMS, "differences": DIFFERENCES}),
        checked=Verdict(exit_code=0, document={"differences": []}),
        latency=None,
        calls=400,
        head=80,
        head_hash="0x",
        final=72,
        elapsed_s=1.0,
        phases={},
    )


def test_a_right_run_has_no_problem() -> None:
    assert problems(outcome()) == ()


@pytest.mark.parametrize(
    ("books", "word"),
    [
        ({"breaks": ()}, "found 0 times"),
        ({"breaks": (BREAK, BREAK)}, "found 2 times"),
        ({"breaks": (BREAK | {"began_in_block": 51},)}, "unexpected break"),
        ({"breaks": (BREAK, BREAK | {"difference_base_units": "2501"})}, "unexpected break"),
        ({"breaks": (BREAK, BREAK | {"kind": "claim", "book": "gateway"})}, "unexpected break"),
        ({"breaks": (BREAK, BREAK | {"kind": "custody"})}, "unexpected break"),
        ({"quarantine": ({"contract": "c", "event": "E", "block_number": 3, "reason": "bad"},)}, "quarantine"),
        ({"incomplete": ({"subject": "topic/1", "detail": "stopped"},)}, "incomplete"),
        ({"reversed": 3}, "contra"),
        ({"events": ("a",)}, "only"),
    ],
)
def test_wrong_books_are_told(books: dict[str, Any], word: str) -> None:
    run = outcome()
    run.books = replace(run.books, **books)
    assert any(word in problem for problem in problems(run))


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ({"differences": []}, "not seen"),
        ({"differences": DIFFERENCES[:1]}, "not seen"),
        ({"differences": [*DIFFERENCES, item("custody", "assets", difference="1")]}, "unexpected difference: custody"),
        ({"differences": [*DIFFERENCES, item("claim", "x", problem="no answer")]}, "no answer"),
        ({"differences": [DIFFERENCES[0], DIFFERENCES[1] | {"difference": "-2500"}]}, "unexpected difference: claim"),
        ({"differences": [DIFFERENCES[0], DIFFERENCES[1] | {"book": "gateway"}]}, "unexpected difference: claim"),
        ({"block": {"number": 71}}, "not at the final block"),
        ({"items": ITEMS[1:]}, "did not compare"),
    ],
)
def test_a_wrong_reconciliation_is_told(document: dict[str, Any], word: str) -> None:
    run = outcome()
    run.reconciled = Verdict(exit_code=1, document=run.reconciled.document | document)
    assert any(word in problem for problem in problems(run))


def test_a_difference_of_the_check_is_told() -> None:
    run = outcome()
    run.checked = Verdict(exit_code=1, document={"differences": [f"line {number}" for number in range(20)]})
    told = problems(run)
    assert "independent check: line 0" in told
    assert any("and 16 more" in problem for problem in told)


def test_a_kind_of_event_that_never_came_is_told() -> None:
    run = outcome()
    run.heard.kinds["payment-gateway.Refunded"] = 0
    assert any("Refunded" in problem for problem in problems(run))


def test_too_few_money_events_are_told() -> None:
    run = outcome()
    run.heard.kinds["payment-gateway.Deposited"] = 1
    run.heard.kinds["payment-gateway.InvoicePaid"] = -100
    assert any("at least" in problem for problem in problems(run))


def test_a_dropped_payment_that_stands_and_a_moved_one_that_did_not_move_are_told() -> None:
    run = outcome()
    run.heard.standing = {"a": event("a", "0xmoved", 41), "b": event("b", "0xdropped", 42)}
    told = problems(run)
    assert any("still stands" in problem for problem in told)
    assert any("moved payment" in problem for problem in told)


def test_a_retraction_that_never_came_is_told() -> None:
    run = outcome()
    run.heard.retracted = []
    assert sum("0xdropped" in problem or "0xmoved" in problem for problem in problems(run)) == 2
