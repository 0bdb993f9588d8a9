"""Who may do what, and what goes on while the gateway is paused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.solidity.chain import NATIVE, id_of
from tests.integration.solidity.world import ANN, CUSTOMER, HOUSE, NOTE, SHOP, World

GUARDED: list[tuple[str, tuple[Any, ...], str]] = [
    ("openAccount", (id_of("new"), "0x" + "77" * 20, CUSTOMER, NOTE), "OPERATOR_ROLE"),
    ("chargeSubscription", (id_of("s"), ANN, SHOP, NATIVE, 1, 1), "OPERATOR_ROLE"),
    ("adjust", (ANN, NATIVE, 1, NOTE), "TREASURER_ROLE"),
    ("sweepUnattributed", (NATIVE, "0x" + "77" * 20, 1), "TREASURER_ROLE"),
    ("pause", (), "PAUSER_ROLE"),
    ("setFeeSchedule", (SHOP, 1, HOUSE, True), "DEFAULT_ADMIN_ROLE"),
    ("listAsset", (NATIVE, False), "DEFAULT_ADMIN_ROLE"),
    ("delistAsset", (NATIVE,), "DEFAULT_ADMIN_ROLE"),
]


@pytest.mark.parametrize(("function", "args", "role"), GUARDED, ids=[entry[0] for entry in GUARDED])
def test_each_duty_has_its_role_and_no_other_role_will_do(
    world: World, function: str, args: tuple[Any, ...], role: str
) -> None:
    gateway = world.gateway
    world.deposit(ANN, NATIVE, 100, sender=world.ann)
    world.send_plain(100, sender=world.bob)
    roles = {
        name: gateway.call(name) for name in ("DEFAULT_ADMIN_ROLE", "OPERATOR_ROLE", "PAUSER_ROLE", "TREASURER_ROLE")
    }
    for name, value in roles.items():
        if name != role:
            gateway.send("grantRole", value, world.stranger, sender=world.admin)
    refused = gateway.refusal(function, *args, sender=world.stranger)
    assert (refused.name, refused.args) == ("AccessControlUnauthorizedAccount", (world.stranger, roles[role]))
    gateway.send("grantRole", roles[role], world.bob, sender=world.admin)
    gateway.send(function, *args, sender=world.bob)


def test_only_the_pauser_goes_on(world: World) -> None:
    gateway = world.gateway
    assert gateway.refusal("unpause", sender=world.admin).name == "ExpectedPause"
    [paused] = gateway.send("pause", sender=world.admin)
    assert (paused.name, paused.args) == ("Paused", {"account": world.admin})
    assert gateway.refusal("unpause", sender=world.stranger).name == "AccessControlUnauthorizedAccount"
    [unpaused] = gateway.send("unpause", sender=world.admin)
    assert (unpaused.name, unpaused.args) == ("Unpaused", {"account": world.admin})
    world.deposit(ANN, NATIVE, 1, sender=world.ann)


def test_roles_can_be_taken_away(world: World) -> None:
    gateway = world.gateway
    operator = gateway.call("OPERATOR_ROLE")
    gateway.send("revokeRole", operator, world.admin, sender=world.admin)
    refused = gateway.refusal("openAccount", id_of("new"), world.bob, CUSTOMER, NOTE, sender=world.admin)
    assert refused.name == "AccessControlUnauthorizedAccount"


@pytest.mark.parametrize("asset_number", [0, 1])
def test_paused_money_stands_still_but_goes_home(world: World, asset_number: int) -> None:
    gateway, asset, now = world.gateway, world.assets[asset_number], world.node.now()
    value = 1_000 if asset == NATIVE else 0
    world.deposit(ANN, asset, 1_000, sender=world.ann)
    gateway.send("payInvoice", SHOP, id_of("paid"), asset, 1_000, sender=world.ann, value=value)
    for name in ("held", "expired"):
        seconds = 9_999 if name == "held" else 100
        gateway.send("authorize", SHOP, id_of(name), asset, 1_000, now + seconds, sender=world.ann, value=value)
    world.node.pass_time(200)
    gateway.send("pause", sender=world.admin)

    one = 1 if asset == NATIVE else 0
    for sender, sent, function, *args in (
        (world.ann, one, "deposit", ANN, asset, 1, NOTE),
        (world.ann, one, "payInvoice", SHOP, id_of("1"), asset, 1),
        (world.ann, one, "authorize", SHOP, id_of("2"), asset, 1, now + 9_999),
        (world.shop, 0, "capture", id_of("held"), 1),
        (world.ann, 0, "internalTransfer", ANN, SHOP, asset, 1, NOTE),
        (world.admin, 0, "chargeSubscription", id_of("3"), ANN, SHOP, asset, 1, now),
        (world.admin, 0, "openAccount", id_of("new"), world.bob, CUSTOMER, NOTE),
        (world.admin, 0, "adjust", ANN, asset, 1, NOTE),
        (world.admin, 0, "sweepUnattributed", asset, world.admin, 1),
    ):
        assert gateway.refusal(function, *args, sender=sender, value=sent).name == "EnforcedPause", function

    gateway.send("withdraw", ANN, asset, world.ann, 1_000, NOTE, sender=world.ann)
    gateway.send("refund", SHOP, id_of("paid"), world.ann, 1_000, sender=world.shop)
    gateway.send("voidPayment", id_of("held"), sender=world.shop)
    gateway.send("voidExpired", [id_of("expired")], sender=world.stranger)
    assert gateway.call("totalLiabilities", asset) == 0
