"""Decoding of event data that has arrays or tuples: the layout is walked here, the values are read by eth-abi.

The walk accepts one encoding only, the canonical one: every offset points to where the previous tail ended, lengths
fit, nothing trails. So work and memory are linear in the size of the data, whatever the offsets say, and eth-abi
never sees a bomb.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_abi.exceptions import DecodingError, EncodingError

from contracts.abi import AbiInput, AbiType
from contracts.values import Rejection

_WORD = 32


class _LayoutError(ValueError):
    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason


def nested_decoder(inputs: Sequence[AbiInput]) -> Callable[[bytes], tuple[Any, ...] | Rejection]:
    """A decoder of event data for these arguments: values as eth-abi gives them, or why not. Never raises."""
    types = [item.type for item in inputs]
    names = [abi_type.canonical for abi_type in types]

    def decode(data: bytes) -> tuple[Any, ...] | Rejection:
        try:
            end = _walk_sequence(types, data, 0)
            if end != len(data):
                raise _LayoutError("trailing_data", f"{len(data) - end} bytes after the last argument")
            values = abi_decode(names, data, strict=True)
            if abi_encode(names, values) != data:
                raise _LayoutError("not_canonical", "the data is not what encoding its values gives")
        except _LayoutError as exc:
            return Rejection(code=exc.code, reason=exc.reason)
        except UnicodeDecodeError as exc:
            return Rejection(code="bad_utf8", reason=f"a string is not UTF-8: {exc.reason} at byte {exc.start}")
        except (DecodingError, EncodingError, OverflowError, ValueError) as exc:
            return Rejection(code="bad_data", reason=f"{type(exc).__name__}: {exc}"[:300])
        return values

    return decode


def _walk_sequence(types: Sequence[AbiType], data: bytes, start: int) -> int:
    """Walk consecutive values (a head and its tails) from ``start``; the position after the last tail."""
    head = start
    tail = start + sum(abi_type.head_bytes for abi_type in types)
    for abi_type in types:
        if abi_type.is_dynamic:
            offset = _word(data, head)
            if start + offset != tail:
                raise _LayoutError("bad_offset", f"offset {offset:#x} at byte {head}, expected {tail - start:#x}")
            tail = _walk_tail(abi_type, data, tail)
        head += abi_type.head_bytes
    if tail > len(data):
        raise _LayoutError("truncated", f"the data has {len(data)} bytes, {tail} are needed")
    return tail


def _walk_tail(abi_type: AbiType, data: bytes, start: int) -> int:
    if abi_type.kind == "tuple":
        return _walk_sequence([part.type for part in abi_type.components], data, start)
    if abi_type.kind == "array":
        length = abi_type.length
        if length is None:
            length, start = _word(data, start), start + _WORD
        item = abi_type.item_type
        if length * item.head_bytes > len(data) - start:
            raise _LayoutError("truncated", f"{length} items announced at byte {start}, the data has {len(data)} bytes")
        if not item.is_dynamic:
            return start + length * item.head_bytes
        return _walk_sequence([item] * length, data, start)
    length = _word(data, start)
    end = start + _WORD + length + -length % _WORD
    if end > len(data):
        raise _LayoutError("truncated", f"{length} bytes announced at byte {start}, the data has {len(data)} bytes")
    return end


def _word(data: bytes, position: int) -> int:
    word = data[position : position + _WORD]
    if len(word) < _WORD:
        raise _LayoutError("truncated", f"the data has {len(data)} bytes, a word is needed at byte {position}")
    return int.from_bytes(word, "big")
