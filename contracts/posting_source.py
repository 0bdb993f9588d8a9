"""Writes the function that turns one event's arguments into its transfers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contracts.abi import AbiEvent, AbiType
from contracts.accounts import custody_code
from contracts.messages import NATIVE_ADDRESS, asset_id
from contracts.rules import AccountTemplate, AmountRule, Condition, PostingRule, Term
from contracts.source import Source
from contracts.typed import TypedContract, TypedEvent
from contracts.values import JSON_NUMBER_BITS_MAX, Rejection

_NATIVE_REFUSED = Rejection(
    code="native_not_tracked",
    reason="an amount in the native coin, but the chain's native source is `none`; its assets file can say `events`",
)


def compile_postings(typed: TypedContract, event: TypedEvent, posting: type) -> Callable[[Any], Any]:
    """``postings(event) -> tuple of posting(debit, credit, asset, amount) | Rejection``.

    May raise KeyError, TypeError, ValueError.
    """
    return _Writer(typed, event, posting).compile()


class _Writer:
    def __init__(self, typed: TypedContract, event: TypedEvent, posting: type) -> None:
        self._document = typed.document
        self._event = event
        self._source = Source(f"postings {typed.document.contract}.{event.abi.signature}")
        self._posting = posting
        self._checked: dict[str, str] = {}

    def compile(self) -> Callable[[Any], Any]:
        source = self._source
        for name, value in (
            ("Posting", self._posting),
            ("Rejection", Rejection),
            ("BOOK", self._document.book),
            ("NATIVE", NATIVE_ADDRESS),
            ("NATIVE_ASSET", asset_id(self._document.chain_id, NATIVE_ADDRESS)),
        ):
            source.constant(value, name=name)
        source.line("def postings(event):")
        source.line("    if event.book != BOOK:")
        source.line("        raise ValueError(f'book {event.book!r}, expected {BOOK!r}')")
        if not self._event.postings:
            source.line("    return ()")
            return source.function("postings")
        source.line("    args = event.args")
        source.line("    address = event.address")
        for name in self._used_arguments():
            self._read(name)
        source.line("    lines = []")
        for index, rule in enumerate(self._event.postings):
            self._write_rule(rule, index)
        source.line("    return tuple(lines)")
        return source.function("postings")

    def _used_arguments(self) -> list[str]:
        used: dict[str, None] = {}
        for rule in self._event.postings:
            names = [*rule.debit.arguments, *rule.credit.arguments]
            names += [term.argument for term in (rule.amount.left, rule.amount.right) if term and term.argument]
            names += [rule.asset.text] if rule.asset.source == "argument" else []
            for test in rule.conditions:
                names += [test.argument] + ([test.other] if test.other else [])
            used.update(dict.fromkeys(names))
        return list(used)

    def _read(self, name: str) -> None:
        """One argument into a local, checked:

        a message is data from outside, and its text becomes part of account codes.
        """
        local = self._checked[name] = f"v{len(self._checked)}"
        self._source.line(f"    {local} = args[{name!r}]")
        self._source.line(f"    if {_malformed(local, self._type(name))}:")
        self._source.line(f"        raise ValueError({f'argument {name}'!r})")

    def _type(self, name: str) -> AbiType:
        event: AbiEvent = self._event.abi
        found = event.input(name)
        assert found is not None, name
        return found.type

    def _write_rule(self, rule: PostingRule, index: int) -> None:
        line = self._source.line
        depth = 1
        if rule.conditions:
            line(f"if {' and '.join(self._condition(test) for test in rule.conditions)}:", depth=1)
            depth = 2
        line(f"n = {self._amount(rule.amount)}", depth=depth)
        if not rule.amount.signed:
            line("if n < 0:", depth=depth)
            line(f"    return {self._negative(rule.amount)}", depth=depth)
        line("if n:", depth=depth)
        depth += 1
        debit, credit, asset = self._accounts_and_asset(rule, depth)
        may_be_equal = bool(rule.debit.arguments or rule.credit.arguments)
        if may_be_equal:
            if debit != "debit":
                line(f"debit, credit = {debit}, {credit}", depth=depth)
            line("if debit != credit:", depth=depth)
            debit, credit, depth = "debit", "credit", depth + 1
        if rule.amount.signed:
            line("if n < 0:", depth=depth)
            line(f"    lines.append(Posting({credit}, {debit}, {asset}, -n))", depth=depth)
            line("else:", depth=depth)
            depth += 1
        line(f"lines.append(Posting({debit}, {credit}, {asset}, n))", depth=depth)

    def _accounts_and_asset(self, rule: PostingRule, depth: int) -> tuple[str, str, str]:
        """Expressions; native amounts replace clearing by custody, or are refused."""
        debit, credit = self._account(rule.debit), self._account(rule.credit)
        onchain = f"f{custody_code(self._document.book, '{address}')!r}"
        native_debit = onchain if rule.debit.is_clearing else debit
        native_credit = onchain if rule.credit.is_clearing else credit
        if rule.asset.source == "constant":
            asset = self._source.constant(asset_id(self._document.chain_id, rule.asset.text))
            if rule.asset.text != NATIVE_ADDRESS:
                return debit, credit, asset
            if self._document.native == "none":
                self._source.line(f"return {self._source.constant(_NATIVE_REFUSED)}", depth=depth)
            return native_debit, native_credit, asset
        token = "address" if rule.asset.source == "emitter" else self._checked[rule.asset.text]
        prefix = f"eip155:{self._document.chain_id}/erc20:"
        line = self._source.line
        line(f"if {token} == NATIVE:", depth=depth)
        if self._document.native == "none":
            line(f"    return {self._source.constant(_NATIVE_REFUSED)}", depth=depth)
            line(f"debit, credit, asset = {debit}, {credit}, {prefix!r} + {token}", depth=depth)
        else:
            line(f"    debit, credit, asset = {native_debit}, {native_credit}, NATIVE_ASSET", depth=depth)
            line("else:", depth=depth)
            line(f"    debit, credit, asset = {debit}, {credit}, {prefix!r} + {token}", depth=depth)
        return "debit", "credit", "asset"

    def _account(self, template: AccountTemplate) -> str:
        """An f-string: literals were checked against the characters of a segment, so nothing needs escaping."""
        parts = []
        for segment in template.segments:
            match segment.source:
                case "address":
                    parts.append("{address}")
                case "argument":
                    parts.append("{" + self._checked[segment.text] + "}")
                case _:
                    parts.append(segment.text)
        return "f" + repr(":".join(parts))

    def _amount(self, rule: AmountRule) -> str:
        left = self._term(rule.left)
        return left if rule.right is None else f"{left} - {self._term(rule.right)}"

    def _term(self, term: Term) -> str:
        if term.argument is None:
            return str(term.constant)
        local = self._checked[term.argument]
        return local if self._type(term.argument).bits <= JSON_NUMBER_BITS_MAX else f"int({local})"

    def _negative(self, rule: AmountRule) -> str:
        names = " - ".join(str(term.argument or term.constant) for term in (rule.left, rule.right) if term is not None)
        reason = f"{names} is negative; nothing was posted"
        return self._source.constant(Rejection(code="negative_amount", reason=reason))

    def _condition(self, test: Condition) -> str:
        right = self._checked[test.other] if test.other is not None else self._source.constant(test.value)
        return f"{self._checked[test.argument]} {'==' if test.equal else '!='} {right}"


def _malformed(local: str, abi_type: AbiType) -> str:
    """The condition under which a value is not of the form that the message has for its type."""
    match abi_type.kind:
        case "bool":
            return f"{local}.__class__ is not bool"
        case "uint" | "int" if abi_type.bits <= JSON_NUMBER_BITS_MAX:
            return f"{local}.__class__ is not int"
        case "uint":
            return (
                f"{local}.__class__ is not str or len({local}) > 78 or not ({local}.isdecimal() and {local}.isascii())"
            )
        case "int":
            digits = f"{local}.removeprefix('-')"
            return (
                f"{local}.__class__ is not str or len({local}) > 78 or not ({digits}.isdecimal() and {local}.isascii())"
            )
        case _:
            length = 42 if abi_type.kind == "address" else 2 + 2 * abi_type.size
            return f"{local}.__class__ is not str or len({local}) != {length} or ':' in {local}"
