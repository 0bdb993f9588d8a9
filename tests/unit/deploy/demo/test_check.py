"""The checker's decoding, posting and comparing; above all that it goes red when something is off."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from deploy.demo.check import check_sequence, compare_balances, compare_events
from deploy.demo.check_events import NATIVE, SIGNATURES, Deployment, Event, event_id, read_event
from deploy.demo.check_postings import Balances, balances_of, is_ours, moves_of_tx

GATEWAY, VAULT, TOKEN, PAYER = ("0x" + digit * 40 for digit in "abcd")
DEPLOYMENT = Deployment(chain_id=31337, gateway=GATEWAY, vault=VAULT, tokens=(TOKEN,))
ANNA, SHOP, FEES = ("0x" + digit * 64 for digit in "123")
TOKEN_ASSET = f"eip155:31337/erc20:{TOKEN}"
NATIVE_ASSET = "eip155:31337/slip44:60"


def event(source: str, name: str, args: dict[str, Any], *, tx: str = "0x01", log_index: int = 0) -> Event:
    address = {"gateway": GATEWAY, "vault": VAULT, "token": TOKEN}[source]
    return Event(
        source=source,
        name=name,
        args=args,
        address=address,
        block_number=5,
        block_hash="0x" + "ee" * 32,
        tx_hash=tx,
        log_index=log_index,
    )


def transfer(sender: str, receiver: str, value: int, tx: str = "0x01") -> Event:
    return event("token", "Transfer", {"from": sender, "to": receiver, "value": value}, tx=tx)


INVOICE = event(
    "gateway",
    "InvoicePaid",
    {
        "invoiceId": "0x77",
        "merchantId": SHOP,
        "asset": TOKEN,
        "payer": PAYER,
        "gross": 100,
        "fee": 3,
        "feeAccount": FEES,
        "seq": 1,
    },
)
PAID_INVOICE = [transfer(PAYER, GATEWAY, 100), INVOICE]
PAID_BALANCES: Balances = {
    (f"assets:gateway:onchain:{GATEWAY}:-", TOKEN_ASSET): 100,
    (f"liabilities:gateway:account:{SHOP}:available", TOKEN_ASSET): -97,
    (f"liabilities:gateway:account:{FEES}:available", TOKEN_ASSET): -3,
}


def test_a_log_is_read_by_the_signature_of_its_emitter() -> None:
    types = "Deposited(bytes32,address,address,uint256,uint256,bytes32,uint64)"
    log = {
        "address": GATEWAY.upper().replace("0X", "0x"),
        "topics": ["0x" + keccak(types.encode()).hex(), ANNA, "0x" + "00" * 32, "0x" + PAYER[2:].rjust(64, "0")],
        "data": "0x" + encode(["uint256", "uint256", "bytes32", "uint64"], [7, 9, b"r" * 32, 2]).hex(),
        "blockNumber": "0x10",
        "blockHash": "0x" + "ee" * 32,
        "transactionHash": "0x01",
        "logIndex": "0x3",
    }
    found = read_event(log, DEPLOYMENT)
    assert found is not None
    assert (found.source, found.name, found.block_number, found.log_index) == ("gateway", "Deposited", 16, 3)
    assert found.args["accountId"] == ANNA
    assert found.args["asset"] == NATIVE
    assert (found.args["received"], found.args["payer"], found.args["seq"]) == (7, PAYER, 2)
    assert read_event(log | {"address": VAULT}, DEPLOYMENT) is None  # the vault's Deposited is another one
    assert read_event(log | {"address": PAYER}, DEPLOYMENT) is None


def test_the_signatures_are_those_of_the_compiled_contracts() -> None:
    from contracts.solidity.artifacts import load

    for source, contract in (("gateway", "PaymentGateway"), ("vault", "LegacyVault"), ("token", "DemoToken")):
        compiled = {
            f"{part['name']}("
            + ", ".join(f"{given['type']}{'!' * given['indexed']} {given['name']}" for given in part["inputs"])
            + ")"
            for part in load(contract).abi
            if part["type"] == "event"
        }
        ours = set(re.findall(r"\w+\([^)]*\)", " ".join(SIGNATURES[source].split())))
        assert ours <= compiled


def test_custody_and_claim_of_one_tx_leave_nothing_in_clearing() -> None:
    assert balances_of(PAID_INVOICE, DEPLOYMENT) == PAID_BALANCES


def test_inflow_that_nobody_claims_is_unattributed() -> None:
    assert balances_of([transfer(PAYER, GATEWAY, 40)], DEPLOYMENT) == {
        (f"assets:gateway:onchain:{GATEWAY}:-", TOKEN_ASSET): 40,
        (f"liabilities:gateway:unattributed:{GATEWAY}:-", TOKEN_ASSET): -40,
    }


def test_outflow_without_an_event_stays_in_clearing() -> None:
    assert balances_of([transfer(VAULT, PAYER, 40)], DEPLOYMENT) == {
        (f"assets:vault:onchain:{VAULT}:-", TOKEN_ASSET): -40,
        (f"clearing:vault:contract:{VAULT}:-", TOKEN_ASSET): 40,
    }


def test_a_native_claim_moves_custody_itself() -> None:
    paid = replace(INVOICE, args=dict(INVOICE.args) | {"asset": NATIVE})
    balances = balances_of([paid], DEPLOYMENT)
    assert balances[f"assets:gateway:onchain:{GATEWAY}:-", NATIVE_ASSET] == 100
    assert not any(code.startswith("clearing") for code, _ in balances)


def test_a_negative_adjustment_takes_from_the_account() -> None:
    taken = event("gateway", "Adjusted", {"accountId": ANNA, "asset": TOKEN, "delta": -5, "reason": "0x", "seq": 1})
    assert balances_of([taken], DEPLOYMENT)[f"liabilities:gateway:account:{ANNA}:available", TOKEN_ASSET] == 5


def test_zero_amounts_make_no_move() -> None:
    free = replace(INVOICE, args=dict(INVOICE.args) | {"fee": 0})
    assert all(move.amount > 0 for move in moves_of_tx([transfer(PAYER, GATEWAY, 100), free], DEPLOYMENT))


def test_transfers_between_others_are_not_ours() -> None:
    assert not is_ours(transfer(PAYER, PAYER, 1), DEPLOYMENT)
    assert is_ours(transfer(VAULT, PAYER, 1), DEPLOYMENT)


@pytest.mark.parametrize("by", [1, -1, 10**18])
def test_one_balance_that_is_off_is_named(by: int) -> None:
    for key in PAID_BALANCES:
        tampered = PAID_BALANCES | {key: PAID_BALANCES[key] + by}
        (line,) = compare_balances(PAID_BALANCES, tampered)
        assert key[0] in line
        assert str(tampered[key]) in line
        assert compare_balances(tampered, PAID_BALANCES)


def test_an_account_that_only_one_side_has_is_named() -> None:
    extra = (f"liabilities:gateway:account:{ANNA}:available", TOKEN_ASSET)
    assert len(compare_balances(PAID_BALANCES, PAID_BALANCES | {extra: 1})) == 1
    assert len(compare_balances(PAID_BALANCES | {extra: 1}, PAID_BALANCES)) == 1
    assert compare_balances(PAID_BALANCES, PAID_BALANCES | {extra: 0}) == []


def test_equal_balances_and_events_give_no_line() -> None:
    assert compare_balances(PAID_BALANCES, dict(PAID_BALANCES)) == []
    assert compare_events(["a", "b"], ["b", "a"]) == []


@pytest.mark.parametrize("booked", [["a"], ["a", "b", "c"], ["a", "b", "b"], []])
def test_missing_strange_and_repeated_events_are_named(booked: list[str]) -> None:
    assert compare_events(["a", "b"], booked)


def test_numbers_with_a_gap_or_a_wrong_end_are_named() -> None:
    first, third = INVOICE, replace(INVOICE, args=dict(INVOICE.args) | {"seq": 3})
    assert check_sequence([first], 1) == []
    assert check_sequence([first], 2)
    assert check_sequence([first, third], 3)
    assert check_sequence([first, third], 2)


def test_event_ids_are_those_of_the_message_contract() -> None:
    from contracts.messages import event_id as official

    assert event_id(INVOICE, 31337) == official(chain_id=31337, block_hash=bytes.fromhex("ee" * 32), position=0)


def test_the_checker_imports_nothing_of_the_services() -> None:
    code = "import sys, deploy.demo.check; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"indexer", "ledger", "contracts"}.isdisjoint(done.stdout.split())
