"""The generated decoder against eth-abi: the same values, or both refuse.

Where ours is stricter, the encoding is not canonical: encoding the values again does not give the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.abi import AbiEvent, AbiType, parse_abi, parse_type
from contracts.decoder import DecoderWriter, wrong_size
from contracts.messages import ARGUMENT_BYTES_MAX
from contracts.source import Source
from contracts.values import Rejection, json_value
from tests.unit.contracts.build import word

ELEMENTARY = ["uint8", "uint48", "uint56", "uint64", "uint96", "uint256", "int8", "int48", "int128", "int256"]
ELEMENTARY += ["bool", "address", "bytes1", "bytes4", "bytes20", "bytes32"]
DYNAMIC = ["bytes", "string"]
NESTED = [
    "uint256[]",
    "address[3]",
    "string[]",
    "bytes32[][]",
    "tuple",
    "tuple[]",
    "uint8[2][]",
    "bytes[2]",
    "tuple[2]",
]

COMPONENTS = [
    {"name": "amount", "type": "uint96"},
    {"name": "memo", "type": "string"},
    {"name": "to", "type": "address[]"},
]
FLAT = [{"name": "amount", "type": "uint96"}, {"name": "token", "type": "address"}]


def make_event(types: Sequence[str], indexed: Sequence[bool], *, flat: bool = False) -> AbiEvent:
    inputs = [
        {"name": f"a{index}", "type": text, "indexed": flag, "components": FLAT if flat else COMPONENTS}
        for index, (text, flag) in enumerate(zip(types, indexed, strict=True))
    ]
    return parse_abi([{"type": "event", "name": "E", "inputs": inputs}]).events[0]


def decoder(event: AbiEvent) -> Any:
    """The decoder of the arguments alone: a dict, or a Rejection."""
    source = Source(f"test {event.signature} {id(event)}")
    for name, value in (("Rejection", Rejection), ("from_bytes", int.from_bytes), ("ZERO", b"\0"), ("EVENT", event)):
        source.constant(value, name=name)
    source.constant(wrong_size, name="wrong_size")
    source.line("def decode(topics, data):")
    writer = DecoderWriter(source, event, depth=1)
    if writer.is_fixed_size:
        source.line(f"    if len(data) != {writer.size}:")
        source.line("        return wrong_size(EVENT, data)")
    writer.write()
    source.line(f"    args = {writer.args()}")
    writer.write_size_check()
    source.line("    return args")
    return source.function("decode")


def oracle(event: AbiEvent, topics: Sequence[bytes], data: bytes) -> dict[str, Any] | None:
    """What eth-abi says, in the form of the message; None: it refuses, or the data is not canonical."""
    inputs = [item for item in event.inputs if not item.indexed]
    names = [item.type.canonical for item in inputs]
    try:
        values = dict(zip([item.name for item in inputs], abi_decode(names, data), strict=True))
        if abi_encode(names, list(values.values())) != data:
            return None
        for item, topic in zip([item for item in event.inputs if item.indexed], topics[1:], strict=True):
            if item.type.is_elementary:
                values[item.name] = abi_decode([item.type.canonical], topic)[0]
            else:
                values[item.name] = {"keccak256": "0x" + topic.hex()}
    except Exception:  # the oracle refuses with many classes, also outside its own
        return None
    return {
        item.name: values[item.name]
        if item.indexed and not item.type.is_elementary
        else json_value(item.type, values[item.name])
        for item in event.inputs
    }


def value_of(abi_type: AbiType) -> st.SearchStrategy[Any]:
    match abi_type.kind:
        case "uint":
            edge = st.sampled_from([0, 1, 2**abi_type.bits - 1])
            return edge | st.integers(0, 2**abi_type.bits - 1)
        case "int":
            half = 2 ** (abi_type.bits - 1)
            return st.sampled_from([-half, -1, 0, half - 1]) | st.integers(-half, half - 1)
        case "bool":
            return st.booleans()
        case "address":
            return st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
        case "fixed_bytes":
            return st.binary(min_size=abi_type.size, max_size=abi_type.size)
        case "bytes":
            return st.binary(max_size=100)
        case "string":
            return st.text(max_size=40)
        case "array":
            size = abi_type.length
            return st.lists(value_of(abi_type.item_type), min_size=size or 0, max_size=3 if size is None else size)
        case "tuple":
            return st.tuples(*(value_of(part.type) for part in abi_type.components))


@st.composite
def logs(draw: st.DrawFn) -> tuple[AbiEvent, list[bytes], bytes]:
    """An event with a log of it, as the chain would have it."""
    types = draw(st.lists(st.sampled_from(ELEMENTARY + DYNAMIC + NESTED), max_size=5))
    indexed = [False] * len(types)
    for index in draw(st.lists(st.integers(0, 4), max_size=3, unique=True)):
        if index < len(types):
            indexed[index] = True
    event = make_event(types, indexed, flat=draw(st.booleans()))
    topics, data_types, data = [event.topic0], [], []
    for item in event.inputs:
        if not item.indexed:
            data_types.append(item.type.canonical)
            data.append(draw(value_of(item.type)))
        elif item.type.is_elementary:
            topics.append(abi_encode([item.type.canonical], [draw(value_of(item.type))]))
        else:
            topics.append(draw(st.binary(min_size=32, max_size=32)))
    return event, topics, abi_encode(data_types, data)


@given(logs())
@settings(max_examples=300, deadline=None)
def test_a_log_of_the_chain_decodes_as_eth_abi_says(log: tuple[AbiEvent, list[bytes], bytes]) -> None:
    event, topics, data = log
    expected = oracle(event, topics, data)
    assert expected is not None
    assert decoder(event)(topics, data) == expected


@given(logs(), st.data())
@settings(max_examples=500, deadline=None)
def test_a_damaged_log_gives_the_same_value_or_both_refuse(
    log: tuple[AbiEvent, list[bytes], bytes], draw: st.DataObject
) -> None:
    event, topics, data = log
    damage = draw.draw(st.sampled_from(["flip", "cut", "append", "word", "topic"]))
    position = draw.draw(st.integers(0, max(len(data) - 1, 0)))
    if damage == "flip" and data:
        data = data[:position] + bytes([data[position] ^ (1 << draw.draw(st.integers(0, 7)))]) + data[position + 1 :]
    elif damage == "cut":
        data = data[:position]
    elif damage == "append":
        data += draw.draw(st.binary(min_size=1, max_size=64))
    elif damage == "word" and data:
        start = position // 32 * 32
        value = draw.draw(st.sampled_from([0, 1, 32, 64, 2**64, 2**255, 2**256 - 1]))
        data = data[:start] + value.to_bytes(32, "big") + data[start + 32 :]
    elif len(topics) > 1:
        topics[1] = draw.draw(st.binary(min_size=32, max_size=32))
    found = decoder(event)(topics, data)
    expected = oracle(event, topics, data)
    if expected is None:
        assert isinstance(found, Rejection)
    else:
        assert found == expected


@given(st.binary(max_size=300), st.lists(st.binary(max_size=40), max_size=3))
@settings(max_examples=300, deadline=None)
def test_noise_never_crashes(data: bytes, topics: list[bytes]) -> None:
    for types in (["bytes", "string", "uint8"], ["string[]", "bytes"], ["tuple[]"], ["bool", "address"]):
        event = make_event([*types, *["bytes4"] * len(topics)], [False] * len(types) + [True] * len(topics))
        found = decoder(event)([event.topic0, *topics], data)
        assert isinstance(found, dict | Rejection)


@pytest.mark.parametrize(
    ("types", "data", "code"),
    [
        (["uint8"], word(256), "bad_padding"),
        (["int8"], word(128), "bad_padding"),
        (["bool"], word(2), "bad_bool"),
        (["address"], b"\1" + b"\0" * 31, "bad_padding"),
        (["bytes4"], b"\0" * 31 + b"\1", "bad_padding"),
        (["uint256"], word(1) + b"\0", "trailing_data"),
        (["uint256"], b"\0" * 31, "truncated"),
        (["string"], word(32) + word(1) + b"\xff".ljust(32, b"\0"), "bad_utf8"),
        (["bytes"], word(32) + word(1) + b"a".ljust(31, b"\0") + b"\1", "bad_padding"),
        (["bytes"], word(64) + word(0) + word(0), "bad_offset"),
        (["bytes"], word(32) + word(2**256 - 1), "truncated"),
        (["bytes"], word(32) + word(0) + word(0), "trailing_data"),
        (["bytes"], word(32), "truncated"),
        (["bytes", "bytes"], word(64) + word(64) + word(0), "bad_offset"),
        (["uint256[]"], word(32) + word(2**255), "truncated"),
        (["uint256[]"], word(0), "bad_offset"),
        (["string[]"], word(32) + word(1) + word(32) + word(1) + b"\xff".ljust(32, b"\0"), "bad_utf8"),
        (["uint8[]"], word(32) + word(1) + word(256), "bad_data"),
        (["uint256[]"], word(32) + word(0) + b"\0", "trailing_data"),
    ],
)
def test_what_is_not_canonical_is_refused_with_its_reason(types: list[str], data: bytes, code: str) -> None:
    event = make_event(types, [False] * len(types))
    found = decoder(event)([event.topic0], data)
    assert isinstance(found, Rejection)
    assert found.code == code
    assert found.reason


def test_offsets_that_point_to_one_tail_are_refused_before_they_multiply() -> None:
    """A thousand offsets to one array of a thousand items: 65 kB of data, a million values for who follows them."""
    event = make_event(["uint256[][]"], [False])
    outer = 1000
    tail = word(1000) + word(7) * 1000
    data = word(32) + word(outer) + word(32 * outer) * outer + tail
    found = decoder(event)([event.topic0], data)
    assert isinstance(found, Rejection)
    assert found.code == "bad_offset"


@pytest.mark.parametrize(
    ("abi_type", "value", "expected"),
    [
        ("uint48", 2**48 - 1, 2**48 - 1),
        ("uint56", 1, "1"),
        ("uint64", 2**64 - 1, "18446744073709551615"),
        ("int48", -1, -1),
        ("int256", -(2**255), str(-(2**255))),
        ("uint256", 2**256 - 1, str(2**256 - 1)),
        ("address", "0x" + "AB" * 20, "0x" + "ab" * 20),
        ("bytes4", b"\xde\xad\xbe\xef", "0xdeadbeef"),
        ("bytes", b"", "0x"),
        ("string", "né", "né"),
        ("string", "a\0b", {"hex": "0x610062"}),
        ("bytes", b"\1" * ARGUMENT_BYTES_MAX, "0x" + "01" * ARGUMENT_BYTES_MAX),
    ],
)
def test_the_form_follows_the_abi_type_never_the_value(abi_type: str, value: Any, expected: Any) -> None:
    event = make_event([abi_type], [False])
    assert decoder(event)([event.topic0], abi_encode([abi_type], [value])) == {"a0": expected}


@pytest.mark.parametrize("abi_type", ["bytes", "string"])
def test_a_long_argument_becomes_its_hash_and_length(abi_type: str) -> None:
    event = make_event([abi_type], [False])
    raw = b"a" * (ARGUMENT_BYTES_MAX + 1)
    found = decoder(event)([event.topic0], abi_encode([abi_type], [raw if abi_type == "bytes" else raw.decode()]))
    assert found["a0"]["length"] == ARGUMENT_BYTES_MAX + 1
    assert len(found["a0"]["sha256"]) == 66


def test_arguments_that_cannot_fit_a_record_are_refused() -> None:
    types = ["bytes"] * 12
    event = make_event(types, [False] * len(types))
    found = decoder(event)([event.topic0], abi_encode(types, [b"\1" * 60_000] * len(types)))
    assert isinstance(found, Rejection)
    assert found.code == "too_large"


def test_a_component_of_a_tuple_keeps_its_name() -> None:
    event = make_event(["tuple[]"], [False], flat=True)
    data = abi_encode(["(uint96,address)[]"], [[(5, "0x" + "AA" * 20)]])
    assert decoder(event)([event.topic0], data) == {"a0": [{"amount": "5", "token": "0x" + "aa" * 20}]}


@pytest.mark.parametrize(
    "text", ["uint", "uint7", "uint264", "bytes0", "bytes33", "fixed128x18", "function", "uint8[0]", "tuple", "", "[]"]
)
def test_types_that_solidity_does_not_have_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_type(text)
