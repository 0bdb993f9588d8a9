"""How decoded values look in messages: by ABI type, never by value. Shared by the generated decoder and the fallback.

Integers up to 48 bits are JSON numbers, wider ones decimal strings; bytes and addresses lower-case 0x hex; a
``bytes`` or ``string`` over 64 kB is ``{sha256, length}``; text with U+0000, which databases refuse, is ``{hex}``; an
indexed dynamic argument, of which the log has the hash only, is ``{keccak256}``.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from contracts.abi import AbiType
from contracts.messages import ARGUMENT_BYTES_MAX

JSON_NUMBER_BITS_MAX: Final = 48
ARGS_JSON_BYTES_MAX: Final = 600_000
"""All arguments of one event as JSON; leaves room below EVENT_RECORD_BYTES_MAX for the rest of the message."""


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """A log or an event that is ours and cannot be used: a machine-readable code and the reason for people."""

    code: str
    reason: str


def bytes_value(raw: bytes) -> str | dict[str, Any]:
    """A dynamic ``bytes`` argument."""
    if len(raw) > ARGUMENT_BYTES_MAX:
        return _digest(raw)
    return "0x" + raw.hex()


def text_value(raw: bytes) -> str | dict[str, Any]:
    """A ``string`` argument. Raises UnicodeDecodeError for anything that is not UTF-8, at any length."""
    text = raw.decode("utf-8")
    if len(raw) > ARGUMENT_BYTES_MAX:
        return _digest(raw)
    return {"hex": "0x" + raw.hex()} if "\0" in text else text


def _digest(raw: bytes) -> dict[str, Any]:
    return {"sha256": "0x" + hashlib.sha256(raw).hexdigest(), "length": len(raw)}


def json_value(abi_type: AbiType, value: Any) -> Any:
    """A value as eth-abi decodes it (int, bool, 0x text, bytes, str, tuple) in the form of the message."""
    match abi_type.kind:
        case "uint" | "int":
            return value if abi_type.bits <= JSON_NUMBER_BITS_MAX else str(value)
        case "bool":
            return value
        case "address":
            return value.lower()
        case "fixed_bytes":
            return "0x" + value.hex()
        case "bytes":
            return bytes_value(value)
        case "string":
            return text_value(value.encode())
        case "array":
            return [json_value(abi_type.item_type, item) for item in value]
        case "tuple":
            return {
                part.name: json_value(part.type, item) for part, item in zip(abi_type.components, value, strict=True)
            }


def oversized(args: dict[str, Any]) -> Rejection | None:
    """The refusal of an event whose arguments would not fit into one record."""
    size = len(msgspec.json.encode(args))
    if size <= ARGS_JSON_BYTES_MAX:
        return None
    return Rejection(
        code="too_large", reason=f"the arguments are {size} bytes of JSON, over the limit of {ARGS_JSON_BYTES_MAX}"
    )
