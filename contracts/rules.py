"""Posting rules as values: what the text of a description means, typed against the ABI. Pure.

Every function here raises ``RuleError`` (what is wrong, what to do); the caller adds the place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from contracts.abi import AbiType
from contracts.accounts import ACCOUNT_CLASSES, SEGMENT, normal_side
from contracts.messages import NATIVE_ADDRESS
from contracts.problems import suggestion
from contracts.references import Reference, RuleError, Scope

AMOUNT_MAX: Final = 2**256 - 1

_SHORTHAND: Final = {
    "clearing": "clearing:{book}:contract:{address}:-",
    "unattributed": "liabilities:{book}:unattributed:{address}:-",
}
_CONDITION = re.compile(r"\s*(\S+)\s*(==|!=)\s*(\S+)\s*\Z")
_ADDRESS = re.compile(r"0x[0-9a-f]{40}\Z")
_PLACEHOLDER = re.compile(r"\{([^{}:]*)\}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One part of an account template: a literal, a value of the event, the book or the emitter's address."""

    source: Literal["literal", "value", "book", "address"]
    text: str = ""  # the literal
    value: Reference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountTemplate:
    """Five segments, of which the book is the description's own."""

    segments: tuple[Segment, Segment, Segment, Segment, Segment]

    @property
    def account_class(self) -> str:
        return self.segments[0].text

    @property
    def is_clearing(self) -> bool:
        return self.account_class == "clearing"

    @property
    def values(self) -> tuple[Reference, ...]:
        return tuple(segment.value for segment in self.segments if segment.value is not None)

    def for_emitter(self, address: str) -> str:
        """The account code of a template without values, for one emitter (0x hex)."""
        assert not self.values, self.values
        return ":".join(address if segment.source == "address" else segment.text for segment in self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetRule:
    """Which asset an amount is in."""

    source: Literal["value", "emitter", "constant"]
    text: str = ""  # of a constant its address (the zero address is the native coin)
    value: Reference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A value of the event or a constant, in base units."""

    value: Reference | None = None
    constant: int = 0

    @property
    def text(self) -> str:
        return str(self.constant) if self.value is None else self.value.text


@dataclass(frozen=True, slots=True, kw_only=True)
class AmountRule:
    """``left`` or ``left - right``. A negative result swaps the sides when signed, and is refused otherwise.

    ``remaining`` is what is left on the debit account, on its normal side, after the lines before.
    """

    left: Term = Term()
    right: Term | None = None
    signed: bool = False
    remaining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """``left == value``; the value is in the form of the message (JSON), or another value of the event."""

    left: Reference
    equal: bool
    value: str | int | bool | None = None
    other: Reference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRule:
    """The latest standing event of this contract's description whose ``key`` equals a value of the event."""

    name: str
    event: str  # as the description names it
    key: str  # argument of the earlier event
    equals: Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """Arrays of one length that are gone through together."""

    items: tuple[tuple[str, Reference], ...]  # loop variable, array


@dataclass(frozen=True, slots=True, kw_only=True)
class PostingRule:
    """One transfer of an event, or one of each item of a loop."""

    debit: AccountTemplate
    credit: AccountTemplate
    asset: AssetRule
    amount: AmountRule
    conditions: tuple[Condition, ...] = ()
    loop: Loop | None = None

    def values(self) -> Iterator[Reference]:
        """Every value that the transfer reads; the arrays of its loop are not among them."""
        yield from self.debit.values
        yield from self.credit.values
        terms = (self.amount.left.value, self.amount.right.value if self.amount.right else None)
        tests = (value for test in self.conditions for value in (test.left, test.other))
        yield from (value for value in (*terms, self.asset.value, *tests) if value is not None)


def asset_rule(scope: Scope, text: str, *, constants: Mapping[str, str]) -> AssetRule:
    """An address of the event, ``native``, ``emitter``, a constant of the description or a lower-case address."""
    if scope.has(text):
        if text in ("native", "emitter") or text in constants:
            raise RuleError(
                f"asset {text!r} is both a word and an argument of {scope.event.name}", "write the asset's address"
            )
        return AssetRule(source="value", value=scope.elementary(text, use="an asset", kinds=("address",)))
    if text == "native":
        return AssetRule(source="constant", text=NATIVE_ADDRESS)
    if text == "emitter":
        return AssetRule(source="emitter")
    if text in constants:
        return AssetRule(source="constant", text=constants[text])
    if _ADDRESS.match(text):
        return AssetRule(source="constant", text=text)
    addresses = [item.name for item in scope.event.inputs if item.type.kind == "address"]
    if text.startswith("0x"):
        raise RuleError(f"{text!r} is not a lower-case address", "write 0x and 40 lower-case hex digits")
    raise RuleError(
        f"{scope.event.name} has no argument {text!r} to take the asset from",
        suggestion(text, [*addresses, *constants, "native", "emitter"]),
    )


def amount_rule(scope: Scope, text: str | int, *, signed: bool, debit: AccountTemplate | None) -> AmountRule:
    """``value``, ``value - value``, a positive number of base units, or ``remaining``."""
    if text == "remaining":
        return _remaining(scope, signed=signed, debit=debit)
    parts = [part.strip() for part in str(text).split(" - ")]
    if len(parts) > 2 or not all(parts):
        raise RuleError(f"amount {text!r} is not understood", "write one argument, a difference `a - b`, or a number")
    terms = [_term(scope, part, signed=signed) for part in parts]
    if all(term.value is None for term in terms):
        constant = terms[0].constant - sum(term.constant for term in terms[1:])
        if not 0 < constant <= AMOUNT_MAX:
            raise RuleError(f"amount {text!r} is never positive", "remove the posting or name an argument")
    if len(terms) == 2 and terms[0].value is not None and terms[0].value == terms[1].value:
        raise RuleError(f"amount {text!r} is always zero", "name two different arguments")
    return AmountRule(left=terms[0], right=terms[1] if len(terms) == 2 else None, signed=signed)


def _remaining(scope: Scope, *, signed: bool, debit: AccountTemplate | None) -> AmountRule:
    if scope.has("remaining"):
        raise RuleError(
            f"amount 'remaining' is both a word and an argument of {scope.event.name}",
            "write the amount as a difference `remaining - 0`, or leave the word",
        )
    if signed:
        raise RuleError("what remains cannot be signed", "remove `signed`")
    if debit is not None and normal_side(debit.account_class) != "credit":
        raise RuleError(
            f"what remains is taken from the debit account, and {debit.account_class!r} is no class that can be owed",
            "debit a liabilities, income or equity account",
        )
    return AmountRule(remaining=True)


def _term(scope: Scope, text: str, *, signed: bool) -> Term:
    if text.isdecimal():
        return Term(constant=int(text)) if len(text) <= 78 else _too_long(text)
    if not scope.has(text) and re.search(r"[+*/()\-]", text):
        raise RuleError(
            f"amount {text!r} is not understood", "write one argument, or a difference with spaces around it: `a - b`"
        )
    value = scope.elementary(text, use="an amount", kinds=("uint", "int"))
    if value.type.kind == "int" and not signed:
        raise RuleError(
            f"argument {text!r} is {value.type.canonical} and may be negative",
            "add `signed: true` if negative swaps the sides",
        )
    return Term(value=value)


def _too_long(text: str) -> Term:
    raise RuleError(f"the number {text[:20]}… has {len(text)} digits", "write at most 78 digits")


def condition(scope: Scope, text: str) -> Condition:
    """``value == literal`` or ``value != literal``; literal: true, false, a number, 0x hex, ``zero``, or a value."""
    match = _CONDITION.match(text)
    if match is None:
        raise RuleError(f"condition {text!r} is not understood", "write `argument == value` or `argument != value`")
    name, operator, right = match.groups()
    left = scope.elementary(name, use="compared")
    equal = operator == "=="
    if scope.has(right):
        other = scope.elementary(right, use="compared")
        if other.type.canonical != left.type.canonical:
            raise RuleError(
                f"{name} is {left.type.canonical} but {right} is {other.type.canonical}",
                "compare arguments of one type",
            )
        return Condition(left=left, equal=equal, other=other)
    return Condition(left=left, equal=equal, value=_literal(left.type, name, right))


def join_rule(scope: Scope, name: str, earlier: Scope, *, event: str, key: str, equals: str) -> JoinRule:
    """A join to an earlier event, whose own scope is ``earlier``."""
    found = earlier.elementary(key, use="the key of a join")
    value = scope.elementary(equals, use="the key of a join")
    if found.path or found.type.canonical != value.type.canonical:
        raise RuleError(
            f"{equals} is {value.type.canonical} but {key} of {event} is {found.type.canonical}",
            "join arguments of one type",
        )
    return JoinRule(name=name, event=event, key=key, equals=value)


def loop_rule(scope: Scope, arrays: Mapping[str, str]) -> tuple[Loop, Scope]:
    """A loop and the scope within it."""
    found = {name: scope.array(text) for name, text in arrays.items()}
    return Loop(items=tuple(found.items())), scope.with_items(found)


def _literal(abi_type: AbiType, name: str, text: str) -> str | int | bool:
    """The value in the form that the message has for this ABI type."""
    if abi_type.kind == "bool":
        if text not in ("true", "false"):
            raise RuleError(f"{name} is bool and {text!r} is not", "compare with true or false")
        return text == "true"
    if abi_type.kind in ("uint", "int"):
        return _integer_literal(abi_type, name, "0" if text == "zero" else text)
    size = 20 if abi_type.kind == "address" else abi_type.size
    if text == "zero":
        return "0x" + "00" * size
    if not re.fullmatch(rf"0x[0-9a-f]{{{2 * size}}}", text):
        raise RuleError(
            f"{name} is {abi_type.canonical} and {text!r} is not",
            f"write 0x and {2 * size} lower-case hex digits, or zero",
        )
    return text


def _integer_literal(abi_type: AbiType, name: str, text: str) -> str | int:
    if not re.fullmatch(r"-?[0-9]{1,78}", text):
        raise RuleError(f"{name} is {abi_type.canonical} and {text!r} is not", "write a decimal number or zero")
    value = int(text)
    low, high = (
        (0, 2**abi_type.bits) if abi_type.kind == "uint" else (-(2 ** (abi_type.bits - 1)), 2 ** (abi_type.bits - 1))
    )
    if not low <= value < high:
        raise RuleError(f"{text} does not fit {name} ({abi_type.canonical}): never true", "correct the number")
    return value if abi_type.bits <= 48 else str(value)


def account_template(scope: Scope | None, text: str, *, book: str) -> AccountTemplate:
    """``class:book:kind:subject:state`` with {value}, {address} and {book} as whole segments; scope None: no values."""
    parts = _SHORTHAND.get(text, text).split(":")
    if len(parts) != 5:
        shape = "write class:{book}:kind:subject:state with - for what is empty, or clearing, or unattributed"
        raise RuleError(f"account {text!r} has {len(parts)} segments, not 5", shape)
    if parts[0] not in ACCOUNT_CLASSES:
        raise RuleError(f"account {text!r}: unknown class {parts[0]!r}", suggestion(parts[0], ACCOUNT_CLASSES))
    if parts[1] not in ("{book}", book):
        raise RuleError(
            f"account {text!r} is in book {parts[1]!r}, but the contract is in {book!r}",
            "write {book}: rules stay in one book",
        )
    segments = [Segment(source="literal", text=parts[0]), Segment(source="book", text=book)]
    segments += [_segment(scope, part, text, book) for part in parts[2:]]
    if segments[2] == Segment(source="literal", text="-"):
        raise RuleError(f"account {text!r} has no kind", "name the kind in the third segment")
    first, second, third, fourth, fifth = segments
    return AccountTemplate(segments=(first, second, third, fourth, fifth))


def _segment(scope: Scope | None, part: str, text: str, book: str) -> Segment:
    placeholder = _PLACEHOLDER.match(part)
    if placeholder is None:
        if not SEGMENT.match(part):
            raise RuleError(
                f"account {text!r}: segment {part!r} has other characters than A-Z a-z 0-9 _ . -", "correct the segment"
            )
        return Segment(source="literal", text=part)
    name = placeholder.group(1)
    if name in ("book", "address"):
        if scope is not None and scope.has(name):
            raise RuleError(
                f"account {text!r}: {{{name}}} is also an argument of {scope.event.name}",
                "an account cannot use that argument",
            )
        return Segment(source="address") if name == "address" else Segment(source="book", text=book)
    if scope is None:
        raise RuleError(f"account {text!r} uses {{{name}}} where no event is", "use {book} and {address} only")
    value = scope.elementary(name, use="part of an account code", kinds=("uint", "int", "address", "fixed_bytes"))
    return Segment(source="value", value=value)
