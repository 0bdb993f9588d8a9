"""The chaos test's own instruments, which need nothing running: they draw what they promise and see what is wrong."""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.messages import (
    BlockRef,
    PaymentEvent,
    StreamPosition,
    Watermark,
    encode,
    record_headers,
)
from deploy.demo.chain import Sent
from deploy.demo.plan import Call
from tests.e2e.chaos.load import rearranged
from tests.e2e.chaos.plan import PARTS, REORG_DEPTH_MAX, ROUND, blows
from tests.e2e.chaos.streams import Stream

SENDERS = ("anna", "bruno", "chloe")


def event(number: int, *, op: str = "applied", revision: int = 1, block: int = 5) -> PaymentEvent:
    return PaymentEvent(
        op=op,  # type: ignore[arg-type]
        event_id=f"0x{number:064x}",
        revision=revision,
        chain_id=1,
        block_number=block,
        block_hash="0x" + "ab" * 32,
        block_timestamp=0,
        tx_hash="0x" + "cd" * 32,
        tx_index=0,
        log_index=number,
        address="0x" + "00" * 20,
        contract="gateway",
        event="Deposited",
        book="gateway",
        subject="anna",
        args={},
        amounts=[],
        correlation={},
        description_version="v",
    )


def watermark(finalized: int) -> Watermark:
    ref = BlockRef(number=finalized, hash="0x" + "ef" * 32)
    return Watermark(chain_id=1, latest=ref, safe=ref, finalized=ref)


def told(topic: str, *messages: PaymentEvent | Watermark, seqs: list[int] | None = None) -> list[str]:
    """What a reader complains about after these records of one partition."""
    stream = Stream(topic)
    for offset, (message, seq) in enumerate(zip(messages, seqs or itertools.count(1), strict=False)):
        headers = record_headers(message, StreamPosition(stream_id="s", stream_seq=seq), partition=0)
        key = message.book.encode() if isinstance(message, PaymentEvent) else b""
        record: Any = SimpleNamespace(partition=0, offset=offset, key=key, value=encode(message), headers=headers)
        stream.take(record)
    stream.finish()
    return stream.problems


def test_a_stream_that_keeps_its_promises_is_not_complained_about() -> None:
    back = [event(1, op="retracted", revision=2), event(1, revision=3)]
    assert told("x.events.v1", event(1), *back, event(2), watermark(5)) == []
    assert told("x.final.v1", event(1, op="finalized"), event(2, op="finalized"), watermark(5)) == []


@pytest.mark.parametrize(
    ("topic", "messages", "seqs", "complaint"),
    [
        ("x.events.v1", [event(1), event(2)], [1, 3], "stream_seq 3 after 1"),
        ("x.events.v1", [event(1), event(2)], [1, 1], "stream_seq 1 after 1"),
        ("x.events.v1", [event(1), event(1)], None, "has revision 1 after 1"),
        ("x.events.v1", [event(1, op="retracted", revision=2)], None, "has revision 2 after 0"),
        ("x.events.v1", [watermark(5), event(1)], None, "which was final"),
        ("x.events.v1", [watermark(5), watermark(4)], None, "goes back to 4"),
        ("x.events.v1", [event(2), event(1)], None, "comes after"),
        ("x.final.v1", [event(1, op="finalized"), event(1, op="finalized")], None, "final twice"),
        ("x.final.v1", [event(1, op="revoked")], None, "unexpected op revoked"),
    ],
)
def test_each_broken_promise_is_seen(
    topic: str, messages: list[PaymentEvent | Watermark], seqs: list[int] | None, complaint: str
) -> None:
    problems = told(topic, *messages, seqs=seqs)
    assert [line for line in problems if complaint in line], problems


def test_another_key_than_the_book_is_seen() -> None:
    stream = Stream("x.events.v1")
    message = msgspec.structs.replace(event(1), book="vault")
    headers = record_headers(message, StreamPosition(stream_id="s", stream_seq=1), partition=0)
    record: Any = SimpleNamespace(partition=0, offset=0, key=b"gateway", value=encode(message), headers=headers)
    stream.take(record)
    assert "is not the book" in stream.problems[0]


@given(
    blocks=st.lists(st.lists(st.sampled_from(SENDERS), max_size=6), min_size=1, max_size=8),
    seed=st.integers(min_value=0, max_value=2**32),
)
def test_a_reorg_keeps_each_senders_order_and_drops_only_its_last_calls(blocks: list[list[str]], seed: int) -> None:
    counter = itertools.count()
    before = [
        [
            Sent(Call(sender=name, contract="gateway", function="f", args=(), about=""), f"0x{next(counter)}")
            for name in block
        ]
        for block in blocks
    ]
    after = rearranged(before, random.Random(seed))
    assert len(after) == len(before)
    for name in SENDERS:
        made = [sent.tx_hash for block in before for sent in block if sent.call.sender == name]
        kept = [sent.tx_hash for block in after for sent in block if sent.call.sender == name]
        assert kept == made[: len(kept)]


@given(st.integers(min_value=1, max_value=10**6))
def test_every_part_is_struck_in_every_round_and_reorgs_stay_above_finality(seed: int) -> None:
    drawn = list(itertools.islice(blows(seed), 3 * len(ROUND)))
    assert drawn == list(itertools.islice(blows(seed), 3 * len(ROUND)))
    for begin in range(0, len(drawn), len(ROUND)):
        assert sorted(blow.parts[0] for blow in drawn[begin : begin + len(ROUND)]) == sorted(ROUND)
        assert drawn[begin].reorg_depth
    assert set(PARTS) == set(ROUND)
    assert all(0 <= blow.reorg_depth <= REORG_DEPTH_MAX for blow in drawn)
    assert all(len(set(blow.parts)) == len(blow.parts) for blow in drawn)
