"""The part of a contract's JSON ABI that we read: events and functions with their types, typed and checked.

Source: Solidity's "Contract ABI Specification" (types, JSON, signatures, topics). Nothing here decodes data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from eth_hash.auto import keccak

NESTING_MAX: Final = 8
HEAD_BYTES_MAX: Final = 32 * 4096
"""The static part of one event; more is no payment event and would make decoders without bound."""

TypeKind = Literal["uint", "int", "bool", "address", "fixed_bytes", "bytes", "string", "array", "tuple"]

_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,127}\Z")
_ARRAY = re.compile(r"(.*)\[([0-9]{0,9})\]\Z", re.DOTALL)
_NUMBER = re.compile(r"(u?int)([1-9][0-9]*)\Z")
_FIXED_BYTES = re.compile(r"bytes([1-9][0-9]*)\Z")


class AbiError(ValueError):
    """An ABI that we cannot use; the text says which part and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbiType:
    """One ABI type. Only the fields of its kind are set."""

    canonical: str  # as in signatures: "uint256", "(uint96,address)[2]"
    kind: TypeKind
    bits: int = 0  # uint, int
    size: int = 0  # fixed_bytes, in bytes
    item: AbiType | None = None  # array
    length: int | None = None  # array; None is T[]
    components: tuple[AbiInput, ...] = ()  # tuple

    @property
    def is_dynamic(self) -> bool:
        """Whether the value stands in the tail, behind an offset."""
        if self.kind in ("bytes", "string"):
            return True
        if self.kind == "array":
            return self.length is None or self.item_type.is_dynamic
        return any(component.type.is_dynamic for component in self.components)

    @property
    def is_elementary(self) -> bool:
        """One 32-byte word."""
        return self.kind not in ("bytes", "string", "array", "tuple")

    @property
    def item_type(self) -> AbiType:
        assert self.item is not None, self.canonical
        return self.item

    @property
    def head_bytes(self) -> int:
        """Size in the head: 32 for elementary and dynamic types, the whole size for static arrays and tuples."""
        if self.is_dynamic or self.is_elementary:
            return 32
        if self.kind == "array":
            return (self.length or 0) * self.item_type.head_bytes
        return sum(component.type.head_bytes for component in self.components)


@dataclass(frozen=True, slots=True, kw_only=True)
class AbiInput:
    """A named value of an event, a function or a tuple."""

    name: str  # an unnamed one is called arg0, arg1, …
    type: AbiType
    indexed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AbiEvent:
    """A non-anonymous event."""

    name: str
    inputs: tuple[AbiInput, ...]
    signature: str  # Transfer(address,address,uint256)
    topic0: bytes  # 32 B

    @property
    def topic_count(self) -> int:
        """Topics of its logs, topic0 included."""
        return 1 + sum(1 for item in self.inputs if item.indexed)

    def input(self, name: str) -> AbiInput | None:
        return next((item for item in self.inputs if item.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AbiFunction:
    """A function that can be called."""

    name: str
    inputs: tuple[AbiInput, ...]
    outputs: tuple[AbiInput, ...]
    signature: str
    selector: bytes  # 4 B


@dataclass(frozen=True, slots=True, kw_only=True)
class Abi:
    """The events and functions of one contract, with the JSON items that they came from, reduced to what the ABI
    means.
    """

    events: tuple[AbiEvent, ...]
    functions: tuple[AbiFunction, ...]
    event_items: Mapping[str, dict[str, Any]]  # signature → JSON item without compiler notes
    function_items: Mapping[str, dict[str, Any]]

    def find_events(self, name: str) -> tuple[AbiEvent, ...]:
        """Events by name or by full signature; several when a name is overloaded."""
        return tuple(event for event in self.events if name in (event.name, event.signature))

    def find_functions(self, name: str) -> tuple[AbiFunction, ...]:
        """Functions by name or by full signature; several when a name is overloaded."""
        return tuple(function for function in self.functions if name in (function.name, function.signature))


def parse_abi(items: object) -> Abi:
    """An ABI as JSON: a list of items, or a compiler's artifact that has it under ``abi``. Raises AbiError."""
    if isinstance(items, Mapping):
        items = items.get("abi")
    if not isinstance(items, Sequence) or isinstance(items, str | bytes):
        raise AbiError("the ABI is not a list of items")
    events: dict[str, AbiEvent] = {}
    functions: dict[str, AbiFunction] = {}
    event_items: dict[str, dict[str, Any]] = {}
    function_items: dict[str, dict[str, Any]] = {}
    for item in items:
        if not isinstance(item, Mapping):
            raise AbiError(f"an ABI item is not an object: {item!r:.80}")
        if item.get("type") == "event" and not item.get("anonymous"):
            event = _event(item)
            events[event.signature] = event
            event_items[event.signature] = {
                "type": "event",
                "name": event.name,
                "inputs": _reduced(item.get("inputs", [])),
            }
        elif item.get("type") == "function":
            function = _function(item)
            functions[function.signature] = function
            function_items[function.signature] = {
                "type": "function",
                "name": function.name,
                "inputs": _reduced(item.get("inputs", [])),
                "outputs": _reduced(item.get("outputs", [])),
            }
    return Abi(
        events=tuple(events.values()),
        functions=tuple(functions.values()),
        event_items=event_items,
        function_items=function_items,
    )


def parse_type(text: str, components: Sequence[Any] = (), *, depth: int = 0) -> AbiType:
    """``uint256``, ``bytes32[]``, ``tuple[2]`` with its components. Raises AbiError for what Solidity does not have."""
    if depth > NESTING_MAX:
        raise AbiError(f"type {text!r} is nested more than {NESTING_MAX} deep")
    array = _ARRAY.match(text)
    if array:
        item = parse_type(array.group(1), components, depth=depth + 1)
        length = int(array.group(2)) if array.group(2) else None
        if length == 0:
            raise AbiError(f"type {text!r} is an array of length 0")
        suffix = f"[{'' if length is None else length}]"
        return _bounded(AbiType(canonical=item.canonical + suffix, kind="array", item=item, length=length))
    if text == "tuple":
        inputs = _inputs(components, depth=depth + 1)
        if not inputs:
            raise AbiError("a tuple without components")
        canonical = "(" + ",".join(item.type.canonical for item in inputs) + ")"
        return _bounded(AbiType(canonical=canonical, kind="tuple", components=inputs))
    return _elementary(text)


def _elementary(text: str) -> AbiType:
    if text in ("bool", "address", "bytes", "string"):
        return AbiType(canonical=text, kind=text)  # type: ignore[arg-type]  # one of the four
    if number := _NUMBER.match(text):
        bits = int(number.group(2))
        if bits % 8 == 0 and bits <= 256:
            return AbiType(canonical=text, kind="uint" if number.group(1) == "uint" else "int", bits=bits)
    if fixed := _FIXED_BYTES.match(text):
        size = int(fixed.group(1))
        if size <= 32:
            return AbiType(canonical=text, kind="fixed_bytes", size=size)
    raise AbiError(f"unknown ABI type {text!r}")


def _bounded(abi_type: AbiType) -> AbiType:
    if abi_type.head_bytes > HEAD_BYTES_MAX:
        raise AbiError(f"type {abi_type.canonical!r:.80} is larger than {HEAD_BYTES_MAX} bytes")
    return abi_type


def _event(item: Mapping[str, Any]) -> AbiEvent:
    name = _identifier(item.get("name"), "an event")
    inputs = _inputs(item.get("inputs", []), depth=0)
    if sum(1 for entry in inputs if entry.indexed) > 3:
        raise AbiError(f"event {name} has more than three indexed arguments")
    if sum(entry.type.head_bytes for entry in inputs) > HEAD_BYTES_MAX:
        raise AbiError(f"event {name} is larger than {HEAD_BYTES_MAX} bytes")
    signature = _signature(name, inputs)
    return AbiEvent(name=name, inputs=inputs, signature=signature, topic0=keccak(signature.encode()))


def _function(item: Mapping[str, Any]) -> AbiFunction:
    name = _identifier(item.get("name"), "a function")
    inputs, outputs = _inputs(item.get("inputs", []), depth=0), _inputs(item.get("outputs", []), depth=0)
    signature = _signature(name, inputs)
    return AbiFunction(
        name=name, inputs=inputs, outputs=outputs, signature=signature, selector=keccak(signature.encode())[:4]
    )


def _signature(name: str, inputs: Sequence[AbiInput]) -> str:
    return f"{name}({','.join(entry.type.canonical for entry in inputs)})"


def _inputs(items: object, *, depth: int) -> tuple[AbiInput, ...]:
    if not isinstance(items, Sequence) or isinstance(items, str | bytes):
        raise AbiError("inputs and components must be lists")
    inputs: list[AbiInput] = []
    for index, item in enumerate(items):
        if not isinstance(item, Mapping) or not isinstance(item.get("type"), str):
            raise AbiError(f"an input without a type: {item!r:.80}")
        name = item.get("name") or f"arg{index}"
        inputs.append(
            AbiInput(
                name=_identifier(name, "an argument"),
                type=parse_type(item["type"], item.get("components", ()), depth=depth),
                indexed=bool(item.get("indexed", False)),
            )
        )
    names = [entry.name for entry in inputs]
    if len(set(names)) != len(names):
        raise AbiError(f"arguments of one name: {', '.join(names)}")
    return tuple(inputs)


def _identifier(name: object, of: str) -> str:
    if not isinstance(name, str) or not _IDENTIFIER.match(name):
        raise AbiError(f"{of} is called {name!r:.80}, which is no Solidity name")
    return name


def _reduced(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The inputs without what does not change their meaning (``internalType``)."""
    reduced = []
    for item in items:
        entry: dict[str, Any] = {"name": item.get("name", ""), "type": item["type"]}
        if "indexed" in item:
            entry["indexed"] = bool(item["indexed"])
        if item.get("components"):
            entry["components"] = _reduced(item["components"])
        reduced.append(entry)
    return reduced
