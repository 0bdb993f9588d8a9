"""Deposits, invoices, subscriptions, internal transfers, withdrawals: who is owed what, and who may move it."""

from __future__ import annotations

import pytest

from tests.integration.solidity.chain import NATIVE, id_of
from tests.integration.solidity.world import (
    ANN,
    BOB,
    CAFE,
    CUSTOMER,
    ETHER,
    FEE_BASIS_POINTS,
    FEES,
    HOUSE,
    MERCHANT,
    NOTE,
    SHOP,
    USD,
    World,
)


@pytest.mark.parametrize("asset_number", [0, 1, 2])
def test_deposit_credits_what_arrived_and_withdrawal_takes_it_out(world: World, asset_number: int) -> None:
    asset = world.assets[asset_number]
    value = 700 if asset == NATIVE else 0
    [deposited] = [
        log
        for log in world.gateway.send("deposit", ANN, asset, 700, NOTE, sender=world.bob, value=value)
        if log.name == "Deposited"
    ]
    assert deposited.args == {
        "accountId": ANN, "asset": asset, "payer": world.bob, "received": 700, "balanceAfter": 700, "ref": NOTE,
        "seq": 1,
    }  # fmt: skip
    [withdrawn] = [
        log
        for log in world.gateway.send("withdraw", ANN, asset, world.stranger, 300, NOTE, sender=world.ann)
        if log.name == "Withdrawn"
    ]
    assert withdrawn.args == {
        "accountId": ANN, "asset": asset, "to": world.stranger, "amount": 300, "balanceAfter": 400, "ref": NOTE,
        "seq": 2,
    }  # fmt: skip
    assert world.balance(ANN, asset) == world.gateway.call("totalLiabilities", asset) == 400


def test_native_value_must_be_the_amount_and_nothing_may_come_with_tokens(world: World) -> None:
    def refusal(asset: str, amount: int, value: int) -> object:
        return world.gateway.refusal("deposit", ANN, asset, amount, NOTE, sender=world.ann, value=value).name

    assert refusal(NATIVE, 5, 4) == "ValueWrong"
    assert refusal(NATIVE, 5, 6) == "ValueWrong"
    assert refusal(world.usd.address, 5, 5) == "ValueWrong"
    assert refusal(NATIVE, 0, 0) == "ZeroAmount"


def test_withdrawal_is_the_owners_alone_and_within_the_balance(world: World) -> None:
    world.deposit(ANN, NATIVE, 100, sender=world.ann)
    world.deposit(BOB, NATIVE, 100, sender=world.bob)
    gateway = world.gateway
    for other in (world.bob, world.admin, world.stranger):
        assert gateway.refusal("withdraw", ANN, NATIVE, other, 1, NOTE, sender=other).name == "NotAllowed"
    too_much = gateway.refusal("withdraw", ANN, NATIVE, world.ann, 101, NOTE, sender=world.ann)
    assert (too_much.name, too_much.args) == ("BalanceTooLow", (ANN, NATIVE, 100, 101))
    assert gateway.refusal("withdraw", ANN, NATIVE, world.ann, 0, NOTE, sender=world.ann).name == "ZeroAmount"
    nobody = id_of("nobody")
    assert gateway.refusal("withdraw", nobody, NATIVE, world.ann, 1, NOTE, sender=world.ann).name == "AccountUnknown"
    for to in (NATIVE, gateway.address):
        assert gateway.refusal("withdraw", ANN, NATIVE, to, 1, NOTE, sender=world.ann).name == "RecipientRefused"


@pytest.mark.parametrize(
    ("gross", "fee"), [(1, 0), (39, 0), (40, 1), (79, 1), (80, 2), (10_000, 250), (10_039, 250), (10_040, 251)]
)
def test_fee_rounds_down_and_the_merchant_gets_the_rest(world: World, gross: int, fee: int) -> None:
    [paid] = world.gateway.send("payInvoice", SHOP, id_of("1"), NATIVE, gross, sender=world.ann, value=gross)
    assert paid.args == {
        "invoiceId": id_of("1"), "merchantId": SHOP, "asset": NATIVE, "payer": world.ann, "gross": gross, "fee": fee,
        "merchantBalanceAfter": gross - fee, "feeAccount": HOUSE, "seq": 1,
    }  # fmt: skip
    assert world.balance(SHOP, NATIVE) == gross - fee
    assert world.balance(HOUSE, NATIVE) == fee


def test_fee_of_the_largest_amounts_does_not_overflow(world: World) -> None:
    token = world.list_hostile("LyingToken")
    amount = 2**256 // 200
    token.send("setPercents", 100, 100, sender=world.ann)
    token.send("mint", world.bob, amount, sender=world.ann)
    token.send("approve", world.gateway.address, amount, sender=world.bob)
    world.gateway.send("payInvoice", SHOP, id_of("1"), token.address, amount, sender=world.bob)
    assert world.balance(HOUSE, token.address) == amount * FEE_BASIS_POINTS // 10_000


def test_an_invoice_is_paid_once_per_merchant(world: World) -> None:
    gateway, invoice = world.gateway, id_of("invoice 7")
    gateway.send("payInvoice", SHOP, invoice, world.usd.address, 5 * USD, sender=world.ann)
    for asset in world.assets:
        value = USD if asset == NATIVE else 0
        again = gateway.refusal("payInvoice", SHOP, invoice, asset, USD, sender=world.bob, value=value)
        assert (again.name, again.args) == ("PaymentIdUsed", (SHOP, invoice))
    gateway.send("payInvoice", CAFE, invoice, world.usd.address, 5 * USD, sender=world.ann)
    hold = gateway.refusal("authorize", SHOP, invoice, NATIVE, 1, world.node.now() + 99, sender=world.bob, value=1)
    assert hold.name == "PaymentIdUsed"
    assert gateway.refusal("payInvoice", SHOP, bytes(32), NATIVE, 1, sender=world.ann, value=1).name == "ZeroId"
    assert gateway.refusal("payInvoice", ANN, id_of("8"), NATIVE, 1, sender=world.ann, value=1).name == (
        "AccountKindWrong"
    )


def test_a_merchants_own_fees_come_before_those_for_all(world: World) -> None:
    gateway = world.gateway
    [told] = gateway.send("setFeeSchedule", CAFE, 1_000, HOUSE, False, sender=world.admin)
    assert told.args == {"merchantId": CAFE, "basisPoints": 1_000, "feeAccount": HOUSE, "returnedOnRefund": False}
    for merchant, expected in ((CAFE, 1_000), (SHOP, FEE_BASIS_POINTS)):
        [paid] = gateway.send("payInvoice", merchant, id_of("1"), NATIVE, 10_000, sender=world.ann, value=10_000)
        assert paid.args["fee"] == expected
    gateway.send("setFeeSchedule", CAFE, 0, bytes(32), False, sender=world.admin)
    [free] = gateway.send("payInvoice", CAFE, id_of("2"), NATIVE, 10_000, sender=world.ann, value=10_000)
    assert (free.args["fee"], free.args["feeAccount"]) == (0, bytes(32))


def test_fee_schedules_need_a_fee_account_and_a_limit(world: World) -> None:
    def refusal(merchant: bytes, basis_points: int, account: bytes) -> str:
        return world.gateway.refusal("setFeeSchedule", merchant, basis_points, account, True, sender=world.admin).name

    assert refusal(SHOP, 2_001, HOUSE) == "FeeTooHigh"
    assert refusal(SHOP, 1, bytes(32)) == "AccountUnknown"
    assert refusal(SHOP, 1, CAFE) == "AccountKindWrong"
    assert refusal(ANN, 1, HOUSE) == "AccountKindWrong"


def test_a_subscription_moves_money_inside_and_once_per_period(world: World) -> None:
    gateway, now, plan = world.gateway, world.node.now(), id_of("subscription")
    world.deposit(ANN, world.usd.address, 100 * USD, sender=world.ann)
    charge = ("chargeSubscription", plan, ANN, SHOP, world.usd.address, 30 * USD)
    [charged] = gateway.send(*charge, now - 200, sender=world.admin)
    assert charged.args == {
        "subscriptionId": plan, "customerId": ANN, "merchantId": SHOP, "asset": world.usd.address, "gross": 30 * USD,
        "fee": 750_000, "feeAccount": HOUSE, "periodStart": now - 200, "seq": 2,
    }  # fmt: skip
    assert world.balance(ANN, world.usd.address) == 70 * USD
    assert gateway.call("totalLiabilities", world.usd.address) == 100 * USD
    for period in (now - 200, now - 300, now + 10_000):
        assert gateway.refusal(*charge, period, sender=world.admin).name == "PeriodNotDue"
    gateway.send(*charge, now - 100, sender=world.admin)
    for customer, merchant, asset in (
        (BOB, SHOP, world.usd.address),
        (ANN, CAFE, world.usd.address),
        (ANN, SHOP, NATIVE),
    ):
        other = gateway.refusal("chargeSubscription", plan, customer, merchant, asset, 1, now, sender=world.admin)
        assert other.name == "SubscriptionDiffers"


def test_a_subscription_cannot_overdraw_or_be_charged_by_others(world: World) -> None:
    gateway, now = world.gateway, world.node.now()
    world.deposit(ANN, NATIVE, 10, sender=world.ann)
    charge = ("chargeSubscription", id_of("s"), ANN, SHOP, NATIVE)
    assert gateway.refusal(*charge, 11, now, sender=world.admin).name == "BalanceTooLow"
    assert gateway.refusal(*charge, 0, now, sender=world.admin).name == "ZeroAmount"
    for other in (world.shop, world.ann, world.stranger):
        assert gateway.refusal(*charge, 1, now, sender=other).name == "AccessControlUnauthorizedAccount"
    between_merchants = ("chargeSubscription", id_of("s"), CAFE, SHOP, NATIVE, 1, now)
    assert gateway.refusal(*between_merchants, sender=world.admin).name == "AccountKindWrong"


def test_internal_transfer_moves_a_claim_and_no_custody(world: World) -> None:
    gateway = world.gateway
    world.deposit(ANN, NATIVE, 100, sender=world.ann)
    [moved] = gateway.send("internalTransfer", ANN, SHOP, NATIVE, 60, NOTE, sender=world.ann)
    assert moved.args == {"from": ANN, "to": SHOP, "asset": NATIVE, "amount": 60, "ref": NOTE, "seq": 2}
    assert (world.balance(ANN, NATIVE), world.balance(SHOP, NATIVE)) == (40, 60)
    refused = {
        (ANN, SHOP, 41, world.ann): "BalanceTooLow",
        (ANN, SHOP, 1, world.shop): "NotAllowed",
        (ANN, SHOP, 1, world.admin): "NotAllowed",
        (ANN, ANN, 1, world.ann): "SameAccount",
        (ANN, id_of("nobody"), 1, world.ann): "AccountUnknown",
        (ANN, SHOP, 0, world.ann): "ZeroAmount",
    }
    for (source, target, amount, sender), name in refused.items():
        assert gateway.refusal("internalTransfer", source, target, NATIVE, amount, NOTE, sender=sender).name == name


def test_accounts_open_once_with_an_owner_and_a_kind(world: World) -> None:
    gateway, new = world.gateway, id_of("new")
    refused = {
        (ANN, world.bob, CUSTOMER): "AccountExists",
        (bytes(32), world.bob, CUSTOMER): "ZeroId",
        (new, NATIVE, CUSTOMER): "RecipientRefused",
        (new, world.bob, 0): "AccountKindWrong",
        (new, world.bob, FEES + 1): "AccountKindWrong",
    }
    for (account, owner, kind), name in refused.items():
        assert gateway.refusal("openAccount", account, owner, kind, NOTE, sender=world.admin).name == name
    [opened] = gateway.send("openAccount", new, world.bob, MERCHANT, NOTE, sender=world.admin)
    assert opened.args == {"accountId": new, "owner": world.bob, "kind": MERCHANT, "externalRef": NOTE}
    assert gateway.call("accountOf", new) == (world.bob, MERCHANT)
    unknown = id_of("unknown")
    assert gateway.refusal("deposit", unknown, NATIVE, ETHER, NOTE, sender=world.ann, value=ETHER).name == (
        "AccountUnknown"
    )
