"""What happens on the simulated chain: txs with logs as the contracts would emit them, and what each does to the books.

The effects are written here by hand from DOMAIN's rules of posting; nothing of the ledger or of the registry's
rules is asked. Net is debit minus credit, in base units.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from contracts.abi import AbiEvent
from tests.unit.contracts.build import abi_event, log
from tests.unit.contracts.signatures import GATEWAY, TRANSFER
from tests.unit.ledger.story import GATEWAY as GATEWAY_ADDRESS
from tests.unit.ledger.story import OTHER_TOKEN, TOKEN, VAULT, account

PAYERS = tuple("0x" + f"{number:02x}" * 20 for number in (0x71, 0x72, 0x73))
STRANGER = "0x" + "99" * 20
TOKENS = (TOKEN, OTHER_TOKEN)
ZERO_WORD = bytes(32)

Effects = dict[tuple[str, str], int]
"""(account code, token address) → net."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TxLog:
    """A log without its place. ``book`` None: not ours. ``decodable`` False: ours, but it ends in quarantine."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    book: str | None
    decodable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Tx:
    """A payment. Mined again in another block it keeps its hash."""

    hash: str
    kind: str
    logs: tuple[TxLog, ...]
    effects: tuple[tuple[tuple[str, str], int], ...]


@cache
def _events() -> dict[str, AbiEvent]:
    lines = [line for line in GATEWAY.strip().splitlines() if line]
    events = {line.partition("(")[0]: abi_event(line) for line in lines}
    events["Transfer"] = abi_event(TRANSFER)
    events["VaultDeposited"] = abi_event("Deposited(address! account, address! asset, uint256 amount)")
    return events


def _log(name: str, address: str, book: str | None, **values: Any) -> TxLog:
    topics, data = log(_events()[name], values)
    return TxLog(address=address, topics=tuple(topics), data=data, book=book)


def _word(number: int) -> bytes:
    return bytes.fromhex(account(number)[2:])


def _available(number: int) -> str:
    return f"liabilities:gateway:account:{account(number)}:available"


def _custody(book: str, address: str) -> str:
    return f"assets:{book}:onchain:{address}:-"


class Payments:
    """Makes txs from a seed."""

    def __init__(self, pick: random.Random) -> None:
        self._pick = pick
        self._count = 0
        self._makers: list[tuple[Callable[[], tuple[list[TxLog], Effects]], str, int]] = [
            (self._deposit, "deposit", 30),
            (self._withdrawal, "withdrawal", 10),
            (self._internal, "internal transfer", 15),
            (self._captured, "capture", 10),
            (self._stray, "stray transfer", 6),
            (self._vault_deposit, "vault deposit", 14),
            (self._quiet_withdrawal, "silent withdrawal", 4),
            (self._malformed, "malformed log", 5),
            (self._foreign, "foreign log", 6),
        ]

    def tx(self) -> Tx:
        """The next payment."""
        self._count += 1
        make, kind, _ = self._pick.choices(self._makers, [weight for _, _, weight in self._makers])[0]
        logs, effects = make()
        name = f"{self._count} {self._pick.random()}"
        return Tx(
            hash="0x" + hashlib.sha256(name.encode()).hexdigest(),
            kind=kind,
            logs=tuple(logs),
            effects=tuple((key, net) for key, net in effects.items() if net),
        )

    def _amount(self) -> int:
        return self._pick.choice([1, 1_000_000, 2**64 + self._pick.randrange(10**6), self._pick.randrange(1, 10**9)])

    def _some(self) -> tuple[str, int, str]:
        """A token, an amount, a payer."""
        return self._pick.choice(TOKENS), self._amount(), self._pick.choice(PAYERS)

    def _moved(self, sender: str, receiver: str, amount: int, token: str) -> TxLog:
        book = "gateway" if GATEWAY_ADDRESS in (sender, receiver) else "vault"
        return _log("Transfer", token, book, **{"from": sender, "to": receiver, "value": amount})

    def _deposit(self) -> tuple[list[TxLog], Effects]:
        token, amount, payer = self._some()
        number = self._pick.randrange(1, 9)
        claim = _log(
            "Deposited",
            GATEWAY_ADDRESS,
            "gateway",
            accountId=_word(number),
            asset=token,
            payer=payer,
            received=amount,
            balanceAfter=0,
            ref=ZERO_WORD,
            seq=self._count,
        )
        effects = {(_custody("gateway", GATEWAY_ADDRESS), token): amount, (_available(number), token): -amount}
        return [self._moved(payer, GATEWAY_ADDRESS, amount, token), claim], effects

    def _withdrawal(self) -> tuple[list[TxLog], Effects]:
        token, amount, payer = self._some()
        number = self._pick.randrange(1, 9)
        claim = _log(
            "Withdrawn",
            GATEWAY_ADDRESS,
            "gateway",
            accountId=_word(number),
            asset=token,
            to=payer,
            amount=amount,
            balanceAfter=0,
            ref=ZERO_WORD,
            seq=self._count,
        )
        effects = {(_custody("gateway", GATEWAY_ADDRESS), token): -amount, (_available(number), token): amount}
        return [claim, self._moved(GATEWAY_ADDRESS, payer, amount, token)], effects

    def _internal(self) -> tuple[list[TxLog], Effects]:
        token, amount, _ = self._some()
        sender, receiver = self._pick.sample(range(1, 9), 2)
        moved = _log(
            "InternalTransfer",
            GATEWAY_ADDRESS,
            "gateway",
            **{"from": _word(sender), "to": _word(receiver), "asset": token},
            amount=amount,
            ref=ZERO_WORD,
            seq=self._count,
        )
        return [moved], {(_available(sender), token): amount, (_available(receiver), token): -amount}

    def _captured(self) -> tuple[list[TxLog], Effects]:
        token, amount, _ = self._some()
        fee = self._pick.randrange(0, min(amount, 50))
        payment, merchant = self._pick.randrange(50, 55), self._pick.randrange(1, 9)
        captured = _log(
            "PaymentCaptured",
            GATEWAY_ADDRESS,
            "gateway",
            paymentId=_word(payment),
            merchantId=_word(merchant),
            asset=token,
            amount=amount,
            fee=fee,
            feeAccount=_word(99),
            remainingHold=0,
            seq=self._count,
        )
        escrow = f"liabilities:gateway:escrow:{account(payment)}:-"
        effects = {(escrow, token): amount, (_available(merchant), token): fee - amount, (_available(99), token): -fee}
        return [captured], effects

    def _stray(self) -> tuple[list[TxLog], Effects]:
        """Tokens that nobody claims: they are owed to whoever sent them."""
        token, amount, payer = self._some()
        owed = f"liabilities:gateway:unattributed:{GATEWAY_ADDRESS}:-"
        effects = {(_custody("gateway", GATEWAY_ADDRESS), token): amount, (owed, token): -amount}
        return [self._moved(payer, GATEWAY_ADDRESS, amount, token)], effects

    def _vault_deposit(self) -> tuple[list[TxLog], Effects]:
        token, amount, payer = self._some()
        claim = _log("VaultDeposited", VAULT, "vault", account=payer, asset=token, amount=amount)
        owed = f"liabilities:vault:account:{payer}:available"
        effects = {(_custody("vault", VAULT), token): amount, (owed, token): -amount}
        return [self._moved(payer, VAULT, amount, token), claim], effects

    def _quiet_withdrawal(self) -> tuple[list[TxLog], Effects]:
        """Money that leaves without an event: it stays on clearing, where everybody sees it."""
        token, amount, payer = self._some()
        effects = {
            (_custody("vault", VAULT), token): -amount,
            (f"clearing:vault:contract:{VAULT}:-", token): amount,
        }
        return [self._moved(VAULT, payer, amount, token)], effects

    def _malformed(self) -> tuple[list[TxLog], Effects]:
        """A log of ours that cannot be decoded: its data is cut off."""
        (_, claim), _ = self._deposit()
        broken = TxLog(
            address=claim.address, topics=claim.topics, data=claim.data[:-8], book=claim.book, decodable=False
        )
        return [broken], {}

    def _foreign(self) -> tuple[list[TxLog], Effects]:
        """A token's Transfer between strangers, and a log of a contract that nobody watches."""
        token, amount, payer = self._some()
        foreign = _log("Transfer", token, None, **{"from": payer, "to": STRANGER, "value": amount})
        unknown = TxLog(address=STRANGER, topics=(hashlib.sha256(payer.encode()).digest(),), data=b"", book=None)
        return [foreign, unknown], {}
