"""Writes the decoder of one event: topics by slicing, words by ``int.from_bytes``, everything that is not canonical
refused.

Strict on purpose: clean padding, booleans 0 or 1, UTF-8, offsets and lengths in the one place where the ABI encoder
puts them, nothing after the last argument. A log that is encoded in another way is quarantined, never read
generously.
"""

from __future__ import annotations

from collections.abc import Sequence

from contracts.abi import AbiEvent, AbiInput, AbiType
from contracts.nested import nested_decoder
from contracts.source import Source
from contracts.values import JSON_NUMBER_BITS_MAX, Rejection, bytes_value, json_value, oversized, text_value

OVERSIZE_CHECK_BYTES = 98_304
"""Event data up to this size cannot exceed the limit on arguments as JSON (at most six characters a byte)."""

_ZEROS = b"\0" * 32


def wrong_topics(event: AbiEvent, topics: Sequence[bytes]) -> Rejection:
    """The log carries the event's topic0 with another number of topics:

    another event of the same name (ERC-20 and ERC-721).
    """
    return Rejection(
        code="topic_count", reason=f"{event.signature} has {event.topic_count} topics, the log has {len(topics)}"
    )


def wrong_size(event: AbiEvent, data: bytes) -> Rejection:
    """The data of a log of one-word arguments has another size."""
    words = sum(item.type.head_bytes for item in event.inputs if not item.indexed)
    code = "truncated" if len(data) < words else "trailing_data"
    return Rejection(code=code, reason=f"{event.signature} has {words} bytes of data, the log has {len(data)}")


class DecoderWriter:
    """Writes the lines that turn ``topics`` and ``data`` into one local variable per argument, in the form of the
    message.
    """

    def __init__(self, source: Source, event: AbiEvent, *, depth: int) -> None:
        self._source = source
        self._event = event
        self._depth = depth
        self.local = {item.name: f"v{index}" for index, item in enumerate(event.inputs)}
        self.word = self._words()

    def _words(self) -> dict[str, str]:
        """Where the word of each one-word argument stands: an expression on ``topics`` or ``data``."""
        words: dict[str, str] = {}
        topic, position = 1, 0
        for item in self._event.inputs:
            if item.indexed:
                words[item.name] = f"topics[{topic}]"
                topic += 1
            else:
                words[item.name] = f"data[{position}:{position + 32}]"
                position += item.type.head_bytes
        return words

    @property
    def _data_inputs(self) -> list[AbiInput]:
        return [item for item in self._event.inputs if not item.indexed]

    @property
    def is_fixed_size(self) -> bool:
        """Whether all data arguments are single words."""
        return all(item.type.is_elementary for item in self._data_inputs)

    @property
    def size(self) -> int:
        """Bytes of the head of the data."""
        return sum(item.type.head_bytes for item in self._data_inputs)

    def write(self) -> None:
        """All lines but the check of the number of topics and, for fixed-size events, of the size of the data."""
        self._topics()
        if self.is_fixed_size:
            for item in self._data_inputs:
                self._line(f"w = {self.word[item.name]}")
                self._elementary(item)
        elif any(item.type.kind in ("array", "tuple") for item in self._data_inputs):
            self._nested()
        else:
            self._dynamic()

    def args(self) -> str:
        """The expression of the arguments as a dict, in the order of the ABI."""
        return "{" + ", ".join(f"{name!r}: {local}" for name, local in self.local.items()) + "}"

    def write_size_check(self) -> None:
        """Refuse an event whose arguments would not fit into a record; needs the local ``args``."""
        if not self.is_fixed_size:
            self._line(f"if len(data) > {OVERSIZE_CHECK_BYTES}:")
            self._line(f"    refused = {self._source.constant(oversized)}(args)")
            self._line("    if refused is not None:")
            self._line("        return refused")

    def _line(self, text: str) -> None:
        self._source.line(text, depth=self._depth)

    def _refuse(self, condition: str, code: str, reason: str) -> None:
        refusal = self._source.constant(Rejection(code=code, reason=reason))
        self._line(f"if {condition}:")
        self._line(f"    return {refusal}")

    def _topics(self) -> None:
        for item in self._event.inputs:
            if not item.indexed:
                continue
            self._line(f"w = {self.word[item.name]}")
            self._refuse("len(w) != 32", "bad_topic", f"the topic of {item.name!r} is not 32 bytes long")
            if item.type.is_elementary:
                self._elementary(item)
            else:
                self._line(f"{self.local[item.name]} = {{'keccak256': '0x' + w.hex()}}")

    def _elementary(self, item: AbiInput) -> None:
        """From the local ``w``, 32 bytes."""
        local, abi_type = self.local[item.name], item.type
        what = f"{item.name!r} ({abi_type.canonical})"
        match abi_type.kind:
            case "uint" | "int":
                self._integer(local, abi_type, what)
            case "bool":
                self._line("n = from_bytes(w, 'big')")
                self._refuse("n > 1", "bad_bool", f"argument {what} is neither 0 nor 1")
                self._line(f"{local} = n == 1")
            case "address":
                zeros = self._source.constant(_ZEROS[:12])
                self._refuse(f"w[:12] != {zeros}", "bad_padding", f"argument {what} has bytes set before its 20 bytes")
                self._line(f"{local} = '0x' + w[12:].hex()")
            case "fixed_bytes" if abi_type.size == 32:
                self._line(f"{local} = '0x' + w.hex()")
            case _:
                size = abi_type.size
                zeros = self._source.constant(_ZEROS[size:])
                self._refuse(
                    f"w[{size}:] != {zeros}", "bad_padding", f"argument {what} has bytes set after its {size} bytes"
                )
                self._line(f"{local} = '0x' + w[:{size}].hex()")

    def _integer(self, local: str, abi_type: AbiType, what: str) -> None:
        bits = abi_type.bits
        if abi_type.kind == "uint":
            self._line("n = from_bytes(w, 'big')")
            if bits < 256:
                limit = self._source.constant(2**bits)
                self._refuse(f"n >= {limit}", "bad_padding", f"argument {what} is larger than its type")
        else:
            self._line("n = from_bytes(w, 'big', signed=True)")
            if bits < 256:
                limit = self._source.constant(2 ** (bits - 1))
                self._refuse(
                    f"n >= {limit} or n < -{limit}",
                    "bad_padding",
                    f"argument {what} is not sign-extended from its type",
                )
        self._line(f"{local} = {'n' if bits <= JSON_NUMBER_BITS_MAX else 'str(n)'}")

    def _dynamic(self) -> None:
        """Words and ``bytes``/``string``: each tail begins where the one before it ended."""
        event = self._event
        self._line("size = len(data)")
        self._refuse(
            f"size < {self.size}", "truncated", f"{event.signature}: the data is shorter than its {self.size}-byte head"
        )
        self._line(f"tail = {self.size}")
        for item in self._data_inputs:
            self._line(f"w = {self.word[item.name]}")
            if item.type.is_elementary:
                self._elementary(item)
            else:
                self._tail(item)
        self._refuse("tail != size", "trailing_data", f"{event.signature}: there are bytes after the last argument")

    def _tail(self, item: AbiInput) -> None:
        local, what = self.local[item.name], f"{item.name!r} ({item.type.canonical})"
        self._refuse(
            "from_bytes(w, 'big') != tail", "bad_offset", f"argument {what} does not stand where the encoding puts it"
        )
        self._refuse("tail + 32 > size", "truncated", f"argument {what}: the data ends before its length")
        self._line("start = tail + 32")
        self._line("end = start + from_bytes(data[tail:start], 'big')")
        self._line("tail = end + (start - end) % 32")
        self._refuse("tail > size", "truncated", f"argument {what} is longer than the data")
        self._refuse(
            "tail != end and data[end:tail].strip(ZERO)", "bad_padding", f"argument {what} has bytes set after its end"
        )
        if item.type.kind == "bytes":
            self._line(f"{local} = {self._source.constant(bytes_value)}(data[start:end])")
            return
        refusal = self._source.constant(Rejection(code="bad_utf8", reason=f"argument {what} is not UTF-8"))
        self._line("try:")
        self._line(f"    {local} = {self._source.constant(text_value)}(data[start:end])")
        self._line("except UnicodeDecodeError:")
        self._line(f"    return {refusal}")

    def _nested(self) -> None:
        """Arrays and tuples: eth-abi behind the layout check."""
        decode = self._source.constant(nested_decoder(self._data_inputs))
        self._line(f"values = {decode}(data)")
        self._line("if values.__class__ is Rejection:")
        self._line("    return values")
        for index, item in enumerate(self._data_inputs):
            abi_type, value = self._source.constant(item.type), self._source.constant(json_value)
            self._line(f"{self.local[item.name]} = {value}({abi_type}, values[{index}])")
