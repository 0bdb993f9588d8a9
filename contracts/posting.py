"""From an event to its transfers: the posting rules of one version of one description, compiled once. Pure.

Claims post against the contract's clearing account; custody posts ``assets:B:onchain`` against it; where the chain's
native source is ``events``, a claim in the native coin posts ``assets:B:onchain`` itself. Zero amounts and transfers
from an account to itself yield nothing. What cannot be posted is a ``Rejection``, never an exception and never a
guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from contracts.accounts import clearing_code, custody_code
from contracts.description import ContractDocument
from contracts.document import document_version, type_document
from contracts.messages import PaymentEvent, asset_id
from contracts.posting_source import compile_postings
from contracts.rules import AMOUNT_MAX
from contracts.typed import TypedContract, TypedCustody, TypedMovement
from contracts.values import Rejection

__all__ = ["NO_BOOKS", "Books", "Posting", "PostingRules", "Rejection", "join_text"]


class Posting(msgspec.Struct, frozen=True):
    """One transfer."""

    debit: str  # account code
    credit: str  # account code
    asset: str  # CAIP-19
    amount: int  # base units, > 0


class Books(Protocol):
    """What the books know just before the event, for its book and its contract."""

    def joined(self, event: str, argument: str, value: object) -> Mapping[str, Any] | None:
        """The arguments of the latest standing event of that name whose argument has that value, or None."""
        ...

    def balance(self, account: str, asset: str) -> int:
        """Debits minus credits of an account, base units; 0 for one that does not exist."""
        ...


class _NoBooks:
    """An empty ledger."""

    def joined(self, event: str, argument: str, value: object) -> Mapping[str, Any] | None:
        return None

    def balance(self, account: str, asset: str) -> int:
        return 0


NO_BOOKS: Books = _NoBooks()

EventPostings = Callable[[PaymentEvent, Books], "Sequence[Posting] | Rejection"]


def join_text(value: object) -> str:
    """The value of a join's key as it is compared: the text of its JSON form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class PostingRules:
    """The rules of one version; chosen by an event's ``description_version``."""

    def __init__(
        self,
        *,
        version: str,
        contract: str,
        chain_id: int,
        events: Mapping[str, EventPostings],
        inflow: Mapping[str, str],
        join_keys: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.version = version
        self.contract = contract
        self.chain_id = chain_id
        self._events = dict(events)
        self._inflow = dict(inflow)
        self._join_keys = dict(join_keys or {})

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> PostingRules:
        """Rules from a document of the registry topic. Raises ``contracts.typed.DocumentError`` (a ValueError)."""
        typed = type_document(document)
        version = document_version(document)
        if isinstance(typed, TypedCustody):
            return _custody_rules(typed, version)
        return _claim_rules(typed, version)

    def join_keys(self, event: str) -> tuple[str, ...]:
        """By which arguments later events look for an event of this name."""
        return self._join_keys.get(event, ())

    def postings(self, event: PaymentEvent, books: Books = NO_BOOKS) -> tuple[Posting, ...] | Rejection:
        """The transfers of an event, in the order of its rules. ``op`` is not looked at.

        Raises only what ``books`` raises; it must not raise KeyError, TypeError or ValueError.
        """
        rule = self._events.get(event.event)
        if rule is None:
            return Rejection(
                code="unknown_event", reason=f"{self.contract} {self.version} does not describe {event.event!r}"
            )
        if event.chain_id != self.chain_id:
            return Rejection(
                code="wrong_chain", reason=f"the event is of chain {event.chain_id}, the rules are of {self.chain_id}"
            )
        try:
            lines = rule(event, books)
        except (KeyError, TypeError, ValueError) as exc:
            return Rejection(
                code="malformed_args", reason=f"arguments do not fit the description: {type(exc).__name__}: {exc}"[:300]
            )
        return lines if isinstance(lines, Rejection) else tuple(lines)

    def default_inflow(self, address: str) -> str | None:
        """The account that is credited with inflow to this address that no claim explains.

        None for a foreign address.
        """
        return self._inflow.get(address)


def _remaining(books: Books, lines: Sequence[Posting], account: str, asset: str) -> int:
    """What an account still owes (credits minus debits) after these lines."""
    left = -books.balance(account, asset)
    for line in lines:
        if line.asset == asset:
            left += line.amount * ((line.credit == account) - (line.debit == account))
    return left


def _claim_rules(typed: TypedContract, version: str) -> PostingRules:
    document = typed.document
    events: dict[str, EventPostings] = {}
    join_keys: dict[str, dict[str, None]] = {}
    for name, event in typed.events.items():
        events[name] = with_own_claims(
            compile_postings(typed, event, Posting, _remaining), typed.document, withdraws=event.withdraws
        )
        for join in event.joins:
            join_keys.setdefault(join.event, {})[join.key] = None
    inflow = {address: typed.default_inflow.for_emitter(address) for address in document.addresses}
    return PostingRules(
        version=version,
        contract=document.contract,
        chain_id=document.chain_id,
        events=events,
        inflow=inflow,
        join_keys={name: tuple(keys) for name, keys in join_keys.items()},
    )


def with_own_claims(postings: EventPostings, document: ContractDocument, *, withdraws: bool) -> EventPostings:
    """Also books what the company itself is owed: its claim on the contract against income.

    A payment to the company takes the claim away against ``equity:B:owner``; a refund takes it away against income.
    """
    if not document.own_accounts:
        return postings
    book = document.book
    claims = {
        f"liabilities:{book}:account:{account}:{state}": f"assets:{book}:own-claim:{account}:-"
        for account in document.own_accounts
        for state in ("available", "held", "pending")
    }
    income, owner = f"income:{book}:fees:-:-", f"equity:{book}:owner:-:-"

    def with_claims(event: PaymentEvent, books: Books) -> Sequence[Posting] | Rejection:
        lines = postings(event, books)
        if isinstance(lines, Rejection):
            return lines
        own = []
        for line in lines:
            gained, lost = claims.get(line.credit), claims.get(line.debit)
            if gained == lost:
                continue
            if gained is not None:
                own.append(Posting(gained, income, line.asset, line.amount))
            if lost is not None:
                own.append(Posting(owner if withdraws else income, lost, line.asset, line.amount))
        return [*lines, *own]

    return with_claims


def _custody_rules(typed: TypedCustody, version: str) -> PostingRules:
    document = typed.document
    events = {name: _movement(typed, movement) for name, movement in typed.events.items()}
    inflow = {address: wallet.default_inflow for address, wallet in document.wallets.items()}
    return PostingRules(
        version=version, contract=document.contract, chain_id=document.chain_id, events=events, inflow=inflow
    )


def _movement(typed: TypedCustody, movement: TypedMovement) -> EventPostings:
    """Custody of the event's book: each of its wallets that sends or receives, against that wallet's clearing."""
    document = typed.document
    assets = {address: asset_id(document.chain_id, address) for address in document.addresses}
    accounts: dict[tuple[str, str | None], tuple[str, str]] = {
        (wallet.book, address): (clearing_code(wallet.book, address), custody_code(wallet.book, address))
        for address, wallet in document.wallets.items()
    }

    def postings(event: PaymentEvent, books: Books) -> Sequence[Posting] | Rejection:
        args = event.args
        asset = assets.get(event.address)
        if asset is None:
            return Rejection(code="unlisted_token", reason=f"{event.address} is not a token of this version")
        sender: str | None = None if movement.sender is None else args[movement.sender]
        receiver: str | None = None if movement.receiver is None else args[movement.receiver]
        amount = int(args[movement.amount])
        if not 0 <= amount <= AMOUNT_MAX:
            return Rejection(code="malformed_args", reason=f"{movement.amount} is not a uint256")
        outgoing, incoming = accounts.get((event.book, sender)), accounts.get((event.book, receiver))
        if outgoing is None and incoming is None:
            return Rejection(
                code="foreign_wallet", reason=f"neither {sender} nor {receiver} is a wallet of book {event.book!r}"
            )
        if amount == 0 or sender == receiver:
            return ()
        lines = []
        if outgoing is not None:
            lines.append(Posting(outgoing[0], outgoing[1], asset, amount))
        if incoming is not None:
            lines.append(Posting(incoming[1], incoming[0], asset, amount))
        return tuple(lines)

    return postings
