"""The rules of one event, typed: its joins, loops and transfers, and what no rule may do. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.abi import AbiEvent
from contracts.description import ContractDocument, PostingEntry
from contracts.issues import Issues, Where
from contracts.problems import suggestion
from contracts.references import Scope
from contracts.rules import (
    AccountTemplate,
    Condition,
    JoinRule,
    Loop,
    PostingRule,
    account_template,
    amount_rule,
    asset_rule,
    condition,
    join_rule,
    loop_rule,
)


def joins_of(
    document: ContractDocument, name: str, abi: Mapping[str, AbiEvent], issues: Issues
) -> tuple[tuple[JoinRule, ...], Scope]:
    """The joins of an event in their order (a later one may use an earlier one), and the scope with them."""
    scope = Scope(event=abi[name])
    joins: list[JoinRule] = []
    for index, entry in enumerate(document.events[name].joins):
        path: Where = ("events", name, "joins", index)
        earlier = abi.get(entry.event)
        if earlier is None:
            others = [other for other in document.events if other != name]
            do = suggestion(entry.event, others)
            if "." in entry.event or ":" in entry.event:
                do = "a join stays in one description, and so in one book"
            issues.add((*path, "event"), f"{entry.event!r} is no event of this description", do)
            continue
        rule = issues.attempt(
            path,
            lambda s=scope, e=entry, a=earlier: join_rule(  # type: ignore[misc]  # bound now
                s, e.name, Scope(event=a), event=e.event, key=e.key, equals=e.equals or e.key
            ),
        )
        inner = issues.attempt(path, lambda s=scope, n=entry.name, a=earlier: s.with_join(n, a))  # type: ignore[misc]  # bound now
        if rule is not None and inner is not None:
            joins.append(rule)
        scope = inner or scope
    return tuple(joins), scope


def postings_of(document: ContractDocument, name: str, scope: Scope, issues: Issues) -> tuple[PostingRule, ...]:
    """The transfers of an event in their order, without those that are for another source of native money."""
    entries = document.events[name].postings
    found = [
        _posting(document, entry, ("events", name, "postings", index), scope, issues)
        for index, entry in enumerate(entries)
    ]
    used = {value.name for rule in found if rule is not None for value in rule.values() if value.root == "join"}
    used |= {array.name for rule in found if rule is not None and rule.loop for _, array in rule.loop.items}
    joins = document.events[name].joins
    used |= {(entry.equals or entry.key).split(".")[0] for entry in joins}
    for index, entry in enumerate(joins if None not in found else ()):
        if entry.name in scope.joins.keys() - used:
            what, do = "is a join of which no argument is used", f"use {entry.name}.argument, or remove the join"
            issues.add(("events", name, "joins", index), what, do)
    return tuple(
        rule for entry, rule in zip(entries, found, strict=True) if rule is not None and _is_for(document, entry)
    )


def _is_for(document: ContractDocument, entry: PostingEntry) -> bool:
    """Where native amounts are refused (`none`) every posting stays, so that they are."""
    return entry.native_source in (None, document.native) or document.native == "none"


def _posting(
    document: ContractDocument, entry: PostingEntry, path: Where, outside: Scope, issues: Issues
) -> PostingRule | None:
    loop: Loop | None = None
    scope = outside
    if entry.for_:
        looped = issues.attempt((*path, "for"), lambda: loop_rule(outside, entry.for_))
        if looped is None:
            return None
        loop, scope = looped
    debit = issues.attempt((*path, "debit"), lambda: account_template(scope, entry.debit, book=document.book))
    credit = issues.attempt((*path, "credit"), lambda: account_template(scope, entry.credit, book=document.book))
    asset = issues.attempt((*path, "asset"), lambda: asset_rule(scope, entry.asset, constants=document.constants))
    amount = issues.attempt(
        (*path, "amount"), lambda: amount_rule(scope, entry.amount, signed=entry.signed, debit=debit)
    )
    texts = [entry.when] if isinstance(entry.when, str) else entry.when
    conditions: list[Condition] = []
    for text in texts:
        found = issues.attempt((*path, "when"), lambda t=text: condition(scope, t))  # type: ignore[misc]  # bound now
        if found is not None:
            conditions.append(found)
    if debit is None or credit is None or asset is None or amount is None or len(conditions) < len(texts):
        return None
    if not _sides_can_be_meant(document, scope, path, entry, debit, credit, issues):
        return None
    rule = PostingRule(debit=debit, credit=credit, asset=asset, amount=amount, conditions=tuple(conditions), loop=loop)
    if loop is not None and not any(value.root == "item" for value in rule.values()):
        issues.add((*path, "for"), "is a loop of which no variable is used", "use the variable, or remove the loop")
    return rule


def _sides_can_be_meant(
    document: ContractDocument,
    scope: Scope,
    path: Where,
    entry: PostingEntry,
    debit: AccountTemplate,
    credit: AccountTemplate,
    issues: Issues,
) -> bool:
    if debit == credit:
        issues.add(path, f"has {entry.debit!r} on both sides", "a transfer needs two different accounts")
        return False
    clearing = account_template(scope, "clearing", book=document.book)
    for side, template in (("debit", debit), ("credit", credit)):
        if template.is_clearing and template != clearing:
            issues.add((*path, side), "is another clearing account than the contract's own", "write `clearing`")
            return False
        kind = template.segments[2].text
        if template.account_class == "assets" and kind == "onchain":
            what = "assets:{book}:onchain belongs to custody (token Transfers, native movement)"
            do = "post against `clearing`; where a chain's native source is `events` it is replaced for you"
            issues.add((*path, side), what, do)
            return False
        if template.account_class == "assets" and kind == "own-claim":
            what = "assets:{book}:own-claim follows from `own_accounts`"
            issues.add((*path, side), what, "list the account there; the second posting is made for you")
            return False
    return True
