"""Posting rules as values: what the text of a description means, typed against the ABI. Pure.

Every function here raises ``RuleError`` (what is wrong, what to do); the caller adds the place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from contracts.abi import AbiEvent, AbiType
from contracts.accounts import ACCOUNT_CLASSES, SEGMENT
from contracts.messages import NATIVE_ADDRESS
from contracts.problems import suggestion

AMOUNT_MAX: Final = 2**256 - 1

_SHORTHAND: Final = {
    "clearing": "clearing:{book}:contract:{address}:-",
    "unattributed": "liabilities:{book}:unattributed:{address}:-",
}
_CONDITION = re.compile(r"\s*(\S+)\s*(==|!=)\s*(\S+)\s*\Z")
_ADDRESS = re.compile(r"0x[0-9a-f]{40}\Z")
_PLACEHOLDER = re.compile(r"\{([^{}:]*)\}\Z")


class RuleError(ValueError):
    """A rule that cannot be meant."""

    def __init__(self, what: str, do: str) -> None:
        self.what, self.do = what, do
        super().__init__(f"{what}; {do}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One part of an account template: a literal, an argument's value, the book or the emitter's address."""

    source: Literal["literal", "argument", "book", "address"]
    text: str  # the literal, or the argument's name


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
    def arguments(self) -> tuple[str, ...]:
        return tuple(segment.text for segment in self.segments if segment.source == "argument")

    def for_emitter(self, address: str) -> str:
        """The account code of a template without arguments, for one emitter (0x hex)."""
        assert not self.arguments, self.arguments
        return ":".join(address if segment.source == "address" else segment.text for segment in self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetRule:
    """Which asset an amount is in."""

    source: Literal["argument", "emitter", "constant"]
    text: str = ""  # argument's name, or the address (the zero address is the native coin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """An argument's value or a constant, in base units."""

    argument: str | None = None
    constant: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AmountRule:
    """``left`` or ``left - right``. A negative result swaps the sides when signed, and is refused otherwise."""

    left: Term
    right: Term | None = None
    signed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """``argument == value``; the value is in the form of the message (JSON), or another argument."""

    argument: str
    equal: bool
    value: str | int | bool | None = None
    other: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PostingRule:
    """One transfer of an event."""

    debit: AccountTemplate
    credit: AccountTemplate
    asset: AssetRule
    amount: AmountRule
    conditions: tuple[Condition, ...] = ()


def elementary(event: AbiEvent, name: str, *, use: str, kinds: Sequence[str] = ()) -> AbiType:
    """The type of an argument that a rule may use: known, one word, of one of the kinds."""
    found = event.input(name)
    if found is None:
        raise RuleError(
            f"{event.name} has no argument {name!r}", suggestion(name, (item.name for item in event.inputs))
        )
    if not found.type.is_elementary:
        raise RuleError(
            f"argument {name!r} is {found.type.canonical}, which cannot be {use}", "use an argument of one 32-byte word"
        )
    if kinds and found.type.kind not in kinds:
        fitting = [item.name for item in event.inputs if item.type.kind in kinds]
        raise RuleError(
            f"argument {name!r} is {found.type.canonical}, which cannot be {use}", suggestion(name, fitting)
        )
    return found.type


def asset_rule(event: AbiEvent, text: str) -> AssetRule:
    """An address argument, ``native``, ``emitter`` or a lower-case address."""
    if event.input(text) is not None:
        if text in ("native", "emitter"):
            raise RuleError(
                f"asset {text!r} is both a word and an argument of {event.name}", "write the asset's address"
            )
        elementary(event, text, use="an asset", kinds=("address",))
        return AssetRule(source="argument", text=text)
    if text == "native":
        return AssetRule(source="constant", text=NATIVE_ADDRESS)
    if text == "emitter":
        return AssetRule(source="emitter")
    if _ADDRESS.match(text):
        return AssetRule(source="constant", text=text)
    addresses = [item.name for item in event.inputs if item.type.kind == "address"]
    if text.startswith("0x"):
        raise RuleError(f"{text!r} is not a lower-case address", "write 0x and 40 lower-case hex digits")
    raise RuleError(
        f"{event.name} has no argument {text!r} to take the asset from",
        suggestion(text, [*addresses, "native", "emitter"]),
    )


def amount_rule(event: AbiEvent, text: str | int, *, signed: bool) -> AmountRule:
    """``arg``, ``arg - arg``, or a positive number of base units."""
    parts = [part.strip() for part in str(text).split(" - ")]
    if len(parts) > 2 or not all(parts):
        raise RuleError(f"amount {text!r} is not understood", "write one argument, a difference `a - b`, or a number")
    terms = [_term(event, part, signed=signed) for part in parts]
    if all(term.argument is None for term in terms):
        constant = terms[0].constant - sum(term.constant for term in terms[1:])
        if not 0 < constant <= AMOUNT_MAX:
            raise RuleError(f"amount {text!r} is never positive", "remove the posting or name an argument")
    if len(terms) == 2 and terms[0].argument is not None and terms[0].argument == terms[1].argument:
        raise RuleError(f"amount {text!r} is always zero", "name two different arguments")
    return AmountRule(left=terms[0], right=terms[1] if len(terms) == 2 else None, signed=signed)


def _term(event: AbiEvent, text: str, *, signed: bool) -> Term:
    if text.isdecimal():
        return Term(constant=int(text)) if len(text) <= 78 else _too_long(text)
    if event.input(text) is None and re.search(r"[+*/()\-]", text):
        raise RuleError(
            f"amount {text!r} is not understood", "write one argument, or a difference with spaces around it: `a - b`"
        )
    abi_type = elementary(event, text, use="an amount", kinds=("uint", "int"))
    if abi_type.kind == "int" and not signed:
        raise RuleError(
            f"argument {text!r} is {abi_type.canonical} and may be negative",
            "add `signed: true` if negative swaps the sides",
        )
    return Term(argument=text)


def _too_long(text: str) -> Term:
    raise RuleError(f"the number {text[:20]}… has {len(text)} digits", "write at most 78 digits")


def condition(event: AbiEvent, text: str) -> Condition:
    """``arg == value`` or ``arg != value``; value: true, false, a number, 0x hex, ``zero``, or another argument."""
    match = _CONDITION.match(text)
    if match is None:
        raise RuleError(f"condition {text!r} is not understood", "write `argument == value` or `argument != value`")
    name, operator, right = match.groups()
    abi_type = elementary(event, name, use="compared")
    equal = operator == "=="
    other = event.input(right)
    if other is not None:
        if other.type.canonical != abi_type.canonical:
            raise RuleError(
                f"{name} is {abi_type.canonical} but {right} is {other.type.canonical}", "compare arguments of one type"
            )
        return Condition(argument=name, equal=equal, other=right)
    return Condition(argument=name, equal=equal, value=_literal(abi_type, name, right))


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


def account_template(event: AbiEvent | None, text: str, *, book: str) -> AccountTemplate:
    """``class:book:kind:subject:state`` with {argument}, {address} and {book} as whole segments; event None:

    no arguments.
    """
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
    segments += [_segment(event, part, text, book) for part in parts[2:]]
    if segments[2] == Segment(source="literal", text="-"):
        raise RuleError(f"account {text!r} has no kind", "name the kind in the third segment")
    first, second, third, fourth, fifth = segments
    return AccountTemplate(segments=(first, second, third, fourth, fifth))


def _segment(event: AbiEvent | None, part: str, text: str, book: str) -> Segment:
    placeholder = _PLACEHOLDER.match(part)
    if placeholder is None:
        if not SEGMENT.match(part):
            raise RuleError(
                f"account {text!r}: segment {part!r} has other characters than A-Z a-z 0-9 _ . -", "correct the segment"
            )
        return Segment(source="literal", text=part)
    name = placeholder.group(1)
    if name in ("book", "address"):
        if event is not None and event.input(name) is not None:
            raise RuleError(
                f"account {text!r}: {{{name}}} is also an argument of {event.name}",
                "an account cannot use that argument",
            )
        return Segment(source="address", text="") if name == "address" else Segment(source="book", text=book)
    if event is None:
        raise RuleError(f"account {text!r} uses {{{name}}} where no event is", "use {book} and {address} only")
    elementary(event, name, use="part of an account code", kinds=("uint", "int", "address", "fixed_bytes"))
    return Segment(source="argument", text=name)
