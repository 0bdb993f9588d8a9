"""What a description means, in words: events with their arguments, and each transfer as a sentence. Pure."""

from __future__ import annotations

from contracts.rules import AccountTemplate, AmountRule, AssetRule, Condition, JoinRule, Loop, PostingRule
from contracts.typed import TypedContract, TypedCustody, TypedEvent, TypedMovement

Lines = list[str]


def explained(typed: TypedContract | TypedCustody, name: str) -> Lines:
    """One event, in lines. KeyError when the description does not have it."""
    if isinstance(typed, TypedCustody):
        return _movement(typed, typed.events[name])
    return _event(typed, typed.events[name])


def _event(typed: TypedContract, event: TypedEvent) -> Lines:
    lines = [
        f"{typed.document.contract}.{event.name} (book {typed.document.book}, {event.kind})",
        f"  signature  {event.abi.signature}",
        f"  topic0     0x{event.abi.topic0.hex()}, {event.abi.topic_count} topics",
    ]
    lines += [f"  argument   {i.name}: {i.type.canonical}{', indexed' if i.indexed else ''}" for i in event.abi.inputs]
    lines.append(f"  subject    {event.subject or 'the emitter'}")
    lines += [f"  id         {name} = {argument}" for name, argument in event.correlation.items()]
    lines += [f"  amount     {arg} in {_asset(asset)}" for arg, asset in event.amounts]
    lines += [f"  join       {_join(join)}" for join in event.joins]
    lines += [f"  posts      {sentence(rule)}" for rule in event.postings]
    if not event.postings:
        lines.append("  posts      nothing")
    if event.withdraws:
        lines.append("  withdraws  what it takes from an own account goes to equity:owner")
    return lines


def _movement(typed: TypedCustody, movement: TypedMovement) -> Lines:
    return [
        f"{typed.document.contract}.{movement.name} (custody of every book)",
        f"  signature  {movement.abi.signature}",
        f"  topic0     0x{movement.abi.topic0.hex()}, {movement.abi.topic_count} topics",
        f"  posts      {movement.amount} of the emitting token, for wallets of ours",
        *(
            f"             as {argument}: debit {debit}, credit {credit}"
            for argument, debit, credit in (
                (movement.sender, "clearing", "assets:onchain"),
                (movement.receiver, "assets:onchain", "clearing"),
            )
            if argument is not None
        ),
    ]


def sentence(rule: PostingRule) -> str:
    """One transfer."""
    text = (
        f"debit {_account(rule.debit)}, credit {_account(rule.credit)}: {_amount(rule.amount)} of {_asset(rule.asset)}"
    )
    if rule.loop is not None:
        text += f", for each {_loop(rule.loop)}"
    if rule.conditions:
        text += ", if " + " and ".join(_condition(test) for test in rule.conditions)
    return text


def _account(template: AccountTemplate) -> str:
    parts = []
    for segment in template.segments:
        if segment.value is not None:
            parts.append(f"{{{segment.value.text}}}")
        else:
            parts.append("{address}" if segment.source == "address" else segment.text)
    return ":".join(parts)


def _amount(rule: AmountRule) -> str:
    if rule.remaining:
        return "what the debit account still owes"
    text = rule.left.text if rule.right is None else f"{rule.left.text} - {rule.right.text}"
    return f"{text} (negative: the other way round)" if rule.signed else text


def _asset(rule: AssetRule) -> str:
    if rule.value is not None:
        return f"the asset {rule.value.text}"
    if rule.source == "emitter":
        return "the emitting token"
    return "the native coin" if int(rule.text, 16) == 0 else rule.text


def _condition(test: Condition) -> str:
    right = test.other.text if test.other is not None else str(test.value)
    return f"{test.left.text} {'is' if test.equal else 'is not'} {right}"


def _loop(loop: Loop) -> str:
    return " and ".join(f"{name} of {array.text}" for name, array in loop.items)


def _join(join: JoinRule) -> str:
    return f"{join.name}: the latest standing {join.event} whose {join.key} is {join.equals.text}"
