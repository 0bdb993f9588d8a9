"""Names in posting rules: what they stand for, and of which ABI type. Pure.

A name is an argument of the event, a loop variable, or ``join.argument`` of an earlier event; ``.component`` goes into
tuples. Every name has one meaning: a loop variable or a join that is called like an argument is refused where it is
declared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from contracts.abi import AbiEvent, AbiInput, AbiType
from contracts.problems import suggestion

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}\Z")


class RuleError(ValueError):
    """A rule that cannot be meant."""

    def __init__(self, what: str, do: str) -> None:
        self.what, self.do = what, do
        super().__init__(f"{what}; {do}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One value of an event: where it starts, and the way from there."""

    root: Literal["argument", "item", "join"]
    name: str  # of the argument, the loop variable or the join
    path: tuple[str, ...] = ()  # of a join its argument first; then tuple components
    type: AbiType

    @property
    def text(self) -> str:
        """As it is written in a rule."""
        return ".".join((self.name, *self.path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The names that a rule may use."""

    event: AbiEvent
    items: Mapping[str, AbiType] = field(default_factory=dict)  # loop variable → type of one item
    joins: Mapping[str, AbiEvent] = field(default_factory=dict)

    def has(self, text: str) -> bool:
        """Whether the first part of a text is a name here."""
        first = text.split(".")[0]
        return first in self.items or first in self.joins or self.event.input(first) is not None

    def resolve(self, text: str) -> Reference:
        """The reference of a name. Raises RuleError with the nearest name that exists."""
        first, *rest = text.split(".")
        if first in self.joins:
            return self._joined(first, rest, text)
        if first in self.items:
            return _into(Reference(root="item", name=first, type=self.items[first]), rest, text)
        found = self.event.input(first)
        if found is None:
            names = [*(item.name for item in self.event.inputs), *self.items, *self.joins]
            raise RuleError(f"{self.event.name} has no argument {first!r}", suggestion(first, names))
        return _into(Reference(root="argument", name=first, type=_readable(found)), rest, text)

    def elementary(self, text: str, *, use: str, kinds: Sequence[str] = ()) -> Reference:
        """A value that a rule may use: known, one word, of one of the kinds."""
        reference = self.resolve(text)
        if not reference.type.is_elementary:
            raise RuleError(
                f"argument {text!r} is {reference.type.canonical}, which cannot be {use}", _way_in(text, reference.type)
            )
        if kinds and reference.type.kind not in kinds:
            raise RuleError(
                f"argument {text!r} is {reference.type.canonical}, which cannot be {use}",
                suggestion(text, self._names_of(kinds)),
            )
        return reference

    def array(self, text: str) -> Reference:
        """An array that a loop may go through."""
        reference = self.resolve(text)
        if reference.type.kind != "array":
            arrays = [item.name for item in self.event.inputs if item.type.kind == "array"]
            raise RuleError(f"argument {text!r} is {reference.type.canonical}, no array", suggestion(text, arrays))
        return reference

    def with_items(self, arrays: Mapping[str, Reference]) -> Scope:
        """The scope within a loop: variable → array. Raises RuleError for a name that is taken."""
        for name in arrays:
            self.declare(name, "loop variable")
        return replace(self, items=dict(self.items) | {name: array.type.item_type for name, array in arrays.items()})

    def with_join(self, name: str, event: AbiEvent) -> Scope:
        """The scope after a join. Raises RuleError for a name that is taken."""
        self.declare(name, "join")
        return replace(self, joins=dict(self.joins) | {name: event})

    def declare(self, name: str, what: str) -> None:
        if not NAME.match(name):
            raise RuleError(f"{what} {name!r} is no name", "use letters, digits and _")
        if name in ("book", "address", "native", "emitter", "remaining") or self.has(name):
            raise RuleError(f"{what} {name!r} has another meaning already", "choose another name")

    def _joined(self, name: str, rest: Sequence[str], text: str) -> Reference:
        event = self.joins[name]
        if not rest:
            raise RuleError(f"{text!r} is a whole event", f"name an argument: {name}.{_first(event.inputs)}")
        found = event.input(rest[0])
        if found is None:
            names = (f"{name}.{item.name}" for item in event.inputs)
            raise RuleError(f"{event.name} has no argument {rest[0]!r}", suggestion(text, names))
        return _into(Reference(root="join", name=name, path=(rest[0],), type=_readable(found)), rest[1:], text)

    def _names_of(self, kinds: Sequence[str]) -> list[str]:
        fitting = [item.name for item in self.event.inputs if item.type.kind in kinds]
        fitting += [name for name, abi_type in self.items.items() if abi_type.kind in kinds]
        fitting += [f"{j}.{i.name}" for j, event in self.joins.items() for i in event.inputs if i.type.kind in kinds]
        return fitting


def _into(reference: Reference, components: Sequence[str], text: str) -> Reference:
    for component in components:
        if reference.type.kind != "tuple":
            raise RuleError(
                f"{reference.text!r} is {reference.type.canonical}, which has no {component!r}", "correct it"
            )
        part = next((part for part in reference.type.components if part.name == component), None)
        if part is None:
            names = (f"{reference.text}.{part.name}" for part in reference.type.components)
            raise RuleError(f"{reference.text!r} has no component {component!r}", suggestion(text, names))
        reference = replace(reference, path=(*reference.path, component), type=part.type)
    return reference


def _readable(argument: AbiInput) -> AbiType:
    if argument.indexed and not argument.type.is_elementary:
        raise RuleError(
            f"argument {argument.name!r} is an indexed {argument.type.canonical}: the log has only its hash",
            "use another argument",
        )
    return argument.type


def _way_in(text: str, abi_type: AbiType) -> str:
    if abi_type.kind == "tuple":
        return f"name a component: {text}.{_first(abi_type.components)}"
    if abi_type.kind == "array":
        return f"go through it: for: {{item: {text}}}"
    return "use an argument of one 32-byte word"


def _first(inputs: Iterable[AbiInput]) -> str:
    return next((item.name for item in inputs), "…")
