"""Records are judged by their headers, then by their bodies: what stops, what is quarantined, what goes on."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ledger.core.records import Change, Mark, Position, Refused, Withdrawn, entry_id, scan
from tests.unit.ledger.story import CHAIN_ID, STREAM_ID, Raw, Story, deposit

START = Position(next_offset=0)


def told() -> Story:
    story = Story()
    story.block(deposit(1, 100), deposit(2, 5))
    return story


def with_headers(record: Raw, **changes: bytes | None) -> Raw:
    kept = tuple((k, v) for k, v in record.headers if k not in changes)
    return dataclasses.replace(record, headers=kept + tuple((k, v) for k, v in changes.items() if v is not None))


def with_body(record: Raw, **changes: Any) -> Raw:
    body = json.loads(record.value or b"") | changes
    return dataclasses.replace(record, value=json.dumps(body).encode())


def test_a_stream_is_taken_up_at_its_first_record_and_followed() -> None:
    records = told().records
    found = scan(records, START, chain_id=CHAIN_ID, kind="events")
    assert found.stop is None
    assert [type(item) for item in found.items] == [Change, Change, Change, Change, Mark]
    assert found.position == Position(next_offset=records[-1].offset + 1, stream_id=STREAM_ID, stream_seq=5)
    again = scan(records, found.position, chain_id=CHAIN_ID, kind="events")
    assert again.items == ()
    assert again.position == found.position


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stream_seq": b"7"}, "expected 3"),
        ({"stream_seq": b"2"}, "expected 3"),
        ({"stream_seq": b"x"}, "stream_seq is"),
        ({"stream_seq": b"-3"}, "stream_seq is"),
        ({"stream_seq": None}, "stream_seq is"),
        ({"stream_id": b"other"}, "the topic was made again"),
        ({"stream_id": None}, "stream_id is"),
        ({"chain_id": b"1"}, "chain_id is"),
        ({"chain_id": None}, "chain_id is"),
        ({"op": b"finalized"}, "op 'finalized'"),
        ({"op": None}, "op ''"),
        ({"op": b"\xff"}, "op"),
    ],
)
def test_bad_headers_stop_the_partition_where_they_are(changes: dict[str, bytes | None], reason: str) -> None:
    records = told().records
    records[2] = with_headers(records[2], **changes)
    found = scan(records, START, chain_id=CHAIN_ID, kind="events")
    assert found.stop is not None
    assert reason in found.stop.reason
    assert found.stop.offset == records[2].offset
    assert len(found.items) == 2
    assert found.position.stream_seq == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"block_hash": "0x12"}, "block_hash"),
        ({"block_hash": "0x" + "zz" * 32}, "block_hash"),
        ({"block_hash": "0x" + " 1" * 32}, "block_hash"),
        ({"event_id": "0x" + "00" * 32}, "ce_id"),
        ({"revision": 0}, "ce_id"),
        ({"revision": "1"}, "Expected `int`"),
        ({"op": "retracted"}, "op is"),
        ({"incident_id": "an incident; rm -rf"}, "incident_id"),
        ({"incident_id": ""}, "incident_id"),
        ({"chain_id": 1}, "chain_id is 1"),
        ({"block_number": -1}, "block_number"),
        ({"block_number": 2**63}, "block_number"),
        ({"block_timestamp": 0}, "block_timestamp"),
        ({"block_timestamp": 2**40}, "block_timestamp"),
        ({"log_index": 2**64}, "log_index"),
        ({"address": None}, "address"),
        ({"args": []}, "args"),
        ({"subject": "a\0b"}, "U+0000"),
        ({"args": {"deep": [{"x": "\0"}]}}, "U+0000"),
    ],
)
def test_a_bad_body_under_good_headers_is_refused_and_its_number_is_used_up(
    changes: dict[str, Any], reason: str
) -> None:
    records = told().records
    records[2] = with_body(records[2], **changes)
    found = scan(records, START, chain_id=CHAIN_ID, kind="events")
    assert found.stop is None
    refused = found.items[2]
    assert isinstance(refused, Refused)
    assert reason in refused.reason
    assert (refused.origin, refused.code, refused.seq) == ("body", "malformed_body", 3)
    assert refused.event_id is not None  # the headers still say which event it was
    assert refused.revision == 1
    assert found.position.stream_seq == 5


@pytest.mark.parametrize("value", [None, b"", b"{", b"\xff\xfe", b"[]", b'{"op": "applied"}', b'"\xed\xa0\x80"'])
def test_a_body_that_is_no_message_is_refused(value: bytes | None) -> None:
    records = told().records
    records[0] = dataclasses.replace(records[0], value=value)
    found = scan(records, START, chain_id=CHAIN_ID, kind="events")
    assert isinstance(found.items[0], Refused)
    assert len(found.items) == 5


@pytest.mark.parametrize("changes", [{"finalized": {"number": 9, "hash": "0x" + "00" * 32}}, {"chain_id": 2}])
def test_a_watermark_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    records = told().records
    records[-1] = with_body(records[-1], **changes)
    found = scan(records, START, chain_id=CHAIN_ID, kind="events")
    assert isinstance(found.items[-1], Refused)


def test_rejected_logs_and_their_retractions_are_read() -> None:
    story = told()
    story.reject(story.chain[0])
    story.reject(story.chain[0], revision=2, op="retracted")
    found = scan(story.rejected, START, chain_id=CHAIN_ID, kind="rejected")
    first, second = found.items
    assert isinstance(first, Refused)
    assert (first.origin, first.code, first.revision) == ("indexer", "wrong_size", 1)
    assert isinstance(second, Withdrawn)
    assert (second.event_id, second.revision) == (first.event_id, 2)


def test_an_event_does_not_belong_on_the_rejected_topic() -> None:
    found = scan(told().records, START, chain_id=CHAIN_ID, kind="rejected")
    assert found.stop is not None
    assert "op 'applied'" in found.stop.reason


def test_text_that_only_looks_like_a_nul_is_fine() -> None:
    records = told().records
    records[2] = with_body(records[2], subject="a\\u0000b")
    found = scan(records, START, chain_id=CHAIN_ID, kind="events")
    assert isinstance(found.items[2], Change)


def test_entry_ids_tell_stream_and_number() -> None:
    assert entry_id(3, 5) == 3 * 2**44 + 5
    for seq in (0, 2**44):
        with pytest.raises(ValueError):
            entry_id(1, seq)
