"""Refunds: never more than was captured, out of the merchant's money, with the fee as it was agreed."""

from __future__ import annotations

import pytest

from tests.integration.solidity.chain import NATIVE, id_of
from tests.integration.solidity.world import HOUSE, NOTE, SHOP, World

INVOICE = id_of("invoice")


def pay(world: World, amount: int, *, asset: str = NATIVE, invoice: bytes = INVOICE) -> None:
    value = amount if asset == NATIVE else 0
    world.gateway.send("payInvoice", SHOP, invoice, asset, amount, sender=world.ann, value=value)


@pytest.mark.parametrize("asset_number", [0, 1, 2])
def test_refund_pays_out_of_merchant_and_fee_account(world: World, asset_number: int) -> None:
    gateway, asset = world.gateway, world.assets[asset_number]
    pay(world, 10_000, asset=asset)
    logs = gateway.send("refund", SHOP, INVOICE, world.bob, 4_001, sender=world.shop)
    [refunded] = [log for log in logs if log.name == "Refunded"]
    assert refunded.args == {
        "paymentId": INVOICE, "merchantId": SHOP, "asset": asset, "to": world.bob, "amount": 4_001,
        "feeReturned": 100, "feeAccount": HOUSE, "refundedTotal": 4_001, "seq": 2,
    }  # fmt: skip
    assert world.balance(SHOP, asset) == 9_750 - 3_901
    assert world.balance(HOUSE, asset) == 150


def test_refunds_in_parts_return_the_whole_fee_and_not_a_unit_more(world: World) -> None:
    pay(world, 9_999)  # fee 249
    returned = 0
    for amount in (1, 38, 1_000, 3_333, 5_626, 1):
        logs = world.gateway.send("refund", SHOP, INVOICE, world.ann, amount, sender=world.shop)
        returned += logs[0].args["feeReturned"]
    assert returned == 249
    assert world.balance(SHOP, NATIVE) == world.balance(HOUSE, NATIVE) == 0
    more = world.gateway.refusal("refund", SHOP, INVOICE, world.ann, 1, sender=world.shop)
    assert (more.name, more.args) == ("RefundTooLarge", (INVOICE, 0, 1))


def test_a_refund_is_limited_by_what_was_captured_not_by_what_was_authorized(world: World) -> None:
    gateway, expiry = world.gateway, world.node.now() + 1_000
    gateway.send("authorize", SHOP, INVOICE, NATIVE, 1_000, expiry, sender=world.ann, value=1_000)
    assert gateway.refusal("refund", SHOP, INVOICE, world.ann, 1, sender=world.shop).name == "RefundTooLarge"
    gateway.send("capture", INVOICE, 400, sender=world.shop)
    assert gateway.refusal("refund", SHOP, INVOICE, world.ann, 401, sender=world.shop).name == "RefundTooLarge"
    gateway.send("refund", SHOP, INVOICE, world.ann, 400, sender=world.shop)
    gateway.send("capture", INVOICE, 600, sender=world.shop)
    gateway.send("refund", SHOP, INVOICE, world.ann, 600, sender=world.shop)
    assert gateway.call("refundedTotal", SHOP, INVOICE) == gateway.call("captured", SHOP, INVOICE) == 1_000
    assert world.balance(SHOP, NATIVE) == world.balance(HOUSE, NATIVE) == 0


def test_a_refund_comes_out_of_the_merchants_available_balance(world: World) -> None:
    gateway = world.gateway
    pay(world, 10_000)
    gateway.send("withdraw", SHOP, NATIVE, world.shop, 9_000, NOTE, sender=world.shop)
    assert gateway.refusal("refund", SHOP, INVOICE, world.ann, 1_000, sender=world.shop).name == "BalanceTooLow"


def test_an_empty_fee_account_does_not_stop_a_refund(world: World) -> None:
    gateway = world.gateway
    pay(world, 10_000)
    pay(world, 10_000, invoice=id_of("other"))
    gateway.send("withdraw", HOUSE, NATIVE, world.house, 490, NOTE, sender=world.house)
    [first] = gateway.send("refund", SHOP, INVOICE, world.ann, 9_990, sender=world.shop)
    assert first.args["feeReturned"] == 10
    world.deposit(HOUSE, NATIVE, 1_000, sender=world.house)
    [second] = gateway.send("refund", SHOP, INVOICE, world.ann, 10, sender=world.shop)
    assert second.args["feeReturned"] == 10, "arrears are never more than the refund itself"


def test_fees_stay_where_the_terms_say_so(world: World) -> None:
    world.gateway.send("setFeeSchedule", SHOP, 250, HOUSE, False, sender=world.admin)
    pay(world, 10_000)
    pay(world, 10_000, invoice=id_of("other"))
    [refunded] = world.gateway.send("refund", SHOP, INVOICE, world.ann, 10_000, sender=world.shop)
    assert refunded.args["feeReturned"] == 0
    assert world.balance(HOUSE, NATIVE) == 500
    assert world.balance(SHOP, NATIVE) == 9_500


def test_who_may_refund_to_whom(world: World) -> None:
    gateway = world.gateway
    pay(world, 100)
    for other in (world.ann, world.cafe, world.stranger):
        assert gateway.refusal("refund", SHOP, INVOICE, other, 1, sender=other).name == "NotAllowed"
    assert gateway.refusal("refund", SHOP, INVOICE, world.admin, 1, sender=world.admin).name == "RecipientRefused"
    gateway.send("refund", SHOP, INVOICE, world.ann, 1, sender=world.admin)
    assert gateway.refusal("refund", SHOP, id_of("no"), world.ann, 1, sender=world.shop).name == "PaymentUnknown"
    assert gateway.refusal("refund", SHOP, INVOICE, world.ann, 0, sender=world.shop).name == "ZeroAmount"
