"""The legacy vault: safe with money, silent in one way out."""

from __future__ import annotations

import pytest

from tests.integration.solidity.chain import NATIVE, Contract, Reverted
from tests.integration.solidity.world import FOR_EVER, World


@pytest.fixture
def vault(world: World) -> Contract:
    vault = world.node.deploy("LegacyVault")
    world.usd.send("approve", vault.address, FOR_EVER, sender=world.ann)
    return vault


def deposit(world: World, vault: Contract, asset: str, amount: int) -> None:
    vault.send("deposit", asset, amount, sender=world.ann, value=amount if asset == NATIVE else 0)


@pytest.mark.parametrize("asset_number", [0, 1])
def test_deposits_and_ordinary_withdrawals_tell_of_themselves(world: World, vault: Contract, asset_number: int) -> None:
    asset = world.assets[asset_number]
    value = 1_000 if asset == NATIVE else 0
    *_, deposited = vault.send("deposit", asset, 1_000, sender=world.ann, value=value)
    assert (deposited.name, deposited.args) == (
        "Deposited", {"account": world.ann, "asset": asset, "amount": 1_000},
    )  # fmt: skip
    logs = vault.send("withdraw", asset, world.bob, 300, sender=world.ann)
    withdrawn = next(log for log in logs if log.name == "Withdrawn")
    assert withdrawn.args == {"account": world.ann, "asset": asset, "to": world.bob, "amount": 300}
    assert vault.call("balanceOf", world.ann, asset) == vault.call("totalDeposits", asset) == 700


def test_a_quiet_withdrawal_lowers_the_balance_and_only_the_token_tells(world: World, vault: Contract) -> None:
    usd = world.usd.address
    deposit(world, vault, usd, 1_000)
    [transfer] = vault.send("withdrawQuietly", usd, world.bob, 400, sender=world.ann)
    assert (transfer.address, transfer.name) == (usd, "Transfer")
    assert vault.call("balanceOf", world.ann, usd) == vault.call("totalDeposits", usd) == 600
    assert world.usd.call("balanceOf", vault.address) == 600


def test_a_quiet_native_withdrawal_leaves_no_log_at_all(world: World, vault: Contract) -> None:
    deposit(world, vault, NATIVE, 1_000)
    assert vault.send("withdrawQuietly", NATIVE, world.bob, 400, sender=world.ann) == []
    assert vault.call("totalDeposits", NATIVE) == world.node.native_balance(vault.address) == 600


@pytest.mark.parametrize("function", ["withdraw", "withdrawQuietly"])
def test_nobody_gets_more_than_his_own(world: World, vault: Contract, function: str) -> None:
    deposit(world, vault, world.usd.address, 100)
    usd = world.usd.address
    assert vault.refusal(function, usd, world.ann, 101, sender=world.ann).name == "BalanceTooLow"
    assert vault.refusal(function, usd, world.bob, 1, sender=world.bob).name == "BalanceTooLow"
    assert vault.refusal(function, usd, world.ann, 0, sender=world.ann).name == "ZeroAmount"
    assert vault.refusal(function, usd, vault.address, 1, sender=world.ann).name == "RecipientRefused"


def test_native_money_comes_in_by_deposit_only(world: World, vault: Contract) -> None:
    with pytest.raises(Reverted):
        world.node.send_native(vault.address, 1, sender=world.ann)
    assert vault.refusal("deposit", NATIVE, 2, sender=world.ann, value=1).name == "ValueWrong"
    assert vault.refusal("deposit", world.usd.address, 2, sender=world.ann, value=2).name == "ValueWrong"
    assert vault.refusal("deposit", NATIVE, 0, sender=world.ann).name == "ZeroAmount"


def test_a_withdrawal_cannot_be_entered_twice(world: World, vault: Contract) -> None:
    attacker = world.node.deploy("Attacker")
    put = vault.encode("deposit", NATIVE, 100)
    attacker.send("execute", vault.address, put, 100, sender=world.ann, value=100)
    deposit(world, vault, NATIVE, 1_000)
    take = vault.encode("withdrawQuietly", NATIVE, attacker.address, 50)
    attacker.send("arm", 1, vault.address, take, 0, sender=world.ann)
    attacker.send("execute", vault.address, take, 0, sender=world.ann)
    assert (attacker.call("strikes"), attacker.call("successes")) == (1, 0)
    assert vault.call("totalDeposits", NATIVE) == world.node.native_balance(vault.address) == 1_050


def test_what_arrives_counts(world: World, vault: Contract) -> None:
    token = world.node.deploy("FeeOnTransferToken")
    token.send("mint", world.ann, 1_000, sender=world.ann)
    token.send("approve", vault.address, FOR_EVER, sender=world.ann)
    deposit(world, vault, token.address, 1_000)
    assert vault.call("balanceOf", world.ann, token.address) == 990
