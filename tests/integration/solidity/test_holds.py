"""Authorization, capture, void, expiry: what is held is owed, is captured at most once, and otherwise goes home."""

from __future__ import annotations

import pytest

from tests.integration.solidity.chain import NATIVE, Contract, id_of
from tests.integration.solidity.world import CAFE, HOUSE, SHOP, World

PAYMENT = id_of("payment")
REFUSE, BURN_GAS = 2, 3


def hold(world: World, amount: int, *, asset: str = NATIVE, payment: bytes = PAYMENT, seconds: int = 1_000) -> int:
    """Ann's hold for the shop; returns its expiry."""
    expiry = world.node.now() + seconds
    value = amount if asset == NATIVE else 0
    world.gateway.send("authorize", SHOP, payment, asset, amount, expiry, sender=world.ann, value=value)
    return expiry


@pytest.mark.parametrize("asset_number", [0, 1, 2])
def test_capture_in_parts_then_void_the_rest(world: World, asset_number: int) -> None:
    gateway, asset = world.gateway, world.assets[asset_number]
    expiry = hold(world, 1_000, asset=asset)
    assert gateway.call("totalLiabilities", asset) == gateway.call("escrow", PAYMENT) == 1_000
    assert gateway.call("authorization", PAYMENT) == (SHOP, asset, world.ann, 1_000, 0, 1_000, expiry)

    [first] = gateway.send("capture", PAYMENT, 399, sender=world.shop)
    assert first.args == {
        "paymentId": PAYMENT, "merchantId": SHOP, "asset": asset, "amount": 399, "fee": 9, "feeAccount": HOUSE,
        "remainingHold": 601, "seq": 2,
    }  # fmt: skip
    gateway.send("capture", PAYMENT, 401, sender=world.admin)
    assert (world.balance(SHOP, asset), world.balance(HOUSE, asset)) == (781, 19)
    assert gateway.call("captured", SHOP, PAYMENT) == 800

    too_much = gateway.refusal("capture", PAYMENT, 201, sender=world.shop)
    assert (too_much.name, too_much.args) == ("HoldTooSmall", (PAYMENT, 200, 201))
    [voided] = [log for log in gateway.send("voidPayment", PAYMENT, sender=world.shop) if log.name == "PaymentVoided"]
    assert voided.args == {"paymentId": PAYMENT, "asset": asset, "payer": world.ann, "amount": 200, "seq": 4}
    assert gateway.call("totalLiabilities", asset) == 800
    assert gateway.refusal("capture", PAYMENT, 1, sender=world.shop).name == "HoldTooSmall"
    assert gateway.refusal("voidPayment", PAYMENT, sender=world.shop).name == "HoldTooSmall"


def test_a_hold_is_the_merchants_until_expiry_and_anyones_to_send_home_afterwards(world: World) -> None:
    gateway = world.gateway
    expiry = hold(world, 500)
    for other in (world.ann, world.cafe, world.stranger):
        assert gateway.refusal("capture", PAYMENT, 1, sender=other).name == "NotAllowed"
        assert gateway.refusal("voidPayment", PAYMENT, sender=other).name == "NotAllowed"
    with world.node.undone():
        world.node.rpc("evm_setNextBlockTimestamp", hex(expiry))
        gateway.send("capture", PAYMENT, 1, sender=world.shop)  # the last second counts
    world.node.pass_time(1_001)
    late = gateway.refusal("capture", PAYMENT, 1, sender=world.shop)
    assert (late.name, late.args) == ("AuthorizationExpired", (PAYMENT, expiry))
    before = world.node.native_balance(world.ann)
    gateway.send("voidPayment", PAYMENT, sender=world.stranger)
    assert world.node.native_balance(world.ann) == before + 500


def test_a_payment_id_is_authorized_once_over_all_merchants(world: World) -> None:
    gateway = world.gateway
    expiry = hold(world, 500)
    for merchant in (SHOP, CAFE):
        again = ("authorize", merchant, PAYMENT, NATIVE, 1, expiry)
        assert gateway.refusal(*again, sender=world.bob, value=1).name == "PaymentIdUsed"
    gateway.send("voidPayment", PAYMENT, sender=world.shop)
    for merchant in (SHOP, CAFE):
        again = ("authorize", merchant, PAYMENT, NATIVE, 1, expiry)
        assert gateway.refusal(*again, sender=world.bob, value=1).name == "PaymentIdUsed"
    assert gateway.refusal("payInvoice", SHOP, PAYMENT, NATIVE, 1, sender=world.bob, value=1).name == "PaymentIdUsed"


def test_a_hold_must_lie_ahead_and_hold_something(world: World) -> None:
    gateway, now = world.gateway, world.node.now()
    assert gateway.refusal("authorize", SHOP, PAYMENT, NATIVE, 5, now, sender=world.ann, value=5).name == (
        "ExpiryNotAhead"
    )
    assert gateway.refusal("authorize", SHOP, PAYMENT, NATIVE, 0, now + 99, sender=world.ann).name == "ZeroAmount"
    assert gateway.refusal("voidPayment", PAYMENT, sender=world.shop).name == "PaymentUnknown"
    assert gateway.refusal("capture", PAYMENT, 1, sender=world.shop).name == "PaymentUnknown"
    hold(world, 5)
    assert gateway.refusal("capture", PAYMENT, 0, sender=world.shop).name == "ZeroAmount"


def test_fee_terms_are_those_of_the_authorization(world: World) -> None:
    gateway = world.gateway
    hold(world, 10_000)
    gateway.send("setFeeSchedule", SHOP, 2_000, HOUSE, True, sender=world.admin)
    [captured] = gateway.send("capture", PAYMENT, 10_000, sender=world.shop)
    assert captured.args["fee"] == 250


def contract_payer(world: World, payment: bytes, mode: int, *, expiry: int) -> Contract:
    payer = world.node.deploy("Attacker")
    call = world.gateway.encode("authorize", SHOP, payment, NATIVE, 10, expiry)
    payer.send("execute", world.gateway.address, call, 10, sender=world.ann, value=10)
    payer.send("arm", mode, world.gateway.address, b"", 0, sender=world.ann)
    return payer


@pytest.mark.parametrize("mode", [REFUSE, BURN_GAS])
def test_a_payer_who_cannot_be_paid_does_not_stop_the_others(world: World, mode: int) -> None:
    gateway = world.gateway
    expiry = hold(world, 500, payment=id_of("1"))
    payer = contract_payer(world, id_of("2"), mode, expiry=expiry)
    contract_payer(world, id_of("2b"), mode, expiry=expiry)
    hold(world, 700, payment=id_of("3"))
    hold(world, 900, payment=id_of("4"), seconds=9_000)  # not expired
    gateway.send("voidPayment", id_of("3"), sender=world.shop)  # nothing held
    hold(world, 800, payment=id_of("5"))
    world.node.pass_time(1_500)
    assert gateway.refusal("voidPayment", id_of("2"), sender=world.stranger).name == "NativePayoutFailed"

    ids = [id_of(name) for name in ("1", "2", "2b", "3", "4", "5", "unknown")]
    logs = gateway.send("voidExpired", ids, sender=world.stranger)
    assert [(log.name, log.args["paymentId"]) for log in logs] == [
        ("PaymentVoided", id_of("1")),
        ("PayoutFailed", id_of("2")),
        ("PayoutFailed", id_of("2b")),
        ("PaymentVoided", id_of("5")),
    ]
    assert logs[1].args == {"paymentId": id_of("2"), "asset": NATIVE, "to": payer.address, "amount": 10}
    assert [logs[0].args["seq"], logs[3].args["seq"]] == [8, 9], "a payout that failed takes no number"
    assert gateway.call("escrow", id_of("2")) == 10

    payer.send("arm", 0, gateway.address, b"", 0, sender=world.ann)
    gateway.send("voidExpired", [id_of("2")], sender=world.stranger)
    assert world.node.native_balance(payer.address) == 10


def test_the_batch_item_is_the_gateways_own_call(world: World) -> None:
    hold(world, 500)
    for other in (world.admin, world.shop, world.ann):
        assert world.gateway.refusal("voidFromBatch", PAYMENT, sender=other).name == "NotAllowed"
