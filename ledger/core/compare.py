"""What to compare with the chain, and what the answers mean. Pure.

Custody: what the ledger says an address holds against the token's ``balanceOf`` or the native balance. Claims and
counts: the getters that a description's ``reconcile`` list names. A question may need several calls (a contract with
several addresses): their answers are added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from contracts.accounts import custody_code
from contracts.messages import NATIVE_ADDRESS, asset_address, asset_id
from contracts.reconcile import Check
from contracts.typed import TypedContract

BALANCE_OF: Final = bytes.fromhex("70a08231")
"""Selector of ``balanceOf(address)`` (EIP-20)."""

Kind = Literal["custody", "claim", "count"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountBalance:
    """A final balance. ``balance`` is positive on the normal side (clearing: debit), in base units."""

    code: str
    book: str
    asset: str
    balance: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One question to the node: ``eth_call``, or the native balance when ``data`` is None."""

    to: str
    data: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One comparison: the ledger's number, and the calls whose answers must add up to it."""

    kind: Kind
    subject: str  # account code, or contract and getter
    contract: str  # address
    book: str
    asset: str | None
    ledger: int
    calls: tuple[Call, ...]
    check: Check | None = None  # decodes the answers; None: one 256-bit word


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A question with its answer. ``onchain`` is None when the chain gave none; then ``problem`` says why."""

    question: Question
    onchain: int | None
    problem: str | None = None

    @property
    def equal(self) -> bool:
        return self.onchain == self.question.ledger

    @property
    def difference(self) -> int | None:
        """Ledger − chain, base units."""
        return None if self.onchain is None else self.question.ledger - self.onchain


def asset_calls(typed: Sequence[TypedContract]) -> dict[tuple[str, str], Call]:
    """Calls that tell which asset a check speaks of, by contract name and check name; to be asked first."""
    return {
        (contract.document.contract, check.name): Call(
            to=contract.document.addresses[0], data=check.asset_function.selector
        )
        for contract in typed
        for check in contract.checks
        if check.asset_function is not None and contract.document.addresses
    }


def questions(
    typed: Sequence[TypedContract],
    balances: Sequence[AccountBalance],
    counts: Mapping[str, int],
    assets_named: Mapping[tuple[str, str], str],
    *,
    chain_id: int,
) -> list[Question]:
    """Everything to compare. ``counts``: last contract_seq by address; ``assets_named``: answers to ``asset_calls``."""
    found = list(_custody(typed, balances, chain_id))
    for contract in typed:
        for check in contract.checks:
            found += _check(contract, check, balances, counts, assets_named, chain_id)
    return found


def word(answer: bytes) -> int:
    """A uint256 answer. ValueError when it is none."""
    if len(answer) != 32:
        raise ValueError(f"{len(answer)} bytes instead of one word: is this a token?")
    return int.from_bytes(answer, "big")


def _custody(typed: Sequence[TypedContract], balances: Sequence[AccountBalance], chain_id: int) -> Iterable[Question]:
    """Every address that holds money × every listed asset, and whatever the ledger has beside them."""
    held = {(b.code, b.asset): b.balance for b in balances if b.code.startswith("assets:")}
    wanted: dict[tuple[str, str], tuple[str, str]] = {}
    for contract in typed:
        document = contract.document
        for address in document.addresses if document.custody else ():
            for listed in document.assets:
                if listed.address != NATIVE_ADDRESS or document.native == "events":
                    code = custody_code(document.book, address)
                    wanted[(code, asset_id(chain_id, listed.address))] = (address, document.book)
    for balance in balances:
        account_class, book, kind, subject, _ = balance.code.split(":")
        if account_class == "assets" and kind == "onchain":
            wanted.setdefault((balance.code, balance.asset), (subject, book))
    for (code, asset), (address, book) in sorted(wanted.items()):
        _, token = asset_address(asset)
        call = (
            Call(to=address, data=None)
            if token == NATIVE_ADDRESS
            else Call(to=token, data=BALANCE_OF + bytes.fromhex(address[2:]).rjust(32, b"\0"))
        )
        yield Question(
            kind="custody",
            subject=code,
            contract=address,
            book=book,
            asset=asset,
            ledger=held.get((code, asset), 0),
            calls=(call,),
        )


def _check(
    contract: TypedContract,
    check: Check,
    balances: Sequence[AccountBalance],
    counts: Mapping[str, int],
    assets_named: Mapping[tuple[str, str], str],
    chain_id: int,
) -> Iterable[Question]:
    document = contract.document
    own = any("{address}" in pattern.text for pattern in check.accounts) or check.compare == "count"
    groups = [(a,) for a in document.addresses] if own else [tuple(document.addresses)] if document.addresses else []
    for addresses in groups:
        ask = _Asking(contract=contract, check=check, addresses=addresses, chain_id=chain_id)
        match check.compare:
            case "each":
                yield from ask.each(balances, assets_named.get((document.contract, check.name)))
            case "sum":
                yield from ask.sums(balances, assets_named.get((document.contract, check.name)))
            case "count":
                yield ask.count(counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """One check at one address, or at all addresses of its contract together."""

    contract: TypedContract
    check: Check
    addresses: tuple[str, ...]
    chain_id: int

    def each(self, balances: Sequence[AccountBalance], named: str | None) -> Iterable[Question]:
        (pattern,) = self.check.accounts
        only = self.check.asset or named
        for balance in balances:
            if only is not None and balance.asset != asset_id(self.chain_id, only):
                continue
            captured = pattern.match(balance.code, address=self.addresses[0])
            if captured is not None:
                yield self._question("claim", balance.code, balance.asset, balance.balance, captured)

    def sums(self, balances: Sequence[AccountBalance], named: str | None) -> Iterable[Question]:
        matched = [
            b
            for b in balances
            if any(p.match(b.code, address=self.addresses[0]) is not None for p in self.check.accounts)
        ]
        if self.check.per_asset:
            listed = {asset_id(self.chain_id, asset.address) for asset in self.contract.document.assets}
            assets = sorted(listed | {b.asset for b in matched})
        else:
            assets = [asset_id(self.chain_id, self.check.asset or named or NATIVE_ADDRESS)]
        for asset in assets:
            total = sum(b.balance for b in matched if b.asset == asset)
            yield self._question("claim", self._name, asset, total, {})

    def count(self, counts: Mapping[str, int]) -> Question:
        return self._question("count", self._name, None, counts.get(self.addresses[0], 0), {})

    @property
    def _name(self) -> str:
        """Contract and getter, with the address where there are several."""
        several = len(self.contract.document.addresses) > 1 and len(self.addresses) == 1
        return f"{self.contract.document.contract}.{self.check.name}{f' at {self.addresses[0]}' if several else ''}"

    def _question(
        self, kind: Kind, subject: str, asset: str | None, ledger: int, captured: Mapping[str, str]
    ) -> Question:
        values = dict(captured) if asset is None else {**captured, "asset": asset_address(asset)[1]}
        calls = tuple(Call(to=a, data=self.check.call_data({**values, "address": a})) for a in self.addresses)
        return Question(
            kind=kind,
            subject=subject,
            contract=self.addresses[0],
            book=self.contract.document.book,
            asset=asset,
            ledger=ledger,
            calls=calls,
            check=self.check,
        )
