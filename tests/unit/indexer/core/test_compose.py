"""What a kafka_tx contains: order, numbers, revisions, watermarks and the state that goes with them."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from contracts.messages import decode_watermark
from indexer.core.blocks import Header
from indexer.core.chain import ChainView, rebased
from indexer.core.compose import Change, KafkaTx, OutRecord, compose, heartbeat
from indexer.core.plan import Tips, merged, plan
from indexer.core.state import STREAM_KINDS, BlockState, Cursor, Owner, finalized_header, load
from tests.unit.indexer.core.branches import GENESIS, block_state, body, branch, parts_of

OWNER = Owner(instance_id="me", lease_until_ms=10_000, started_at_ms=0)
CURSOR = Cursor(
    chain_id=31337,
    genesis_hash=GENESIS.hash,
    stream_id="s",
    partitions=2,
    head=GENESIS.ref,
    head_timestamp=GENESIS.timestamp,
    safe=GENESIS.ref,
    finalized=GENESIS.ref,
    finalized_header=finalized_header(GENESIS),
    stream_seq={kind: [0, 0] for kind in STREAM_KINDS},
    descriptions={},
)


def header_value(record: OutRecord, name: str) -> str:
    return next(value.decode() for key, value in record.headers if key == name)


def of(tx: KafkaTx, topic: str, partition: int) -> list[OutRecord]:
    return [r for r in tx.records if r.topic == topic and r.partition == partition]


def tips(latest: Header, finalized: Header = GENESIS) -> Tips:
    return Tips(latest=latest, safe=finalized, finalized=finalized)


class Published:
    """Drives plan and compose as the session does, and keeps what was sent."""

    def __init__(self) -> None:
        self.view: ChainView = rebased(GENESIS)
        self.blocks: dict[str, BlockState] = {}
        self.cursor = CURSOR
        self.sent: list[OutRecord] = []
        self.state: list[tuple[str, bytes | None]] = []

    def move(
        self, retract: list[Header], apply: list[BlockState], finalized: Header = GENESIS, bytes_max: int = 10**9
    ) -> list[KafkaTx]:
        latest = apply[-1].header if apply else self.view.head
        planned = plan(
            self.view,
            blocks=self.blocks,
            retract=retract,
            apply=apply,
            tips=tips(latest, finalized),
            safe_before=self.cursor.safe,
            bytes_max=bytes_max,
        )
        txs = []
        for item in merged(list(planned), bytes_max):
            parts = {block.header.hash: parts_of(block) for block in item.change.restated}
            tx = compose(self.cursor, item.change, parts=parts, owner=OWNER, all_partitions=True)
            txs.append(tx)
            self.cursor, self.view = tx.cursor, item.view
            self.sent += tx.records
            self.state += tx.state
            self.blocks |= {b.header.hash: b for b in tx.blocks}
            for block in (*item.change.finalize, *item.change.forget):
                self.blocks.pop(block.header.hash, None)
        return txs


def test_retractions_come_newest_first_before_what_is_applied() -> None:
    published = Published()
    old = branch(GENESIS, "a", 3)
    published.move([], [block_state(h, events=4) for h in old])
    new = branch(old[0], "b", 1)
    (tx,) = published.move([old[2], old[1]], [block_state(new[0], events=2)])
    seen = [
        (body(r.value)["op"], body(r.value)["block_number"], body(r.value).get("log_index"))
        for r in of(tx, "events", 0)[:-1]
    ]
    assert seen == [
        ("retracted", 3, 2),
        ("retracted", 3, 0),
        ("retracted", 2, 2),
        ("retracted", 2, 0),
        ("applied", 2, 0),
    ]
    assert header_value(of(tx, "events", 0)[-1], "op") == "watermark"


def test_a_retraction_is_the_whole_payload_with_the_next_revision() -> None:
    published = Published()
    (old,) = branch(GENESIS, "a", 1)
    (first,) = published.move([], [block_state(old, events=1)])
    (second,) = published.move([old], [block_state(h) for h in branch(GENESIS, "b", 2)])
    applied, retracted = body(of(first, "events", 0)[0].value), body(of(second, "events", 0)[0].value)
    assert retracted == applied | {"op": "retracted", "revision": 2}
    assert of(first, "events", 0)[0].key == of(second, "events", 0)[0].key == b"gateway"


def test_a_branch_that_comes_back_gets_the_next_odd_revision() -> None:
    published = Published()
    a, b = branch(GENESIS, "a", 1), branch(GENESIS, "b", 1)
    published.move([], [block_state(a[0])])
    for i, (gone, back) in enumerate([(a, b), (b, a), (a, b), (b, a)]):
        known = published.blocks.get(back[0].hash)
        (tx,) = published.move([gone[0]], [known.applied_again() if known else block_state(back[0])])
        retracted, applied = (body(r.value) for r in of(tx, "events", 0)[:2])
        assert (retracted["revision"], applied["revision"]) == (2 + 2 * (i // 2), 1 + 2 * ((i + 1) // 2))


def test_finals_carry_the_revision_that_stands_and_leave_the_state() -> None:
    published = Published()
    blocks = branch(GENESIS, "a", 3)
    published.move([], [block_state(h) for h in blocks])
    (tx,) = published.move([], [], finalized=blocks[1])
    finals = [body(r.value) for r in of(tx, "final", 0)[:-1]]
    assert [(f["op"], f["revision"], f["block_number"]) for f in finals] == [("finalized", 1, 1), ("finalized", 1, 2)]
    mark = decode_watermark(of(tx, "final", 0)[-1].value)
    assert mark.latest == mark.finalized == blocks[1].ref
    assert set(load(published.state).blocks) == {blocks[2].hash}


def test_orphans_leave_the_state_when_their_height_is_final() -> None:
    published = Published()
    a, b = branch(GENESIS, "a", 2), branch(GENESIS, "b", 3)
    published.move([], [block_state(h) for h in a])
    published.move([a[1], a[0]], [block_state(h) for h in b])
    assert set(load(published.state).blocks) == {h.hash for h in (*a, *b)}
    published.move([], [], finalized=b[0])
    assert set(load(published.state).blocks) == {a[1].hash, b[1].hash, b[2].hash}


def test_a_heartbeat_leaves_the_cursor_alone() -> None:
    assert [key for key, _ in heartbeat(CURSOR, OWNER).state] == ["owner"]


def test_a_large_reorg_is_split_at_block_borders_and_says_how_far_it_is() -> None:
    whole, split = Published(), Published()
    old, new = branch(GENESIS, "a", 6), branch(GENESIS, "b", 7)
    for published in (whole, split):
        published.move([], [block_state(h, events=5) for h in old])
    whole.move(list(reversed(old)), [block_state(h, events=3) for h in new])
    txs = split.move(list(reversed(old)), [block_state(h, events=3) for h in new], bytes_max=8_000)
    assert len(txs) > 5
    log: list[tuple[str, bytes | None]] = []
    for tx in txs:
        log += tx.state
        heads = [tx.cursor.head.number for tx in txs]
    assert heads[: heads.index(0) + 1] == sorted(heads[: heads.index(0) + 1], reverse=True)
    without_marks = [
        [(r.topic, r.partition, r.value) for r in p.sent if header_value(r, "op") != "watermark"]
        for p in (whole, split)
    ]
    assert sorted(without_marks[0]) == sorted(without_marks[1])


@given(st.lists(st.sampled_from(["grow", "reorg", "finalize"]), max_size=12), st.integers(2_000, 50_000))
def test_every_history_has_gap_free_numbers_and_loads_again(moves: list[str], bytes_max: int) -> None:
    published = Published()
    for i, move in enumerate(moves):
        if move == "grow":
            published.move(
                [], [block_state(h, events=3) for h in branch(published.view.head, f"{i}", 2)], bytes_max=bytes_max
            )
        elif move == "reorg" and len(published.view.window) > 2:
            gone = list(reversed(published.view.window[-2:]))
            base = published.view.window[-3]
            published.move(gone, [block_state(h) for h in branch(base, f"{i}", 3)], bytes_max=bytes_max)
        elif move == "finalize":
            published.move(
                [], [], finalized=published.view.window[len(published.view.window) // 2], bytes_max=bytes_max
            )
    for topic in ("events", "final"):
        for partition in range(2):
            seqs = [
                int(header_value(r, "stream_seq"))
                for r in published.sent
                if (r.topic, r.partition) == (topic, partition)
            ]
            assert seqs == list(range(1, len(seqs) + 1))
    if published.state:
        loaded = load(published.state)
        assert loaded.cursor == published.cursor
        assert set(loaded.blocks) == set(published.blocks)


def test_only_touched_partitions_get_a_watermark_when_not_all_are_asked_for() -> None:
    (at,) = branch(GENESIS, "a", 1)
    block = block_state(at, events=1)
    change = Change(head=at, safe=GENESIS.ref, finalized=GENESIS, apply=(block,))
    tx = compose(CURSOR, change, parts={at.hash: parts_of(block)}, owner=OWNER, all_partitions=False)
    assert [(r.topic, r.partition, header_value(r, "op")) for r in tx.records] == [
        ("events", 0, "applied"),
        ("events", 0, "watermark"),
    ]
    assert tx.cursor == msgspec.structs.replace(
        CURSOR,
        head=at.ref,
        head_timestamp=at.timestamp,
        stream_seq={"events": [2, 0], "final": [0, 0], "rejected": [0, 0]},
    )
