"""What the gateway holds: tokens that charge, lie or rebase, plain sends, adjusting and sweeping what is nobody's."""

from __future__ import annotations

import pytest

from tests.integration.solidity.books import check_identities
from tests.integration.solidity.chain import NATIVE, Contract, id_of
from tests.integration.solidity.world import ANN, ETHER, NOTE, RICH, SHOP, USD, World

REASON = b"goodwill".ljust(32, b"\0")


def deposit_refusal(world: World, token: Contract, amount: int) -> str:
    return world.gateway.refusal("deposit", ANN, token.address, amount, NOTE, sender=world.ann).name


# Tokens that do not move what they say.


def test_fee_on_transfer_needs_a_flag(world: World) -> None:
    token = world.list_hostile("FeeOnTransferToken")
    for function, *args in (
        ("deposit", ANN, token.address, 100, NOTE),
        ("payInvoice", SHOP, id_of("1"), token.address, 100),
        ("authorize", SHOP, id_of("2"), token.address, 100, world.node.now() + 999),
    ):
        refused = world.gateway.refusal(function, *args, sender=world.ann)
        assert (refused.name, refused.args) == ("UnexpectedReceipt", (token.address, 100, 99))


def test_with_the_flag_what_arrived_counts(world: World) -> None:
    gateway, expiry = world.gateway, world.node.now() + 999
    token = world.list_hostile("FeeOnTransferToken", fee_on_transfer=True)
    *_, deposited = gateway.send("deposit", ANN, token.address, 10_000, NOTE, sender=world.ann)
    *_, paid = gateway.send("payInvoice", SHOP, id_of("1"), token.address, 10_000, sender=world.ann)
    *_, held = gateway.send("authorize", SHOP, id_of("2"), token.address, 10_000, expiry, sender=world.ann)
    assert (deposited.args["received"], paid.args["gross"], paid.args["fee"], held.args["amount"]) == (
        9_900, 9_900, 247, 9_900,
    )  # fmt: skip
    gateway.send("capture", id_of("2"), 5_000, sender=world.shop)
    gateway.send("voidPayment", id_of("2"), sender=world.shop)
    gateway.send("refund", SHOP, id_of("1"), world.ann, 900, sender=world.shop)
    gateway.send("withdraw", ANN, token.address, world.bob, 9_900, NOTE, sender=world.ann)
    assert token.call("balanceOf", world.bob) == 9_801, "the token's fee is the recipient's, not the other customers'"
    check_identities(world.node, gateway, [token], plain_native=None)


def test_a_lying_token_is_found_by_the_balance_not_by_its_log(world: World) -> None:
    token = world.list_hostile("LyingToken")
    assert deposit_refusal(world, token, 100) == "UnexpectedReceipt"
    token.send("setPercents", 100, 0, sender=world.ann)
    assert deposit_refusal(world, token, 100) == "UnexpectedReceipt"
    token.send("setPercents", 100, 101, sender=world.ann)
    assert deposit_refusal(world, token, 100) == "UnexpectedReceipt"

    world.gateway.send("listAsset", token.address, True, sender=world.admin)
    assert deposit_refusal(world, token, 100) == "UnexpectedReceipt", "more than was sent, even with the flag"
    token.send("setPercents", 100, 0, sender=world.ann)
    assert deposit_refusal(world, token, 100) == "UnexpectedReceipt", "nothing, even with the flag"
    token.send("setPercents", 100, 99, sender=world.ann)
    transfer, deposited = world.gateway.send("deposit", ANN, token.address, 100, NOTE, sender=world.ann)
    assert (transfer.args["value"], deposited.args["received"]) == (100, 99)
    assert world.gateway.call("unattributed", token.address) == 0


@pytest.mark.parametrize("taken_percent", [0, 99, 101])
def test_a_payout_lowers_the_balance_by_its_amount_or_fails(world: World, taken_percent: int) -> None:
    gateway = world.gateway
    token = world.list_hostile("LyingToken")
    token.send("setPercents", 100, 100, sender=world.ann)
    world.deposit(ANN, token.address, 10_000, sender=world.ann)
    world.gateway.send("payInvoice", SHOP, id_of("1"), token.address, 10_000, sender=world.ann)
    token.send("setPercents", taken_percent, 100, sender=world.ann)
    for function, args, sender in (
        ("withdraw", (ANN, token.address, world.bob, 1_000, NOTE), world.ann),
        ("refund", (SHOP, id_of("1"), world.ann, 1_000), world.shop),
    ):
        assert gateway.refusal(function, *args, sender=sender).name == "UnexpectedPayout"


def test_tokens_that_return_nothing_work_and_those_that_return_false_fail(world: World) -> None:
    gateway = world.gateway
    token = world.list_hostile("SilentReturnToken")
    world.deposit(ANN, token.address, 500, sender=world.ann)
    gateway.send("withdraw", ANN, token.address, world.bob, 200, NOTE, sender=world.ann)
    check_identities(world.node, gateway, [token], plain_native=None)
    token.send("setRefuses", True, sender=world.ann)
    assert deposit_refusal(world, token, 100) == "SafeERC20FailedOperation"
    refused = gateway.refusal("withdraw", ANN, token.address, world.bob, 200, NOTE, sender=world.ann)
    assert refused.name == "SafeERC20FailedOperation"


# Tokens whose balances change by themselves.


@pytest.mark.parametrize("name", ["SharesToken", "ScaledToken"])
def test_tokens_that_show_shares_are_not_listed(world: World, name: str) -> None:
    token = world.node.deploy(name)
    for flag in (False, True):
        refused = world.gateway.refusal("listAsset", token.address, flag, sender=world.admin)
        assert (refused.name, refused.args) == ("AssetRebases", (token.address,))


def test_a_balance_that_shrank_stops_inflow_and_not_withdrawals(world: World) -> None:
    gateway = world.gateway
    token = world.list_hostile("RebasingToken")
    world.deposit(ANN, token.address, 10_000, sender=world.ann)
    token.send("setScale", 50, sender=world.stranger)
    assert gateway.call("shortfall", token.address) == 5_000
    assert gateway.call("unattributed", token.address) == 0
    assert deposit_refusal(world, token, 100) == "BalanceShrank"
    gateway.send("withdraw", ANN, token.address, world.ann, 1_000, NOTE, sender=world.ann)
    assert deposit_refusal(world, token, 100) == "BalanceShrank", "a payout does not make it good"
    assert gateway.refusal("listAsset", token.address, True, sender=world.admin).name == "BalanceShrank"
    assert gateway.refusal("sweepUnattributed", token.address, world.admin, 1, sender=world.admin).name == (
        "UnattributedTooLow"
    )
    token.send("setScale", 100, sender=world.stranger)
    assert gateway.call("shortfall", token.address) == 1_000, "what left while it was worth half"
    assert deposit_refusal(world, token, 100) == "BalanceShrank"
    token.send("mint", gateway.address, 1_000, sender=world.stranger)
    world.deposit(ANN, token.address, 100, sender=world.ann)


def test_a_shrinkage_is_seen_after_sweeping_too(world: World) -> None:
    gateway = world.gateway
    token = world.list_hostile("RebasingToken")
    world.deposit(ANN, token.address, 10_000, sender=world.ann)
    token.send("mint", gateway.address, 10_000, sender=world.ann)
    gateway.send("sweepUnattributed", token.address, world.bob, 10_000, sender=world.admin)
    token.send("setScale", 99, sender=world.stranger)
    assert deposit_refusal(world, token, 99) == "BalanceShrank"


def test_a_balance_that_grew_is_unattributed(world: World) -> None:
    token = world.list_hostile("RebasingToken")
    world.deposit(ANN, token.address, 10_000, sender=world.ann)
    token.send("setScale", 200, sender=world.stranger)
    assert world.gateway.call("unattributed", token.address) == 10_000
    assert world.balance(ANN, token.address) == 10_000


# Listing.


def test_only_listed_assets_come_in_and_delisted_ones_can_still_leave(world: World) -> None:
    gateway, now = world.gateway, world.node.now()
    usd = world.usd.address
    world.deposit(ANN, usd, 1_000, sender=world.ann)
    gateway.send("payInvoice", SHOP, id_of("paid"), usd, 1_000, sender=world.ann)
    gateway.send("authorize", SHOP, id_of("held"), usd, 1_000, now + 999, sender=world.ann)
    [delisted] = gateway.send("delistAsset", usd, sender=world.admin)
    assert (delisted.name, delisted.args) == ("AssetDelisted", {"asset": usd})
    for sender, function, *args in (
        (world.ann, "deposit", ANN, usd, 1, NOTE),
        (world.ann, "payInvoice", SHOP, id_of("1"), usd, 1),
        (world.ann, "authorize", SHOP, id_of("2"), usd, 1, now + 999),
        (world.admin, "chargeSubscription", id_of("3"), ANN, SHOP, usd, 1, now),
        (world.admin, "delistAsset", usd),
    ):
        assert gateway.refusal(function, *args, sender=sender).name == "AssetNotListed"
    gateway.send("capture", id_of("held"), 500, sender=world.shop)
    gateway.send("voidPayment", id_of("held"), sender=world.shop)
    gateway.send("refund", SHOP, id_of("paid"), world.ann, 100, sender=world.shop)
    gateway.send("internalTransfer", ANN, SHOP, usd, 100, NOTE, sender=world.ann)
    gateway.send("withdraw", ANN, usd, world.ann, 900, NOTE, sender=world.ann)
    [listed] = gateway.send("listAsset", usd, False, sender=world.admin)
    assert (listed.name, listed.args) == ("AssetListed", {"asset": usd, "decimals": 6})
    world.deposit(ANN, usd, 1, sender=world.ann)


def test_decimals_are_the_tokens_and_native_has_18(world: World) -> None:
    assert [world.gateway.call("assetTerms", asset)[2] for asset in world.assets] == [18, 6, 18]
    nothing = world.gateway.refusal("listAsset", world.stranger, False, sender=world.admin)
    assert nothing.name == "0x", "no contract there"


# What is nobody's.


def test_plain_sends_are_unattributed_and_leave_no_log(world: World) -> None:
    gateway = world.gateway
    world.deposit(ANN, NATIVE, 500, sender=world.ann)
    world.send_plain(70, sender=world.bob)
    world.usd.send("transfer", gateway.address, 30, sender=world.bob)
    assert gateway.call("unattributed", NATIVE) == 70
    assert gateway.call("unattributed", world.usd.address) == 30
    assert gateway.call("eventSeq") == 1
    forced = world.node.native_balance(gateway.address) + 5
    world.node.rpc("anvil_setBalance", gateway.address, hex(forced))  # as selfdestruct or a block reward may do
    world.plain_native += 5
    assert gateway.call("unattributed", NATIVE) == 75


@pytest.mark.parametrize("asset_number", [0, 1])
def test_sweeping_reaches_what_is_nobodys_and_not_a_unit_more(world: World, asset_number: int) -> None:
    gateway, asset = world.gateway, world.assets[asset_number]
    world.deposit(ANN, asset, 500, sender=world.ann)
    value = 100 if asset == NATIVE else 0
    expiry = world.node.now() + 999
    gateway.send("authorize", SHOP, id_of("held"), asset, 100, expiry, sender=world.ann, value=value)
    if asset == NATIVE:
        world.send_plain(70, sender=world.bob)
    else:
        world.usd.send("transfer", gateway.address, 70, sender=world.bob)
    too_much = gateway.refusal("sweepUnattributed", asset, world.house, 71, sender=world.admin)
    assert (too_much.name, too_much.args) == ("UnattributedTooLow", (asset, 70, 71))
    logs = gateway.send("sweepUnattributed", asset, world.house, 70, sender=world.admin)
    swept = next(log for log in logs if log.name == "UnattributedSwept")
    assert swept.args == {"asset": asset, "to": world.house, "amount": 70, "seq": 3}
    assert gateway.refusal("sweepUnattributed", asset, world.house, 1, sender=world.admin).name == "UnattributedTooLow"
    assert gateway.refusal("sweepUnattributed", asset, world.house, 0, sender=world.admin).name == "ZeroAmount"


def test_a_token_that_was_never_listed_can_be_swept(world: World) -> None:
    token = world.node.deploy("DemoToken", "Airdrop", "AIR", 18)
    token.send("mint", world.gateway.address, ETHER, sender=world.admin)
    world.gateway.send("sweepUnattributed", token.address, world.house, ETHER, sender=world.admin)
    assert token.call("balanceOf", world.house) == ETHER


def test_adjusting_gives_what_is_nobodys_and_takes_back_only_that(world: World) -> None:
    gateway = world.gateway
    world.deposit(ANN, NATIVE, 500, sender=world.ann)
    world.send_plain(70, sender=world.bob)

    def refusal(delta: int, account: bytes = ANN) -> str:
        return gateway.refusal("adjust", account, NATIVE, delta, REASON, sender=world.admin).name

    assert refusal(71) == "UnattributedTooLow"
    assert refusal(-1) == "AdjustmentTooLarge", "a customer's deposit is out of reach"
    assert refusal(0) == "ZeroAmount"
    assert refusal(-(2**255)) == "AdjustmentTooLarge"
    assert refusal(1, id_of("nobody")) == "AccountUnknown"
    [adjusted] = gateway.send("adjust", ANN, NATIVE, 60, REASON, sender=world.admin)
    assert adjusted.args == {"accountId": ANN, "asset": NATIVE, "delta": 60, "reason": REASON, "seq": 2}
    assert (world.balance(ANN, NATIVE), gateway.call("unattributed", NATIVE)) == (560, 10)
    assert refusal(-61) == "AdjustmentTooLarge"
    assert refusal(-1, SHOP) == "AdjustmentTooLarge"
    gateway.send("adjust", ANN, NATIVE, -45, REASON, sender=world.admin)
    assert (world.balance(ANN, NATIVE), gateway.call("adjustedNet", ANN, NATIVE)) == (515, 15)
    gateway.send("withdraw", ANN, NATIVE, world.ann, 510, NOTE, sender=world.ann)
    assert refusal(-15) == "BalanceTooLow"


def test_the_treasurer_cannot_get_at_what_is_owed(world: World) -> None:
    """Adjust up, down and sweep as often as one likes: what customers own stays."""
    gateway = world.gateway
    world.deposit(ANN, world.usd.address, 500 * USD, sender=world.ann)
    world.usd.send("transfer", gateway.address, 50 * USD, sender=world.bob)
    usd = world.usd.address
    for delta in (50 * USD, -50 * USD, 20 * USD):
        gateway.send("adjust", ANN, usd, delta, REASON, sender=world.admin)
    gateway.send("sweepUnattributed", usd, world.admin, 30 * USD, sender=world.admin)
    gateway.send("adjust", ANN, usd, -20 * USD, REASON, sender=world.admin)
    gateway.send("sweepUnattributed", usd, world.admin, 20 * USD, sender=world.admin)
    assert world.balance(ANN, usd) == world.usd.call("balanceOf", gateway.address) == 500 * USD
    assert world.usd.call("balanceOf", world.admin) == 50 * USD
    assert world.usd.call("balanceOf", world.ann) == RICH - 500 * USD
