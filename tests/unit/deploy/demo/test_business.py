"""The plan of a run: the same for the same seed, complete for every seed, and harmless around its reorg."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.demo.business import FROM_OUTSIDE, MONEY_EVENTS_MIN, QUOTA, REORG_DEPTH, make_plan
from deploy.demo.plan import Block, Call, Plan, Reorg

EVENT_OF = {
    "deposit": "Deposited",
    "payInvoice": "InvoicePaid",
    "authorize": "PaymentAuthorized",
    "capture": "PaymentCaptured",
    "voidPayment": "PaymentVoided",
    "chargeSubscription": "SubscriptionCharged",
    "refund": "Refunded",
    "internalTransfer": "InternalTransfer",
    "withdraw": "Withdrawn",
    "adjust": "Adjusted",
    "sweepUnattributed": "UnattributedSwept",
}
FUNCTION_OF = {"deposit": "deposit", "invoice": "payInvoice", "authorize": "authorize"}


def calls(plan: Plan, contract: str) -> list[Call]:
    blocks = [step for step in plan.business if isinstance(step, Block)]
    return [call for block in blocks for call in block.calls if call.contract == contract]


def test_a_seed_gives_one_plan_and_another_seed_another() -> None:
    assert make_plan(7) == make_plan(7)
    assert make_plan(7) != make_plan(8)


@settings(max_examples=40, deadline=None)
@given(st.integers(min_value=0, max_value=2**63))
def test_every_kind_of_money_event_occurs_and_there_are_enough_of_them(seed: int) -> None:
    plan = make_plan(seed)
    money = [call for call in calls(plan, "gateway") if call.function in EVENT_OF]
    assert {EVENT_OF[call.function] for call in money} == set(EVENT_OF.values())
    assert len(money) - 1 >= MONEY_EVENTS_MIN  # one payment is dropped
    deltas = [call.args[2] for call in money if call.function == "adjust"]
    assert min(deltas) < 0 < max(deltas)


@settings(max_examples=40, deadline=None)
@given(st.integers(min_value=0, max_value=2**63))
def test_there_is_one_reorg_and_around_it_money_only_comes_from_outside(seed: int) -> None:
    steps = make_plan(seed).business
    (turn,) = [number for number, step in enumerate(steps) if isinstance(step, Reorg)]
    reorg = steps[turn]
    assert isinstance(reorg, Reorg)
    assert reorg.depth == REORG_DEPTH
    window = [call for step in steps[turn - REORG_DEPTH : turn] if isinstance(step, Block) for call in step.calls]
    assert {call.function for call in window} <= {FUNCTION_OF[kind] for kind in FROM_OUTSIDE}
    for special in (reorg.dropped, reorg.moved):
        assert special.function == "payInvoice"
        assert [call for call in window if call.sender == special.sender] == [special]


@settings(max_examples=20, deadline=None)
@given(st.integers(min_value=0, max_value=2**63))
def test_the_vault_is_left_quietly_exactly_once_and_openly_too(seed: int) -> None:
    plan = make_plan(seed)
    vault = calls(plan, "vault")
    assert [call for call in vault if call.function == "withdrawQuietly"] == [plan.silent]
    assert [call.function for call in vault].count("withdraw") == 1
    assert vault[0].function == "deposit"


def test_the_agenda_is_done_in_full_by_the_default_seed() -> None:
    plan = make_plan()
    done = len(calls(plan, "gateway")) + sum(
        call.function == "transfer" for call in [*calls(plan, "USDX"), *calls(plan, "EURX")]
    )
    special = 2  # the moved and the dropped payment are beside the agenda
    assert done == sum(QUOTA.values()) + special
