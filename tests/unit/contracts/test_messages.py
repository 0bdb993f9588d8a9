"""Identity, assets, headers and topic names of messages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import messages

EXAMPLES = Path(messages.__file__).parent / "examples"


def test_event_id_is_the_hash_that_the_contract_says() -> None:
    block_hash = bytes(range(32))
    preimage = (31337).to_bytes(8, "big") + block_hash + (5).to_bytes(4, "big") + b"\0"
    expected = "0x" + hashlib.sha256(preimage).hexdigest()
    assert messages.event_id(chain_id=31337, block_hash=block_hash, position=5) == expected
    assert (
        messages.event_id(chain_id=31337, block_hash=block_hash, position=5, source=messages.SOURCE_TRACE) != expected
    )


@pytest.mark.parametrize("size", [0, 20, 31, 33])
def test_an_id_needs_a_whole_block_hash(size: int) -> None:
    with pytest.raises(ValueError, match="not 32"):
        messages.event_id(chain_id=1, block_hash=b"\0" * size, position=0)


@given(st.integers(1, 2**63), st.binary(min_size=20, max_size=20))
def test_asset_ids_come_back_as_chain_and_address(chain_id: int, address: bytes) -> None:
    text = "0x" + address.hex()
    assert messages.asset_address(messages.asset_id(chain_id, text)) == (chain_id, text)


@pytest.mark.parametrize(
    "asset", ["", "eip155:1", "eip155:x/erc20:0x" + "00" * 20, "eip155:1/erc721:0x" + "00" * 20, "cosmos:1/slip44:60"]
)
def test_what_is_no_asset_id_is_refused(asset: str) -> None:
    with pytest.raises(ValueError, match="asset"):
        messages.asset_address(asset)


def test_headers_route_without_the_body() -> None:
    event = messages.decode_event((EXAMPLES / "payment-event.applied.v1.json").read_bytes())
    position = messages.StreamPosition(stream_id="s-1", stream_seq=42)
    headers = dict(messages.record_headers(event, position, partition=3))
    assert headers["ce_id"] == f"{event.event_id}:1".encode()
    assert headers["ce_type"] == b"chainbooks.payment-event.applied.v1"
    assert headers["ce_time"] == b"2026-01-01T00:20:12Z"
    assert (headers["stream_id"], headers["stream_seq"], headers["op"]) == (b"s-1", b"42", b"applied")
    assert "traceparent" not in headers
    watermark = messages.decode_watermark((EXAMPLES / "watermark.v1.json").read_bytes())
    assert dict(messages.record_headers(watermark, position, partition=3))["ce_id"] == b"s-1:3:42"


def test_a_consumer_reads_messages_that_have_grown() -> None:
    body = msgspec.json.decode((EXAMPLES / "payment-event.applied.v1.json").read_bytes())
    body["a_later_field"] = 1
    assert messages.decode_event(msgspec.json.encode(body)).event == "InvoicePaid"


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"op": "applied"}', b"\xff", b'{"op": "unheard"}'])
def test_a_bad_body_is_a_msgspec_error(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        messages.decode_event(body)


def test_topics_carry_chain_and_prefix() -> None:
    topics = messages.Topics(chain="local", prefix="test.")
    assert topics.events == "test.payments.local.events.v1"
    assert topics.state == "test.indexer.local.state.v1"
    assert topics.registry == "test.payments.registry.v1"


@pytest.mark.parametrize(
    "value",
    [b'{"op": "applied", "event_id": "\xff\xfe"}', b'{"unknown": ' + b"[" * 200_000, b'{"op": 7}', b"", b"\xff"],
)
@pytest.mark.parametrize(
    "decode",
    [messages.decode_event, messages.decode_rejected, messages.decode_watermark, messages.decode_registry_record],
)
def test_any_bytes_that_are_no_message_raise_one_kind_of_error(decode: Callable[[bytes], object], value: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(value)
