"""Writes the function that turns one event's arguments into its transfers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from contracts.abi import AbiType
from contracts.accounts import custody_code
from contracts.messages import NATIVE_ADDRESS, asset_id
from contracts.references import Reference
from contracts.rules import AccountTemplate, AmountRule, Condition, Loop, PostingRule, Term
from contracts.source import Source
from contracts.typed import TypedContract, TypedEvent
from contracts.values import JSON_NUMBER_BITS_MAX, Rejection

LINES_MAX: Final = 10_000

_NATIVE_REFUSED = Rejection(
    code="native_not_tracked",
    reason="an amount in the native coin, but the chain's native source is `none`; its assets file can say `events`",
)
_TOO_MANY = Rejection(code="too_many_lines", reason=f"more than {LINES_MAX} transfers; nothing was posted")


def compile_postings(
    typed: TypedContract, event: TypedEvent, posting: type, remaining: Callable[..., int]
) -> Callable[[Any, Any], Any]:
    """``postings(event, books) -> list of posting(debit, credit, asset, amount) | Rejection``.

    ``remaining(books, lines, account, asset)`` is what an account still owes. May raise KeyError, TypeError,
    ValueError, and what ``books`` raises.
    """
    return _Writer(typed, event, posting, remaining).compile()


class _Writer:
    def __init__(self, typed: TypedContract, event: TypedEvent, posting: type, remaining: Callable[..., int]) -> None:
        self._document = typed.document
        self._event = event
        self._source = Source(f"postings {typed.document.contract}.{event.abi.signature}")
        self._posting = posting
        self._remaining = remaining
        self._local: dict[Reference, str] = {}

    def compile(self) -> Callable[[Any, Any], Any]:
        source = self._source
        for name, value in (
            ("Posting", self._posting),
            ("Rejection", Rejection),
            ("BOOK", self._document.book),
            ("NATIVE", NATIVE_ADDRESS),
            ("NATIVE_ASSET", asset_id(self._document.chain_id, NATIVE_ADDRESS)),
            ("remaining", self._remaining),
        ):
            source.constant(value, name=name)
        source.line("def postings(event, books):")
        source.line("    if event.book != BOOK:")
        source.line("        raise ValueError(f'book {event.book!r}, expected {BOOK!r}')")
        if not self._event.postings:
            source.line("    return []")
            return source.function("postings")
        source.line("    args = event.args")
        source.line("    address = event.address")
        self._read_joins()
        self._read((value for rule in self._event.postings for value in rule.values()), depth=1)
        source.line("    lines = []")
        for rule in self._event.postings:
            self._write_loop(rule)
        source.line("    return lines")
        return source.function("postings")

    def _read_joins(self) -> None:
        """Every join of the event, used or not: an event whose earlier one is missing is not understood."""
        for index, join in enumerate(self._event.joins):
            self._read([join.equals], depth=1)
            missing = Rejection(
                code="join_missing",
                reason=f"no standing {join.event} with {join.key} equal to {join.equals.text} came before this event",
            )
            key = self._local[join.equals]
            self._source.line(f"    j_{join.name} = books.joined({join.event!r}, {join.key!r}, {key})")
            self._source.line(f"    if j_{join.name} is None:")
            self._source.line(f"        return {self._source.constant(missing, name=f'JOIN{index}')}")

    def _read(self, values: Iterable[Reference], *, depth: int, items: bool = False) -> None:
        """Values into locals, checked: a message is data from outside, and its text becomes part of account codes."""
        for value in values:
            if value in self._local or (value.root == "item") is not items:
                continue
            local = self._local[value] = f"v{len(self._local)}"
            self._source.line(f"{local} = {_place(value)}", depth=depth)
            self._source.line(f"if {_malformed(local, value.type)}:", depth=depth)
            self._source.line(f"    raise ValueError({f'argument {value.text}'!r})", depth=depth)

    def _write_loop(self, rule: PostingRule) -> None:
        if rule.loop is None:
            self._write_rule(rule, depth=1)
            return
        line = self._source.line
        outside = dict(self._local)
        arrays = self._arrays(rule.loop)
        unequal = Rejection(code="unequal_arrays", reason="the arrays that a rule goes through differ in length")
        if len(arrays) > 1:
            line(f"    if len({{{', '.join(f'len({array})' for array in arrays)}}}) > 1:")
            line(f"        return {self._source.constant(unequal)}")
        line(f"    if len({arrays[0]}) + len(lines) > {LINES_MAX}:")
        line(f"        return {self._source.constant(_TOO_MANY)}")
        names = ", ".join(f"i_{name}" for name, _ in rule.loop.items)
        together = arrays[0] if len(arrays) == 1 else f"zip({', '.join(arrays)}, strict=True)"
        line(f"    for {names} in {together}:")
        self._read(rule.values(), depth=2, items=True)
        self._write_rule(rule, depth=2)
        self._local = outside

    def _arrays(self, loop: Loop) -> list[str]:
        """Locals of the arrays, checked to be lists of the right length."""
        arrays = []
        for name, array in loop.items:
            local = f"a_{name}"
            self._source.line(f"    {local} = {_place(array)}")
            wrong = f"{local}.__class__ is not list"
            if array.type.length is not None:
                wrong += f" or len({local}) != {array.type.length}"
            self._source.line(f"    if {wrong}:")
            self._source.line(f"        raise ValueError({f'argument {array.text}'!r})")
            arrays.append(local)
        return arrays

    def _write_rule(self, rule: PostingRule, *, depth: int) -> None:
        line = self._source.line
        if rule.conditions:
            line(f"if {' and '.join(self._condition(test) for test in rule.conditions)}:", depth=depth)
            depth += 1
        if rule.amount.remaining:
            debit, credit, asset = self._accounts_and_asset(rule, depth)
            line(f"n = remaining(books, lines, {debit}, {asset})", depth=depth)
        else:
            line(f"n = {self._amount(rule.amount)}", depth=depth)
        if not rule.amount.signed:
            line("if n < 0:", depth=depth)
            line(f"    return {self._negative(rule)}", depth=depth)
        line("if n:", depth=depth)
        depth += 1
        if not rule.amount.remaining:
            debit, credit, asset = self._accounts_and_asset(rule, depth)
        may_be_equal = bool(rule.debit.values or rule.credit.values)
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
        token = "address" if rule.asset.value is None else self._local[rule.asset.value]
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
            if segment.value is not None:
                parts.append("{" + self._local[segment.value] + "}")
            else:
                parts.append("{address}" if segment.source == "address" else segment.text)
        return "f" + repr(":".join(parts))

    def _amount(self, rule: AmountRule) -> str:
        left = self._term(rule.left)
        return left if rule.right is None else f"{left} - {self._term(rule.right)}"

    def _term(self, term: Term) -> str:
        if term.value is None:
            return str(term.constant)
        local = self._local[term.value]
        return local if term.value.type.bits <= JSON_NUMBER_BITS_MAX else f"int({local})"

    def _negative(self, rule: PostingRule) -> str:
        amount = rule.amount
        names = " - ".join(term.text for term in (amount.left, amount.right) if term is not None)
        what = "what remains on the debit account" if amount.remaining else names
        return self._source.constant(
            Rejection(code="negative_amount", reason=f"{what} is negative; nothing was posted")
        )

    def _condition(self, test: Condition) -> str:
        right = self._source.constant(test.value) if test.other is None else self._local[test.other]
        return f"{self._local[test.left]} {'==' if test.equal else '!='} {right}"


def _place(value: Reference) -> str:
    """The expression of a value; names were checked to be Solidity's."""
    path = "".join(f"[{component!r}]" for component in value.path)
    match value.root:
        case "argument":
            return f"args[{value.name!r}]{path}"
        case "item":
            return f"i_{value.name}{path}"
        case "join":
            return f"j_{value.name}{path}"


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
