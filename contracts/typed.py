"""A canonical document, typed against its own ABI: what the code generators take. Pure.

Finds every issue, not only the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from contracts.abi import Abi, AbiError, AbiEvent, parse_abi
from contracts.description import ContractDocument, CustodyDocument, EventDescription, EventKind, MovementDescription
from contracts.problems import suggestion
from contracts.reconcile import Check, make_check
from contracts.rules import (
    AccountTemplate,
    AmountRule,
    AssetRule,
    Condition,
    PostingRule,
    RuleError,
    account_template,
    amount_rule,
    asset_rule,
    condition,
    elementary,
)

T = TypeVar("T")
Where = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """What is wrong at a path of the document; the loader turns the path into a file and a line."""

    path: Where
    what: str
    do: str


class DocumentError(ValueError):
    """A document that cannot be used, with all issues."""

    def __init__(self, issues: list[Issue]) -> None:
        self.issues = issues
        super().__init__("; ".join(f"{'.'.join(map(str, issue.path))}: {issue.what}" for issue in issues))


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedEvent:
    """One event of a payment contract."""

    name: str  # key in the description: the event's name, or its signature when the name is overloaded
    abi: AbiEvent
    kind: EventKind
    subject: str | None  # argument; None is the emitter
    correlation: Mapping[str, str]  # name → argument
    amounts: tuple[tuple[str, AssetRule], ...]  # argument and asset
    postings: tuple[PostingRule, ...]
    sequence: str | None  # argument


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedContract:
    """A payment contract on one chain."""

    document: ContractDocument
    abi: Abi
    events: Mapping[str, TypedEvent]
    default_inflow: AccountTemplate
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedMovement:
    """A custody event: argument names of sender, receiver and amount."""

    name: str
    abi: AbiEvent
    sender: str
    receiver: str
    amount: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedCustody:
    """Custody on one chain."""

    document: CustodyDocument
    abi: Abi
    events: Mapping[str, TypedMovement]


@dataclass(slots=True)
class _Issues:
    found: list[Issue] = field(default_factory=list)

    def add(self, path: Where, what: str, do: str) -> None:
        self.found.append(Issue(path=path, what=what, do=do))

    def attempt(self, path: Where, make: Callable[[], T]) -> T | None:
        """The value, or None and an issue at this path."""
        try:
            return make()
        except RuleError as exc:
            self.add(path, exc.what, exc.do)
            return None

    def finish(self) -> None:
        if self.found:
            raise DocumentError(self.found)


def type_contract(document: ContractDocument) -> TypedContract:
    """Raises DocumentError with every issue."""
    issues = _Issues()
    abi = _abi(document.abi, issues)
    book = document.book
    inflow = issues.attempt(("default_inflow",), lambda: account_template(None, document.default_inflow, book=book))
    if inflow is not None and inflow.account_class not in ("liabilities", "income", "equity"):
        issues.add(
            ("default_inflow",), f"is in class {inflow.account_class!r}", "name a liabilities, income or equity account"
        )
    events: dict[str, TypedEvent] = {}
    for name, description in document.events.items():
        abi_event = _find_event(abi, name, issues)
        if abi_event is not None:
            events[name] = _event(document, name, abi_event, description, issues)
    checks = [
        issues.attempt(("reconcile", index), lambda e=entry: make_check(abi, e, book=book))  # type: ignore[misc]  # bound now
        for index, entry in enumerate(document.reconcile)
    ]
    issues.finish()
    assert inflow is not None
    found = tuple(check for check in checks if check is not None)
    return TypedContract(document=document, abi=abi, events=events, default_inflow=inflow, checks=found)


def type_custody(document: CustodyDocument) -> TypedCustody:
    """Raises DocumentError with every issue."""
    issues = _Issues()
    abi = _abi(document.abi, issues)
    events: dict[str, TypedMovement] = {}
    for name, description in document.events.items():
        abi_event = _find_event(abi, name, issues)
        if abi_event is not None:
            events[name] = _movement(name, abi_event, description.movement, issues)
    issues.finish()
    return TypedCustody(document=document, abi=abi, events=events)


def _abi(items: object, issues: _Issues) -> Abi:
    try:
        return parse_abi(items)
    except AbiError as exc:
        issues.add(("abi",), str(exc), "use the JSON ABI that the compiler wrote")
        issues.finish()
        raise


def _find_event(abi: Abi, name: str, issues: _Issues) -> AbiEvent | None:
    found = abi.find_events(name)
    if len(found) == 1:
        return found[0]
    if not found:
        names = (event.name for event in abi.events)
        issues.add(("events", name), "is no event of the ABI (or an anonymous one)", suggestion(name, names))
    else:
        signatures = ", ".join(event.signature for event in found)
        issues.add(("events", name), "is the name of several events of the ABI", f"write the signature: {signatures}")
    return None


def _event(
    document: ContractDocument, name: str, abi: AbiEvent, description: EventDescription, issues: _Issues
) -> TypedEvent:
    where: Where = ("events", name)
    if description.subject is not None:
        subject = description.subject
        issues.attempt((*where, "subject"), lambda: elementary(abi, subject, use="a subject"))
    for key, argument in description.correlation.items():
        issues.attempt((*where, "correlation", key), lambda a=argument: elementary(abi, a, use="a correlation id"))  # type: ignore[misc]  # bound now
    amounts: list[tuple[str, AssetRule]] = []
    for index, entry in enumerate(description.amounts):
        path = (*where, "amounts", index)
        issues.attempt((*path, "arg"), lambda e=entry: elementary(abi, e.arg, use="an amount", kinds=("uint", "int")))  # type: ignore[misc]  # bound now
        asset = issues.attempt((*path, "asset"), lambda e=entry: asset_rule(abi, e.asset))  # type: ignore[misc]  # bound now
        if asset is not None:
            amounts.append((entry.arg, asset))
    postings = [
        rule
        for index in range(len(description.postings))
        if (rule := _posting(document.book, abi, description, index, (*where, "postings", index), issues)) is not None
    ]
    if description.kind == "money" and not description.postings:
        issues.add(where, "is money and has no postings", "add postings, or say kind: state or kind: info")
    if description.kind != "money" and description.postings:
        issues.add(
            (*where, "postings"), f"belong to an event of kind {description.kind}", "say kind: money, or remove them"
        )
    sequence = document.sequence if description.kind == "money" else None
    if sequence is not None:
        use = "the sequence number (see `sequence` at the top)"
        issues.attempt(where, lambda: elementary(abi, sequence, use=use, kinds=("uint",)))
    return TypedEvent(
        name=name,
        abi=abi,
        kind=description.kind,
        subject=description.subject,
        correlation=description.correlation,
        amounts=tuple(amounts),
        postings=tuple(postings),
        sequence=sequence,
    )


def _posting(
    book: str, abi: AbiEvent, description: EventDescription, index: int, path: Where, issues: _Issues
) -> PostingRule | None:
    entry = description.postings[index]
    debit = issues.attempt((*path, "debit"), lambda: account_template(abi, entry.debit, book=book))
    credit = issues.attempt((*path, "credit"), lambda: account_template(abi, entry.credit, book=book))
    asset = issues.attempt((*path, "asset"), lambda: asset_rule(abi, entry.asset))
    amount: AmountRule | None = issues.attempt(
        (*path, "amount"), lambda: amount_rule(abi, entry.amount, signed=entry.signed)
    )
    texts = [entry.when] if isinstance(entry.when, str) else entry.when
    conditions: list[Condition] = []
    for text in texts:
        found = issues.attempt((*path, "when"), lambda t=text: condition(abi, t))  # type: ignore[misc]  # bound now
        if found is not None:
            conditions.append(found)
    if debit is None or credit is None or asset is None or amount is None or len(conditions) < len(texts):
        return None
    if debit == credit:
        issues.add(path, f"has {entry.debit!r} on both sides", "a transfer needs two different accounts")
        return None
    clearing = account_template(abi, "clearing", book=book)
    for side, template in (("debit", debit), ("credit", credit)):
        if template.is_clearing and template != clearing:
            issues.add((*path, side), "is another clearing account than the contract's own", "write `clearing`")
            return None
        if template.account_class == "assets" and template.segments[2].text == "onchain":
            what = "assets:{book}:onchain belongs to custody (token Transfers, native movement)"
            issues.add(
                (*path, side),
                what,
                "post against `clearing`; where a chain's native source is `events` it is replaced for you",
            )
            return None
    return PostingRule(debit=debit, credit=credit, asset=asset, amount=amount, conditions=tuple(conditions))


def _movement(name: str, abi: AbiEvent, movement: MovementDescription, issues: _Issues) -> TypedMovement:
    where: Where = ("events", name, "movement")
    for key, argument in (("from", movement.from_), ("to", movement.to)):
        issues.attempt((*where, key), lambda a=argument: elementary(abi, a, use="an address", kinds=("address",)))  # type: ignore[misc]  # bound now
    issues.attempt((*where, "amount"), lambda: elementary(abi, movement.amount, use="an amount", kinds=("uint",)))
    for item in abi.inputs:
        if not item.type.is_elementary:
            issues.add(
                where,
                f"argument {item.name!r} is {item.type.canonical}",
                "custody reads events of one-word arguments only",
            )
    return TypedMovement(name=name, abi=abi, sender=movement.from_, receiver=movement.to, amount=movement.amount)
