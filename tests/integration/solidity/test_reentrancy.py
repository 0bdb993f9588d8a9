"""Holders that call back while they are paid or while they pay: nothing moves twice, nothing is half done."""

from __future__ import annotations

from typing import Any

import pytest
from eth_hash.auto import keccak

from tests.integration.solidity.books import check_identities
from tests.integration.solidity.chain import NATIVE, Contract, id_of
from tests.integration.solidity.world import ANN, CUSTOMER, FOR_EVER, HOUSE, MERCHANT, NOTE, RICH, SHOP, World

ACCEPT, STRIKE, REFUSE = 0, 1, 2
MALLORY, MALLORYS_SHOP = id_of("customer mallory"), id_of("merchant mallory")
REENTERED = keccak(b"ReentrancyGuardReentrantCall()")[:4]


@pytest.fixture
def mallory(world: World) -> Contract:
    """A contract that owns a customer's and a merchant's account and 1,000 native in each."""
    contract = world.node.deploy("Attacker")
    for account, kind in ((MALLORY, CUSTOMER), (MALLORYS_SHOP, MERCHANT)):
        world.gateway.send("openAccount", account, contract.address, kind, NOTE, sender=world.admin)
        world.deposit(account, NATIVE, 1_000, sender=world.ann)
    world.deposit(ANN, NATIVE, 5_000, sender=world.ann)
    return contract


def execute(world: World, attacker: Contract, function: str, *args: Any, value: int = 0) -> None:
    call = world.gateway.encode(function, *args)
    attacker.send("execute", world.gateway.address, call, value, sender=world.stranger, value=value)


CALLS_BACK: list[tuple[Any, ...]] = [
    ("withdraw", MALLORY, NATIVE, "0x" + "77" * 20, 1_000, NOTE),
    ("deposit", MALLORY, NATIVE, 1, NOTE),
    ("payInvoice", MALLORYS_SHOP, id_of("9"), NATIVE, 1),
    ("authorize", MALLORYS_SHOP, id_of("9"), NATIVE, 1, 2**40),
    ("capture", id_of("held"), 1),
    ("voidPayment", id_of("held")),
    ("voidExpired", [id_of("held")]),
    ("chargeSubscription", id_of("9"), MALLORY, MALLORYS_SHOP, NATIVE, 1, 0),
    ("refund", MALLORYS_SHOP, id_of("paid"), "0x" + "77" * 20, 1),
    ("internalTransfer", MALLORY, MALLORYS_SHOP, NATIVE, 1, NOTE),
    ("adjust", MALLORY, NATIVE, 1, NOTE),
    ("sweepUnattributed", NATIVE, "0x" + "77" * 20, 1),
]


@pytest.mark.parametrize("call_back", CALLS_BACK, ids=[call[0] for call in CALLS_BACK])
def test_no_function_can_be_entered_while_a_payout_runs(
    world: World, mallory: Contract, call_back: tuple[Any, ...]
) -> None:
    gateway = world.gateway
    value = 1 if call_back[0] in ("deposit", "payInvoice", "authorize") else 0
    mallory.send("arm", STRIKE, gateway.address, gateway.encode(*call_back), value, sender=world.stranger)
    execute(world, mallory, "withdraw", MALLORY, NATIVE, mallory.address, 400, NOTE)
    assert mallory.call("strikes") == 1
    assert mallory.call("successes") == 0
    assert mallory.call("lastAnswer") == REENTERED
    assert world.balance(MALLORY, NATIVE) == 600
    assert world.node.native_balance(mallory.address) == 400


def test_claims_are_lowered_before_money_leaves(world: World, mallory: Contract) -> None:
    """A getter that is asked in the middle of a payout already has the answer of afterwards."""
    gateway = world.gateway
    for getter, expected in (
        (("eventSeq",), 4),
        (("balanceOf", MALLORY, NATIVE), 900),
        (("totalLiabilities", NATIVE), 6_900),
        (("unattributed", NATIVE), 0),
    ):
        mallory.send("arm", STRIKE, gateway.address, gateway.encode(*getter), 0, sender=world.stranger)
        execute(world, mallory, "withdraw", MALLORY, NATIVE, mallory.address, 100, NOTE)
        assert int.from_bytes(mallory.call("lastAnswer")) == expected
        execute(world, mallory, "deposit", MALLORY, NATIVE, 100, NOTE, value=100)


def test_refund_and_void_pay_a_contract_that_strikes_back_only_once(world: World, mallory: Contract) -> None:
    gateway, expiry = world.gateway, world.node.now() + 999
    execute(world, mallory, "payInvoice", SHOP, id_of("paid"), NATIVE, 100, value=100)
    execute(world, mallory, "authorize", SHOP, id_of("held"), NATIVE, 100, expiry, value=100)
    again = gateway.encode("withdraw", MALLORY, NATIVE, mallory.address, 1_000, NOTE)
    mallory.send("arm", STRIKE, gateway.address, again, 0, sender=world.stranger)
    gateway.send("refund", SHOP, id_of("paid"), mallory.address, 50, sender=world.shop)
    gateway.send("voidPayment", id_of("held"), sender=world.shop)
    assert (mallory.call("strikes"), mallory.call("successes")) == (2, 0)
    assert world.node.native_balance(mallory.address) == 150


def test_a_recipient_who_sends_native_money_back_makes_it_unattributed(world: World, mallory: Contract) -> None:
    mallory.send("arm", STRIKE, world.gateway.address, b"", 30, sender=world.stranger)
    execute(world, mallory, "withdraw", MALLORY, NATIVE, mallory.address, 100, NOTE)
    world.plain_native += 30
    assert world.gateway.call("unattributed", NATIVE) == 30
    assert world.balance(MALLORY, NATIVE) == 900


def test_a_recipient_who_refuses_keeps_his_claim(world: World, mallory: Contract) -> None:
    mallory.send("arm", REFUSE, world.gateway.address, b"", 0, sender=world.stranger)
    refused = world.gateway.refusal("withdraw", MALLORY, NATIVE, mallory.address, 100, NOTE, sender=mallory.address)
    assert (refused.name, refused.args) == ("NativePayoutFailed", (mallory.address, 100))
    assert world.balance(MALLORY, NATIVE) == 1_000


@pytest.fixture
def token(world: World, mallory: Contract) -> Contract:
    """A listed token that calls back; mallory has some, and is called."""
    token = world.list_hostile("CallbackToken")
    token.send("mint", mallory.address, RICH, sender=world.admin)
    for call in (
        token.encode("setHook", mallory.address),
        token.encode("approve", world.gateway.address, FOR_EVER),
    ):
        mallory.send("execute", token.address, call, 0, sender=world.stranger)
    return token


def test_a_token_that_calls_back_while_it_comes_in_is_counted_once(
    world: World, mallory: Contract, token: Contract
) -> None:
    gateway = world.gateway
    again = gateway.encode("deposit", MALLORY, token.address, 500, NOTE)
    mallory.send("arm", STRIKE, gateway.address, again, 0, sender=world.stranger)
    execute(world, mallory, "deposit", MALLORY, token.address, 500, NOTE)
    execute(world, mallory, "payInvoice", SHOP, id_of("1"), token.address, 500)
    execute(world, mallory, "authorize", SHOP, id_of("2"), token.address, 500, world.node.now() + 999)
    assert (mallory.call("strikes"), mallory.call("successes")) == (3, 0)
    assert mallory.call("lastAnswer") == REENTERED
    assert world.balance(MALLORY, token.address) == 500
    check_identities(world.node, gateway, [token], plain_native=None)


def test_money_slipped_in_during_a_deposit_is_not_credited(world: World, mallory: Contract, token: Contract) -> None:
    slip = token.encode("transfer", world.gateway.address, 50)
    other = world.node.deploy("Attacker")  # has no hook, so that its own transfer does not call back
    token.send("mint", other.address, 1_000, sender=world.admin)
    go = other.encode("execute", token.address, slip, 0)
    mallory.send("arm", STRIKE, other.address, go, 0, sender=world.stranger)
    refused = world.gateway.refusal("deposit", MALLORY, token.address, 500, NOTE, sender=mallory.address)
    assert (refused.name, refused.args) == ("UnexpectedReceipt", (token.address, 500, 550))


def test_a_token_payout_to_one_who_strikes_back(world: World, mallory: Contract, token: Contract) -> None:
    gateway = world.gateway
    execute(world, mallory, "deposit", MALLORY, token.address, 500, NOTE)
    again = gateway.encode("withdraw", MALLORY, token.address, mallory.address, 100, NOTE)
    mallory.send("arm", STRIKE, gateway.address, again, 0, sender=world.stranger)
    execute(world, mallory, "withdraw", MALLORY, token.address, mallory.address, 100, NOTE)
    assert (mallory.call("strikes"), mallory.call("successes")) == (1, 0)
    assert world.balance(MALLORY, token.address) == 400
    check_identities(world.node, gateway, [token], plain_native=None)

    back = token.encode("transfer", gateway.address, 40)
    mallory.send("execute", token.address, token.encode("setHook", NATIVE), 0, sender=world.stranger)
    relay = world.node.deploy("Attacker")  # called when mallory's money reaches it, and sends a part back
    relay.send("execute", token.address, token.encode("setHook", relay.address), 0, sender=world.stranger)
    other = world.node.deploy("Attacker")
    token.send("mint", other.address, 1_000, sender=world.admin)
    go = other.encode("execute", token.address, back, 0)
    relay.send("arm", STRIKE, other.address, go, 0, sender=world.stranger)
    refused = gateway.refusal("withdraw", MALLORY, token.address, relay.address, 100, NOTE, sender=mallory.address)
    assert refused.name == "UnexpectedPayout"


def test_fees_are_never_pushed(world: World, mallory: Contract) -> None:
    """The fee account's owner learns of a payment only by asking: he cannot stop it."""
    house = world.node.deploy("Attacker")
    fees = id_of("fees of a contract")
    world.gateway.send("openAccount", fees, house.address, 3, NOTE, sender=world.admin)
    world.gateway.send("setFeeSchedule", SHOP, 500, fees, True, sender=world.admin)
    house.send("arm", REFUSE, world.gateway.address, b"", 0, sender=world.stranger)
    world.gateway.send("payInvoice", SHOP, id_of("1"), NATIVE, 1_000, sender=world.ann, value=1_000)
    assert world.balance(fees, NATIVE) == 50
    assert world.balance(HOUSE, NATIVE) == 0
