"""Artifacts load, and their events are the ones that the books were made for: names, types, order, indexed flags."""

from __future__ import annotations

import json

import pytest
from eth_hash.auto import keccak

from contracts.solidity.artifacts import FOLDER, ArtifactUnknown, load, names

GATEWAY_EVENTS = """
AccountOpened(bytes32! accountId, address! owner, uint8 kind, bytes32 externalRef)
Deposited(bytes32! accountId, address! asset, address! payer, uint256 received, uint256 balanceAfter, bytes32 ref, uint64 seq)
InvoicePaid(bytes32! invoiceId, bytes32! merchantId, address! asset, address payer, uint256 gross, uint256 fee, uint256 merchantBalanceAfter, bytes32 feeAccount, uint64 seq)
PaymentAuthorized(bytes32! paymentId, bytes32! merchantId, address! asset, address payer, uint256 amount, uint64 expiry, uint64 seq)
PaymentCaptured(bytes32! paymentId, bytes32! merchantId, address! asset, uint256 amount, uint256 fee, bytes32 feeAccount, uint256 remainingHold, uint64 seq)
PaymentVoided(bytes32! paymentId, address! asset, address payer, uint256 amount, uint64 seq)
SubscriptionCharged(bytes32! subscriptionId, bytes32! customerId, bytes32! merchantId, address asset, uint256 gross, uint256 fee, bytes32 feeAccount, uint64 periodStart, uint64 seq)
Refunded(bytes32! paymentId, bytes32! merchantId, address! asset, address to, uint256 amount, uint256 feeReturned, bytes32 feeAccount, uint256 refundedTotal, uint64 seq)
InternalTransfer(bytes32! from, bytes32! to, address! asset, uint256 amount, bytes32 ref, uint64 seq)
Withdrawn(bytes32! accountId, address! asset, address! to, uint256 amount, uint256 balanceAfter, bytes32 ref, uint64 seq)
Adjusted(bytes32! accountId, address! asset, int256 delta, bytes32 reason, uint64 seq)
UnattributedSwept(address! asset, address! to, uint256 amount, uint64 seq)
PayoutFailed(bytes32! paymentId, address! asset, address! to, uint256 amount)
FeeScheduleSet(bytes32! merchantId, uint16 basisPoints, bytes32 feeAccount, bool returnedOnRefund)
AssetListed(address! asset, uint8 decimals)
AssetDelisted(address! asset)
Paused(address account)
Unpaused(address account)
RoleGranted(bytes32! role, address! account, address! sender)
RoleRevoked(bytes32! role, address! account, address! sender)
RoleAdminChanged(bytes32! role, bytes32! previousAdminRole, bytes32! newAdminRole)
"""  # noqa: E501 -- written by hand from the domain's list, one event a line

TOPIC0 = """
AccountOpened(bytes32,address,uint8,bytes32)
Deposited(bytes32,address,address,uint256,uint256,bytes32,uint64)
InvoicePaid(bytes32,bytes32,address,address,uint256,uint256,uint256,bytes32,uint64)
PaymentAuthorized(bytes32,bytes32,address,address,uint256,uint64,uint64)
PaymentCaptured(bytes32,bytes32,address,uint256,uint256,bytes32,uint256,uint64)
PaymentVoided(bytes32,address,address,uint256,uint64)
SubscriptionCharged(bytes32,bytes32,bytes32,address,uint256,uint256,bytes32,uint64,uint64)
Refunded(bytes32,bytes32,address,address,uint256,uint256,bytes32,uint256,uint64)
InternalTransfer(bytes32,bytes32,address,uint256,bytes32,uint64)
Withdrawn(bytes32,address,address,uint256,uint256,bytes32,uint64)
Adjusted(bytes32,address,int256,bytes32,uint64)
UnattributedSwept(address,address,uint256,uint64)
"""
"""Signatures of the money events and of AccountOpened, by hand: what is hashed into topic0."""


def written(event: dict[str, object]) -> str:
    """An ABI item as the domain writes it."""
    inputs = event["inputs"]
    assert isinstance(inputs, list)
    return f"{event['name']}({', '.join(_argument(entry) for entry in inputs)})"


def _argument(entry: dict[str, object]) -> str:
    return f"{entry['type']}{'!' if entry['indexed'] else ''} {entry['name']}"


def events(name: str) -> list[dict[str, object]]:
    return [item for item in load(name).abi if item["type"] == "event"]


def test_the_gateways_events_are_the_domains() -> None:
    assert {written(event) for event in events("PaymentGateway")} == set(GATEWAY_EVENTS.split("\n")) - {""}


def test_topic0_is_the_hash_of_the_signature_and_stands_in_the_code() -> None:
    bytecode = load("PaymentGateway").bytecode
    for signature in TOPIC0.split():
        assert keccak(signature.encode()).hex().lstrip("0") in bytecode, signature


def test_every_money_event_carries_the_asset_and_a_number() -> None:
    moneyless = {"AccountOpened", "PayoutFailed", "FeeScheduleSet", "AssetListed", "AssetDelisted"}
    moneyless |= {"Paused", "Unpaused", "RoleGranted", "RoleRevoked", "RoleAdminChanged"}
    for event in events("PaymentGateway"):
        inputs = {entry["name"]: entry["type"] for entry in event["inputs"]}  # type: ignore[attr-defined]
        assert (inputs.get("seq") == "uint64") == (event["name"] not in moneyless), event["name"]
        if "seq" in inputs:
            assert inputs["asset"] == "address"


@pytest.mark.parametrize("name", names())
def test_no_event_has_an_indexed_text_or_bytes(name: str) -> None:
    """Of those only a hash would be in the log."""
    for event in events(name):
        for entry in event["inputs"]:  # type: ignore[attr-defined]
            assert not (entry["indexed"] and entry["type"] in ("string", "bytes"))


def test_the_vaults_events() -> None:
    assert {written(event) for event in events("LegacyVault")} == {
        "Deposited(address! account, address! asset, uint256 amount)",
        "Withdrawn(address! account, address! asset, address to, uint256 amount)",
    }


@pytest.mark.parametrize("name", ["PaymentGateway", "LegacyVault"])
def test_abi_for_descriptions_is_the_artifacts(name: str) -> None:
    path = FOLDER.parent.parent / "abi" / f"{name}.json"
    assert json.loads(path.read_bytes()) == load(name).abi


@pytest.mark.parametrize("name", names())
def test_contracts_fit_the_chains_limit(name: str) -> None:
    """EIP-170: 24,576 bytes of code; creation code is a little more, so this is on the safe side."""
    assert 0 < len(load(name).bytecode) // 2 - 1 <= 24_576


def test_an_unknown_contract_is_told_with_those_that_there_are() -> None:
    with pytest.raises(ArtifactUnknown, match=r"no artifact '\.\./PaymentGateway'.*DemoToken, .*LegacyVault"):
        load("../PaymentGateway")
