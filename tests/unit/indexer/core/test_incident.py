"""What an incident publishes: by property against the two branches, and what its kafka_txs say of the cursor."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.messages import BlockRef, PaymentEvent
from indexer.core.blocks import Header
from indexer.core.compose import Change, KafkaTx, OutRecord
from indexer.core.history import HistoryBroken
from indexer.core.incident import (
    Step,
    applying,
    compose_incident,
    counted,
    incident_id,
    revoking,
    to_revoke,
)
from indexer.core.state import Latch, new_block
from tests.unit.indexer.core.branches import GENESIS, body, branch, event, records_at
from tests.unit.indexer.core.test_compose import CURSOR, OWNER, header_value
from tests.unit.indexer.core.test_history import Streams

LATCH = Latch(
    ours=BlockRef(number=12, hash="0x01"), seen=BlockRef(number=12, hash="0x02"), noticed_at_ms=7, reason="test"
)


def canonical(blocks: list[Header]) -> dict[int, str]:
    return {block.number: block.hash for block in blocks}


def publish(streams: Streams, blocks: list[Header], events: list[int], *, revision: int = 1) -> None:
    for block, count in zip(blocks, events, strict=True):
        for index in range(count):
            message = msgspec.structs.replace(event(block, index), revision=revision)
            streams.put("events", index % 2, message)
            streams.put("final", index % 2, msgspec.structs.replace(message, op="finalized"))


def steps_of(streams: Streams, theirs: list[Header], counts: list[int]) -> list[Step]:
    history = streams.history()
    blocks = [new_block(block, records_at(block, count)) for block, count in zip(theirs, counts, strict=True)]
    return [*revoking(to_revoke(history, canonical(theirs)), "i"), *applying(blocks, history, "i")]


def replayed(streams: Streams, steps: list[Step], upto: int | None = None) -> None:
    for step in steps[:upto]:
        for record in step.records:
            streams.put(record.topic, record.partition, record.message)


def standing(streams: Streams) -> dict[str, dict[str, int]]:
    told = streams.history().told
    return {topic: {e: t.revision for e, t in told[topic].items() if t.stands} for topic in ("events", "final")}


counts = st.lists(st.integers(0, 3), min_size=6, max_size=6)


@given(ours=counts, theirs=counts, fork=st.integers(0, 5), crash=st.integers(0, 12))
def test_what_stands_afterwards_is_the_canonical_branch_also_after_a_crash(
    ours: list[int], theirs: list[int], fork: int, crash: int
) -> None:
    old = branch(GENESIS, "a", 6)
    new = [*old[:fork], *branch(old[fork - 1] if fork else GENESIS, "b", 6 - fork)]
    held = [*ours[:fork], *theirs[fork:]]
    streams = Streams()
    publish(streams, old, ours)
    replayed(streams, steps_of(streams, new, held), crash)  # died in between
    replayed(streams, steps_of(streams, new, held))
    wanted = {event(b, i).event_id for b, count in zip(new, held, strict=True) for i in range(count)}
    assert {topic: set(events) for topic, events in standing(streams).items()} == {"events": wanted, "final": wanted}
    assert steps_of(streams, new, held) == []
    replayed(streams, steps_of(streams, old, ours))  # and back: what stood before has its next odd revision
    again = {e: 3 if b.number > fork else 1 for b, n in zip(old, ours, strict=True) for e in ids(b, n)}
    assert standing(streams) == {"events": again, "final": again}


def ids(block: Header, count: int) -> list[str]:
    return [event(block, index).event_id for index in range(count)]


def test_revocations_are_whole_payloads_newest_first_and_come_before_what_replaces_them() -> None:
    old, new = branch(GENESIS, "a", 3), branch(GENESIS, "b", 2)
    streams = Streams()
    publish(streams, old[:2], [2, 2])
    steps = steps_of(streams, new, [1, 1])
    messages = [r.message for step in steps for r in step.records if r.topic == "events"]
    seen = [(m.op, m.block_number, m.log_index, m.revision) for m in messages]
    assert seen == [
        ("revoked", 2, 1, 2),
        ("revoked", 2, 0, 2),
        ("revoked", 1, 1, 2),
        ("revoked", 1, 0, 2),
        ("applied", 1, 0, 1),
        ("applied", 2, 0, 1),
    ]
    assert messages[0] == msgspec.structs.replace(event(old[1], 1), op="revoked", revision=2, incident_id="i")
    late = messages[-1]
    assert isinstance(late, PaymentEvent)
    assert (late.late, late.incident_id) == (True, "i")
    assert counted(steps).events == {("payment-gateway", "gateway"): 6}


def test_nothing_is_decided_when_the_topics_say_different_things() -> None:
    old = branch(GENESIS, "a", 2)
    streams = Streams()
    publish(streams, old, [1, 1])
    streams.put("events", 0, event(old[1], 2))  # never final
    with pytest.raises(HistoryBroken, match="does not stand on the final topic"):
        to_revoke(streams.history(), canonical(branch(GENESIS, "b", 2)))


def test_the_latch_is_lifted_with_the_cursor_in_the_only_kafka_tx_that_has_watermarks() -> None:
    old, new = branch(GENESIS, "a", 2), branch(GENESIS, "b", 2)
    streams = Streams()
    publish(streams, old, [1, 1])
    steps = steps_of(streams, new, [1, 0])
    cursor = msgspec.structs.replace(CURSOR, head=old[1].ref, finalized=old[1].ref, latch=LATCH)
    first = compose_incident(cursor, steps[:2], owner=OWNER, lifted=None)
    assert first.cursor.latch == LATCH
    assert (first.cursor.head, first.cursor.finalized) == (old[1].ref, old[1].ref)
    assert "watermark" not in ops(first)
    lifted = Change(head=new[1], safe=new[1].ref, finalized=new[1])
    last = compose_incident(first.cursor, steps[2:], owner=OWNER, lifted=lifted)
    assert last.cursor.latch is None
    assert last.cursor.head == last.cursor.finalized == last.cursor.safe == new[1].ref
    marks = [(r.topic, r.partition, body(r.value)["finalized"]) for r in last.records if "watermark" in ops_of([r])]
    final = {"number": 2, "hash": new[1].hash}
    assert sorted(marks, key=str) == [(t, p, final) for t in ("events", "final") for p in (0, 1)]
    assert numbers(first, last) == sorted(numbers(first, last))


def ops(tx: KafkaTx) -> list[str]:
    return ops_of(tx.records)


def ops_of(records: Sequence[OutRecord]) -> list[str]:
    return [header_value(record, "op") for record in records]


def numbers(*txs: KafkaTx) -> list[tuple[str, int, int]]:
    """(stream, partition, stream_seq) of every record; sorted means without a gap, for all begin with 1."""
    found = [(r.topic, r.partition, int(header_value(r, "stream_seq"))) for tx in txs for r in tx.records]
    per_stream: dict[tuple[str, int], int] = {}
    for topic, partition, seq in found:
        assert seq == per_stream.get((topic, partition), 0) + 1
        per_stream[(topic, partition)] = seq
    return sorted(found)


def test_an_incident_has_one_name_for_all_attempts_and_another_for_another_latch_or_block() -> None:
    name = incident_id(1, LATCH, "0x02")
    assert name == incident_id(1, LATCH, "0x02")
    later = msgspec.structs.replace(LATCH, noticed_at_ms=8)
    others = {incident_id(1, later, "0x02"), incident_id(1, LATCH, "0x03"), incident_id(2, LATCH, "0x02")}
    assert len({name, *others}) == 4
    assert name.startswith("1-12-")
