"""A canonical document, typed against its own ABI: what the code generators take. Pure.

Finds every issue, not only the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.abi import Abi, AbiError, AbiEvent, parse_abi
from contracts.description import ContractDocument, CustodyDocument, EventDescription, EventKind, MovementDescription
from contracts.issues import DocumentError, Issue, Issues, Where
from contracts.problems import suggestion
from contracts.reconcile import Check, make_check
from contracts.references import RuleError, Scope
from contracts.rules import AccountTemplate, AssetRule, JoinRule, PostingRule, account_template, asset_rule
from contracts.typed_rules import joins_of, postings_of

__all__ = [
    "DocumentError",
    "Issue",
    "TypedContract",
    "TypedCustody",
    "TypedEvent",
    "TypedMovement",
    "type_contract",
    "type_custody",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedEvent:
    """One event of a payment contract."""

    name: str  # key in the description: the event's name, or its signature when the name is overloaded
    abi: AbiEvent
    kind: EventKind
    subject: str | None  # argument; None is the emitter
    correlation: Mapping[str, str]  # name → argument
    amounts: tuple[tuple[str, AssetRule], ...]  # argument and asset
    joins: tuple[JoinRule, ...]
    postings: tuple[PostingRule, ...]
    withdraws: bool  # whether it pays out what is owed to our own accounts
    sequence: str | None  # argument


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedContract:
    """A payment contract on one chain."""

    document: ContractDocument
    abi: Abi
    events: Mapping[str, TypedEvent]
    default_inflow: AccountTemplate
    checks: tuple[Check, ...]
    experimental: bool = False  # never run against real bytecode; no part of the document


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedMovement:
    """A custody event: argument names of sender, receiver and amount."""

    name: str
    abi: AbiEvent
    sender: str | None  # None: it makes tokens
    receiver: str | None  # None: it destroys tokens
    amount: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedCustody:
    """Custody on one chain."""

    document: CustodyDocument
    abi: Abi
    events: Mapping[str, TypedMovement]


def type_contract(document: ContractDocument) -> TypedContract:
    """Raises DocumentError with every issue."""
    issues = Issues()
    abi = _abi(document.abi, issues)
    book = document.book
    inflow = issues.attempt(("default_inflow",), lambda: account_template(None, document.default_inflow, book=book))
    if inflow is not None and inflow.account_class not in ("liabilities", "income", "equity"):
        issues.add(
            ("default_inflow",), f"is in class {inflow.account_class!r}", "name a liabilities, income or equity account"
        )
    known = {name: _find_event(abi, name, issues) for name in document.events}
    abi_events = {name: found for name, found in known.items() if found is not None}
    events = {
        name: _event(document, name, abi_events, document.events[name], issues)
        for name in document.events
        if name in abi_events
    }
    checks = [
        issues.attempt(
            ("reconcile", index),
            lambda e=entry: make_check(abi, e, book=book, constants=document.constants),  # type: ignore[misc]  # bound now
        )
        for index, entry in enumerate(document.reconcile)
    ]
    issues.finish()
    assert inflow is not None
    found = tuple(check for check in checks if check is not None)
    return TypedContract(document=document, abi=abi, events=events, default_inflow=inflow, checks=found)


def type_custody(document: CustodyDocument) -> TypedCustody:
    """Raises DocumentError with every issue."""
    issues = Issues()
    abi = _abi(document.abi, issues)
    events: dict[str, TypedMovement] = {}
    for name, description in document.events.items():
        abi_event = _find_event(abi, name, issues)
        if abi_event is not None:
            events[name] = _movement(name, abi_event, description.movement, issues)
    issues.finish()
    return TypedCustody(document=document, abi=abi, events=events)


def _abi(items: object, issues: Issues) -> Abi:
    try:
        return parse_abi(items)
    except AbiError as exc:
        issues.add(("abi",), str(exc), "use the JSON ABI that the compiler wrote")
        issues.finish()
        raise


def _find_event(abi: Abi, name: str, issues: Issues) -> AbiEvent | None:
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
    document: ContractDocument, name: str, abi: Mapping[str, AbiEvent], description: EventDescription, issues: Issues
) -> TypedEvent:
    where: Where = ("events", name)
    scope = Scope(event=abi[name])
    if description.subject is not None:
        subject = description.subject
        issues.attempt((*where, "subject"), lambda: _argument(scope, subject, use="a subject"))
    for key, argument in description.correlation.items():
        issues.attempt((*where, "correlation", key), lambda a=argument: _argument(scope, a, use="a correlation id"))  # type: ignore[misc]  # bound now
    joins, joined = joins_of(document, name, abi, issues)
    postings = postings_of(document, name, joined, issues)
    if description.kind == "money" and not description.postings:
        issues.add(where, "is money and has no postings", "add postings, or say kind: state or kind: info")
    if description.kind != "money" and description.postings:
        issues.add(
            (*where, "postings"), f"belong to an event of kind {description.kind}", "say kind: money, or remove them"
        )
    sequence = document.sequence if description.kind == "money" else None
    if sequence is not None:
        use = "the sequence number (see `sequence` at the top)"
        issues.attempt(where, lambda: _argument(scope, sequence, use=use, kinds=("uint",)))
    return TypedEvent(
        name=name,
        abi=abi[name],
        kind=description.kind,
        subject=description.subject,
        correlation=description.correlation,
        amounts=_amounts(document, name, scope, issues),
        joins=joins,
        postings=postings,
        withdraws=description.withdraws,
        sequence=sequence,
    )


def _amounts(document: ContractDocument, name: str, scope: Scope, issues: Issues) -> tuple[tuple[str, AssetRule], ...]:
    amounts: list[tuple[str, AssetRule]] = []
    for index, entry in enumerate(document.events[name].amounts):
        path = ("events", name, "amounts", index)
        issues.attempt((*path, "arg"), lambda e=entry: _argument(scope, e.arg, use="an amount", kinds=("uint", "int")))  # type: ignore[misc]  # bound now
        asset = issues.attempt(
            (*path, "asset"),
            lambda e=entry: asset_rule(scope, e.asset, constants=document.constants),  # type: ignore[misc]  # bound now
        )
        if asset is not None and asset.value is not None and asset.value.path:
            issues.add((*path, "asset"), f"{entry.asset!r} is not a whole argument", "name an argument of the event")
        elif asset is not None:
            amounts.append((entry.arg, asset))
    return tuple(amounts)


def _argument(scope: Scope, text: str, *, use: str, kinds: Sequence[str] = ()) -> None:
    """A whole argument of one word."""
    reference = scope.elementary(text, use=use, kinds=kinds)
    if reference.path:
        raise RuleError(f"{text!r} is part of an argument and cannot be {use}", "name an argument of the event")


def _movement(name: str, abi: AbiEvent, movement: MovementDescription, issues: Issues) -> TypedMovement:
    where: Where = ("events", name, "movement")
    scope = Scope(event=abi)
    for key, argument in (("from", movement.from_), ("to", movement.to)):
        if argument is None:
            continue
        issues.attempt((*where, key), lambda a=argument: _argument(scope, a, use="an address", kinds=("address",)))  # type: ignore[misc]  # bound now
    issues.attempt((*where, "amount"), lambda: _argument(scope, movement.amount, use="an amount", kinds=("uint",)))
    for item in abi.inputs:
        if not item.type.is_elementary:
            issues.add(
                where,
                f"argument {item.name!r} is {item.type.canonical}",
                "custody reads events of one-word arguments only",
            )
    return TypedMovement(name=name, abi=abi, sender=movement.from_, receiver=movement.to, amount=movement.amount)
