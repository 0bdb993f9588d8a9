"""The state topic: what is written is loaded again, and what contradicts itself is refused."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.core.chain import applied, finalized_through, rebased, retracted
from indexer.core.parts import PartShelf, StoredRecord, decode_parts
from indexer.core.state import (
    STREAM_KINDS,
    BlockState,
    Cursor,
    Owner,
    StateUnreadable,
    StateWrite,
    block_tombstones,
    block_write,
    canonical_window,
    cursor_write,
    finalized_header,
    load,
    new_block,
    owner_write,
    part_writes,
)
from tests.unit.indexer.core.branches import GENESIS, block_hash, block_state, branch, parts_of


def cursor(*, head: BlockState | None = None) -> Cursor:
    at = head.header if head else GENESIS
    return Cursor(
        chain_id=31337,
        genesis_hash=GENESIS.hash,
        stream_id="s",
        partitions=2,
        head=at.ref,
        head_timestamp=at.timestamp,
        safe=GENESIS.ref,
        finalized=GENESIS.ref,
        finalized_header=finalized_header(GENESIS),
        stream_seq={kind: [0, 0] for kind in STREAM_KINDS},
        descriptions={},
    )


def written(*blocks: BlockState) -> list[StateWrite]:
    head = [b for b in blocks if b.canonical][-1]
    return [w for b in blocks for w in writes_of(b)] + [cursor_write(cursor(head=head))]


def writes_of(block: BlockState) -> list[StateWrite]:
    return [block_write(block), *part_writes(block, parts_of(block))]


def test_blocks_and_owner_come_back_as_they_were_written() -> None:
    first, second = (block_state(h, events=3) for h in branch(GENESIS, "a", 2))
    orphan = block_state(branch(GENESIS, "b", 1)[0], canonical=False, revision=2)
    owner = Owner(instance_id="me", lease_until_ms=5, started_at_ms=1)
    loaded = load([*written(first, orphan, second), owner_write(owner)])
    assert loaded.owner == owner
    assert {b.header.hash for b in loaded.blocks.values()} == {
        first.header.hash,
        second.header.hash,
        orphan.header.hash,
    }
    for block in (first, second, orphan):
        again = loaded.blocks[block.header.hash]
        assert (again.canonical, again.revision) == (block.canonical, block.revision)
        assert loaded.parts[block.header.hash] == parts_of(block)
        assert (again.records, again.events, again.size_bytes) == (block.records, block.events, block.size_bytes)


def test_a_block_larger_than_a_part_is_split_and_put_together_again() -> None:
    (at,) = branch(GENESIS, "a", 1)
    records = [
        StoredRecord(topic="events", partition=0, value=msgspec.Raw(msgspec.json.encode("x" * 200_000 + str(i))))
        for i in range(7)
    ]
    block = new_block(at, records)
    writes = [block_write(block.state), *part_writes(block.state, block.parts)]
    assert len(writes) == 5
    assert max(len(value or b"") for _, value in writes) < 900_000
    loaded = load([*writes, cursor_write(cursor(head=block.state))])
    again = decode_parts(loaded.parts[at.hash])
    assert [bytes(r.value) for r in again] == [bytes(r.value) for r in records]
    assert loaded.blocks[at.hash].offsets == (1, 2, 3, 4)


def test_the_fold_keeps_no_more_parts_than_its_budget_and_the_newest_of_them() -> None:
    blocks = [block_state(h, events=2) for h in branch(GENESIS, "a", 5)]
    room = sum(block.size_bytes for block in blocks[-2:])
    loaded = load(written(*blocks), parts_bytes_max=room)
    assert list(loaded.parts) == [block.header.hash for block in blocks[-2:]]
    assert loaded.blocks.keys() == {block.header.hash for block in blocks}
    assert load(written(*blocks), parts_bytes_max=0).parts == {}


def test_a_tombstoned_block_takes_no_room() -> None:
    first, second = (block_state(h, events=2) for h in branch(GENESIS, "a", 2))
    orphan = block_state(branch(GENESIS, "b", 1)[0], events=2, canonical=False, revision=2)
    log = [*writes_of(first), *writes_of(orphan), *block_tombstones(orphan), *writes_of(second)]
    loaded = load([*log, cursor_write(cursor(head=second))], parts_bytes_max=first.size_bytes + second.size_bytes)
    assert set(loaded.parts) == {first.header.hash, second.header.hash}


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 50)), max_size=40), st.integers(0, 100))
def test_a_shelf_holds_the_newest_parts_that_fit(puts: list[tuple[str, int]], bytes_max: int) -> None:
    shelf = PartShelf(bytes_max=bytes_max)
    model: dict[str, int] = {}
    for key, size in puts:
        shelf.put(key, (b"x" * size,))
        model.pop(key, None)
        model[key] = size
        while sum(model.values()) > bytes_max:
            model.pop(next(iter(model)))
        assert shelf.size_bytes == sum(model.values())
        assert {k: len(parts[0]) for k in "abcdef" if (parts := shelf.get(k)) is not None} == model


def test_tombstones_remove_every_key_that_a_block_wrote() -> None:
    (block,) = (block_state(h, events=4) for h in branch(GENESIS, "a", 1))
    keys = {key for key, _ in writes_of(block)}
    assert {key for key, value in block_tombstones(block) if value is None} == keys


def test_a_missing_part_is_refused() -> None:
    (block,) = (block_state(h) for h in branch(GENESIS, "a", 1))
    writes = [w for w in written(block) if not w[0].startswith("part/")]
    with pytest.raises(StateUnreadable, match="lacks 1 of 1 parts"):
        load(writes)


def test_a_part_with_other_content_is_refused() -> None:
    (block,) = (block_state(h, events=2) for h in branch(GENESIS, "a", 1))
    writes = [
        (k, v.replace(b'"received":"1"', b'"received":"7"') if v and k[:4] == "part" else v) for k, v in written(block)
    ]
    with pytest.raises(StateUnreadable, match="another digest"):
        load(writes)


def test_an_unlinked_header_is_refused() -> None:
    first, second, third = (block_state(h) for h in branch(GENESIS, "a", 3))
    with pytest.raises(StateUnreadable, match="does not link"):
        load(written(first, third))
    with pytest.raises(StateUnreadable, match="blocks end at"):
        load([*written(first, second), cursor_write(cursor(head=third))])


def test_blocks_without_a_cursor_are_refused() -> None:
    (block,) = (block_state(h) for h in branch(GENESIS, "a", 1))
    with pytest.raises(StateUnreadable, match="no cursor"):
        load(writes_of(block))


@given(st.data())
def test_a_log_of_writes_loads_to_the_window_that_the_view_has(data: st.DataObject) -> None:
    """Any history of applies, retractions and finalizations, folded as the compacted topic, gives the same window."""
    view, final_orphans = rebased(GENESIS), 0
    blocks: dict[str, BlockState] = {}
    log: list[StateWrite] = []
    for i in range(data.draw(st.integers(1, 25))):
        move = data.draw(st.sampled_from(["apply", "apply", "retract", "finalize"]))
        if move == "apply":
            (new,) = branch(view.head, data.draw(st.sampled_from(["a", "b"])), 1)
            known = blocks.get(new.hash)
            block = known.applied_again() if known else block_state(new, events=i % 3)
            view = applied(view, new)
            blocks[new.hash] = block
            log += writes_of(block) if known is None else [block_write(block)]
        elif move == "retract" and len(view.window) > 1:
            gone = blocks[view.head.hash]
            blocks[gone.header.hash] = block = replace(gone, canonical=False, revision=gone.revision + 1)
            view = retracted(view, view.head)
            log.append(block_write(block))
        elif move == "finalize" and len(view.window) > 1:
            view = finalized_through(view, view.window[1])
            for block in [b for b in blocks.values() if b.header.number <= view.finalized.number]:
                log += block_tombstones(block)
                del blocks[block.header.hash]
                final_orphans += not block.canonical
        state = msgspec.structs.replace(
            cursor(),
            head=view.head.ref,
            finalized=view.finalized.ref,
            finalized_header=finalized_header(view.finalized),
        )
        loaded = load([*log, cursor_write(state)])
        assert {h: (b.canonical, b.revision) for h, b in loaded.blocks.items()} == {
            h: (b.canonical, b.revision) for h, b in blocks.items()
        }
        assert [h.hash for h in canonical_window(state, loaded.blocks)] == [h.hash for h in view.window]


def test_revisions_of_a_branch_that_comes_back_are_odd_again() -> None:
    (at,) = branch(GENESIS, "a", 1)
    orphan = block_state(at, canonical=False, revision=2)
    assert orphan.applied_again().revision == 3
    with pytest.raises(ValueError, match="canonical already"):
        block_state(at).applied_again()


def test_hashes_of_test_blocks_differ_by_branch() -> None:
    assert block_hash("a") != block_hash("b")
