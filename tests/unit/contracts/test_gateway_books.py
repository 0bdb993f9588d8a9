"""The shipped rules against a model of the contracts: the books equal the contract's own numbers after every tx.

The model keeps what the Solidity keeps (balances, escrow, totalLiabilities, holdings) and emits the logs that it emits;
the logs go through dispatch, decoding and posting as they would in the services, and clearing is netted at the end of
each tx.
"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pytest

from contracts.accounts import parse_account
from contracts.codec import Decoded
from contracts.messages import asset_id
from contracts.posting import Posting, PostingRules
from contracts.registry import Registry
from tests.unit.contracts.build import (
    CHAIN_ID,
    GATEWAY,
    NATIVE,
    OTHER_TOKEN,
    STRANGER,
    TOKEN,
    log,
    payment_event,
    shipped_registry,
)

ASSETS = (TOKEN, OTHER_TOKEN, NATIVE)
ACCOUNTS = [bytes([number]) * 32 for number in range(1, 6)]
FEES = b"\xfe" * 32
REF = b"\x0f" * 32


class Books:
    """Folds logs into balances by account code and asset: debit − credit."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._rules = {
            contract.version: PostingRules.from_document(contract.document) for contract in registry.contracts
        }
        self.net: dict[tuple[str, str], int] = defaultdict(int)

    def tx(self, logs: list[tuple[str, str, str, dict[str, object]]]) -> None:
        """One tx: (emitter, contract, event, values) for each log."""
        for emitter, contract, name, values in logs:
            codec = self._registry.contract(contract).codecs[name]
            topics, data = log(codec.abi, values)
            found = self._registry.dispatch(bytes.fromhex(emitter[2:]), topics, 100)
            assert found is not None
            decoded = found.decode(topics, data)
            assert isinstance(decoded, Decoded), decoded
            postings = self._rules[codec.version].postings(payment_event(codec, decoded, address=emitter))
            assert isinstance(postings, tuple), postings
            for line in postings:
                self._post(line)
        self._net_clearing()

    def _post(self, line: Posting) -> None:
        assert line.amount > 0
        parse_account(line.debit)
        parse_account(line.credit)
        self.net[line.debit, line.asset] += line.amount
        self.net[line.credit, line.asset] -= line.amount

    def _net_clearing(self) -> None:
        for (code, asset), net in list(self.net.items()):
            if code.startswith("clearing:") and net < 0:
                self._post(Posting(code, f"liabilities:gateway:unattributed:{GATEWAY}:-", asset, -net))

    def total(self, start: str, asset: str) -> int:
        """The balance on the credit side of all accounts whose code starts so."""
        return -sum(
            net for (code, of), net in self.net.items() if of == asset_id(CHAIN_ID, asset) and code.startswith(start)
        )


class Gateway:
    """What PaymentGateway keeps, and the logs of each call."""

    def __init__(self) -> None:
        self.balance: dict[tuple[bytes, str], int] = defaultdict(int)
        self.escrow: dict[bytes, tuple[str, bytes, int]] = {}
        self.owed: dict[str, int] = defaultdict(int)
        self.held: dict[str, int] = defaultdict(int)
        self.seq = 0

    def unattributed(self, asset: str) -> int:
        return self.held[asset] - self.owed[asset]

    def money(self, name: str, **values: object) -> tuple[str, str, str, dict[str, object]]:
        self.seq += 1
        return GATEWAY, "payment-gateway", name, values | {"seq": self.seq}

    def moves(self, asset: str, amount: int) -> list[tuple[str, str, str, dict[str, object]]]:
        """Custody: a Transfer for tokens, nothing for the native coin."""
        self.held[asset] += amount
        if asset == NATIVE:
            return []
        sender, receiver = (STRANGER, GATEWAY) if amount > 0 else (GATEWAY, STRANGER)
        return [(asset, "erc20", "Transfer", {"from": sender, "to": receiver, "value": abs(amount)})]

    def credit(self, account: bytes, asset: str, amount: int) -> None:
        self.balance[account, asset] += amount
        self.owed[asset] += amount

    def call(self, rng: random.Random) -> list[tuple[str, str, str, dict[str, object]]]:
        """One random call that the contract would accept, or nothing."""
        asset, amount = rng.choice(ASSETS), rng.choice([1, 2, 100, 10**18, rng.randrange(1, 10**6)])
        one, two = rng.sample(ACCOUNTS, 2)
        have = self.balance[one, asset]
        fee = rng.choice([0, amount // 40])
        ident = rng.randbytes(32)
        match rng.randrange(12):
            case 0:
                self.credit(one, asset, amount)
                event = self.money(
                    "Deposited",
                    accountId=one,
                    asset=asset,
                    payer=STRANGER,
                    received=amount,
                    balanceAfter=have + amount,
                    ref=REF,
                )
                return [*self.moves(asset, amount), event]
            case 1:
                self.credit(one, asset, amount - fee)
                self.credit(FEES, asset, fee)
                event = self.money(
                    "InvoicePaid",
                    invoiceId=ident,
                    merchantId=one,
                    asset=asset,
                    payer=STRANGER,
                    gross=amount,
                    fee=fee,
                    merchantBalanceAfter=self.balance[one, asset],
                    feeAccount=FEES,
                )
                return [*self.moves(asset, amount), event]
            case 2:
                self.escrow[ident] = (asset, one, amount)
                self.owed[asset] += amount
                event = self.money(
                    "PaymentAuthorized",
                    paymentId=ident,
                    merchantId=one,
                    asset=asset,
                    payer=STRANGER,
                    amount=amount,
                    expiry=9,
                )
                return [*self.moves(asset, amount), event]
            case 3 if self.escrow:
                return self._capture(rng)
            case 4 if self.escrow:
                ident = rng.choice(list(self.escrow))
                asset, _, amount = self.escrow.pop(ident)
                self.owed[asset] -= amount
                event = self.money("PaymentVoided", paymentId=ident, asset=asset, payer=STRANGER, amount=amount)
                return [event, *self.moves(asset, -amount)]
            case 5 if have:
                gross = rng.randint(1, have)
                fee = min(fee, gross)
                self.credit(one, asset, -gross)
                self.credit(two, asset, gross - fee)
                self.credit(FEES, asset, fee)
                return [
                    self.money(
                        "SubscriptionCharged",
                        subscriptionId=ident,
                        customerId=one,
                        merchantId=two,
                        asset=asset,
                        gross=gross,
                        fee=fee,
                        feeAccount=FEES,
                        periodStart=5,
                    )
                ]
            case 6 if have:
                part = rng.randint(1, have)
                back = min(rng.choice([0, part // 3]), self.balance[FEES, asset])
                self.credit(one, asset, -(part - back))
                self.credit(FEES, asset, -back)
                event = self.money(
                    "Refunded",
                    paymentId=ident,
                    merchantId=one,
                    asset=asset,
                    to=STRANGER,
                    amount=part,
                    feeReturned=back,
                    feeAccount=FEES,
                    refundedTotal=part,
                )
                return [event, *self.moves(asset, -part)]
            case 7 if have:
                part = rng.randint(1, have)
                self.credit(one, asset, -part)
                self.credit(two, asset, part)
                return [self.money("InternalTransfer", **{"from": one, "to": two}, asset=asset, amount=part, ref=REF)]
            case 8 if have:
                part = rng.randint(1, have)
                self.credit(one, asset, -part)
                event = self.money(
                    "Withdrawn", accountId=one, asset=asset, to=STRANGER, amount=part, balanceAfter=have - part, ref=REF
                )
                return [event, *self.moves(asset, -part)]
            case 9 if self.unattributed(asset) > 0:
                delta = rng.randint(1, self.unattributed(asset))
                self.credit(one, asset, delta)
                return [self.money("Adjusted", accountId=one, asset=asset, delta=delta, reason=REF)]
            case 10 if have:
                delta = -rng.randint(1, have)
                self.credit(one, asset, delta)
                return [self.money("Adjusted", accountId=one, asset=asset, delta=delta, reason=REF)]
            case 11 if asset != NATIVE:
                if self.unattributed(asset) > 0 and rng.random() < 0.5:
                    part = rng.randint(1, self.unattributed(asset))
                    event = self.money("UnattributedSwept", asset=asset, to=STRANGER, amount=part)
                    return [event, *self.moves(asset, -part)]
                return self.moves(asset, amount)  # a plain send: nobody's money
        return []

    def _capture(self, rng: random.Random) -> list[tuple[str, str, str, dict[str, object]]]:
        ident = rng.choice(list(self.escrow))
        asset, merchant, hold = self.escrow.pop(ident)
        amount = rng.randint(1, hold)
        fee = rng.choice([0, amount // 40])
        if hold > amount:
            self.escrow[ident] = (asset, merchant, hold - amount)
        self.owed[asset] -= amount
        self.credit(merchant, asset, amount - fee)
        self.credit(FEES, asset, fee)
        return [
            self.money(
                "PaymentCaptured",
                paymentId=ident,
                merchantId=merchant,
                asset=asset,
                amount=amount,
                fee=fee,
                feeAccount=FEES,
                remainingHold=hold - amount,
            )
        ]


@pytest.mark.parametrize("seed", range(5))
def test_books_equal_the_contract_after_every_tx(tmp_path: Path, seed: int) -> None:
    books, gateway, rng = Books(shipped_registry(tmp_path)), Gateway(), random.Random(seed)
    seen: set[str] = set()
    for _ in range(400):
        logs = gateway.call(rng)
        seen.update(name for _, _, name, _ in logs)
        books.tx(logs)
        for asset in ASSETS:
            caip = asset_id(CHAIN_ID, asset)
            claims = books.total("liabilities:gateway:account:", asset) + books.total(
                "liabilities:gateway:escrow:", asset
            )
            assert claims == gateway.owed[asset], "Σ liabilities = totalLiabilities(asset)"
            assert books.net[f"assets:gateway:onchain:{GATEWAY}:-", caip] == gateway.held[asset], (
                "custody = balanceOf(gateway)"
            )
            assert books.total("liabilities:gateway:unattributed:", asset) == gateway.unattributed(asset)
            assert books.net[f"clearing:gateway:contract:{GATEWAY}:-", caip] == 0, "clearing is empty after each tx"
    for (account, asset), balance in gateway.balance.items():
        assert books.total(f"liabilities:gateway:account:0x{account.hex()}:available", asset) == balance
    for ident, (asset, _, amount) in gateway.escrow.items():
        assert books.total(f"liabilities:gateway:escrow:0x{ident.hex()}:-", asset) == amount
    assert len(seen) == 12, "every money event and the plain Transfer took part"


def test_a_withdrawal_without_an_event_stays_in_clearing(tmp_path: Path) -> None:
    books = Books(shipped_registry(tmp_path))
    from_vault = {"from": "0x" + "12" * 20, "to": STRANGER, "value": 40}
    to_vault = {"from": STRANGER, "to": "0x" + "12" * 20, "value": 100}
    deposited = ("0x" + "12" * 20, "legacy-vault", "Deposited", {"account": STRANGER, "asset": TOKEN, "amount": 100})
    books.tx([(TOKEN, "erc20", "Transfer", to_vault), deposited])
    books.tx([(TOKEN, "erc20", "Transfer", from_vault)])
    asset = asset_id(CHAIN_ID, TOKEN)
    vault = "0x" + "12" * 20
    assert books.net[f"clearing:vault:contract:{vault}:-", asset] == 40, "in debit: money left and nobody was debited"
    assert books.net[f"assets:vault:onchain:{vault}:-", asset] == 60
    assert books.total(f"liabilities:vault:account:{STRANGER}:available", TOKEN) == 100
