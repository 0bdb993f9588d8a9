"""The chain view against a trivial reference: a random walk over a block tree ends where the tree's branch ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from contracts.messages import BlockRef
from indexer.core.blocks import Header
from indexer.core.chain import (
    ChainView,
    FetchHeader,
    Finalize,
    Finalized,
    HeaderFetched,
    HeadSeen,
    Switch,
    ViolationSuspected,
    applied,
    finalized_through,
    rebased,
    retracted,
    step,
)
from tests.unit.indexer.core.branches import GENESIS, branch, header


def follow(view: ChainView, head: Header, known: dict[str, Header]) -> ChainView:
    """Drives the view to a head, answering its questions from ``known`` and performing its switches at once."""
    view, actions = step(view, HeadSeen(header=head))
    while actions:
        (action,) = actions
        match action:
            case FetchHeader(ref=ref):
                view, actions = step(view, HeaderFetched(wanted=ref, header=known.get(ref.hash)))
            case Switch(retract=gone, apply=new):
                for block in gone:
                    view = retracted(view, block)
                for block in new:
                    view = applied(view, block)
                actions = ()
            case ViolationSuspected() | Finalize():
                raise AssertionError(action)
    return view


def test_a_new_head_far_ahead_is_linked_block_by_block() -> None:
    blocks = branch(GENESIS, "a", 5)
    view = follow(rebased(GENESIS), blocks[-1], {b.hash: b for b in blocks})
    assert view.window == (GENESIS, *blocks)
    assert view.candidate == ()


def test_a_reorg_retracts_newest_first_and_applies_oldest_first() -> None:
    old = branch(GENESIS, "a", 4)
    new = branch(old[0], "b", 4)
    view = follow(rebased(GENESIS), old[-1], {b.hash: b for b in old})
    view, actions = step(view, HeadSeen(header=new[-1]))
    for block in reversed(new[:-1]):
        (fetch,) = actions
        assert isinstance(fetch, FetchHeader)
        assert fetch.ref == block.ref
        view, actions = step(view, HeaderFetched(wanted=fetch.ref, header=block))
    assert actions == (Switch(ancestor=old[0], retract=tuple(reversed(old[1:])), apply=tuple(new)),)


def test_a_head_that_went_backwards_is_no_reorg() -> None:
    blocks = branch(GENESIS, "a", 4)
    view = follow(rebased(GENESIS), blocks[-1], {b.hash: b for b in blocks})
    for lagging in (*blocks, GENESIS):
        after, actions = step(view, HeadSeen(header=lagging))
        assert actions == ()
        assert after.window == view.window


def test_a_missing_block_is_no_reorg() -> None:
    blocks = branch(GENESIS, "a", 2)
    view = follow(rebased(GENESIS), blocks[-1], {b.hash: b for b in blocks})
    stranger = branch(GENESIS, "b", 5)[-1]
    after = follow(view, stranger, {})
    assert after.window == view.window
    assert after.candidate == ()


def test_a_lower_head_on_another_branch_is_a_reorg() -> None:
    old = branch(GENESIS, "a", 4)
    new = branch(old[1], "b", 1)
    view = follow(rebased(GENESIS), old[-1], {b.hash: b for b in old})
    assert follow(view, new[-1], {b.hash: b for b in new}).window == (GENESIS, *old[:2], *new)


def test_a_branch_below_finality_is_never_applied() -> None:
    old = branch(GENESIS, "a", 4)
    view = finalized_through(follow(rebased(GENESIS), old[-1], {b.hash: b for b in old}), old[1])
    rival = branch(GENESIS, "b", 6)
    known = {b.hash: b for b in rival}
    view, actions = step(view, HeadSeen(header=rival[-1]))
    while isinstance(actions[0], FetchHeader):
        ref = actions[0].ref
        view, actions = step(view, HeaderFetched(wanted=ref, header=known[ref.hash]))
    assert actions == (ViolationSuspected(ours=old[1], seen=rival[2]),)
    assert view.window == tuple(old[1:])


def test_finality_is_monotone_and_only_of_our_own_blocks() -> None:
    blocks = branch(GENESIS, "a", 4)
    view = follow(rebased(GENESIS), blocks[-1], {b.hash: b for b in blocks})
    _, actions = step(view, Finalized(header=blocks[2]))
    assert actions == (Finalize(blocks=tuple(blocks[:3])),)
    view = finalized_through(view, blocks[2])
    for not_accepted in (blocks[1], blocks[2], GENESIS, header(4, "foreign"), header(9, "ahead")):
        assert step(view, Finalized(header=not_accepted)) == (view, ())


def test_an_answer_to_an_old_question_changes_nothing() -> None:
    blocks = branch(GENESIS, "a", 4)
    view = follow(rebased(GENESIS), blocks[-1], {b.hash: b for b in blocks})
    late = HeaderFetched(wanted=BlockRef(number=3, hash=blocks[2].hash), header=blocks[2])
    assert step(view, late) == (view, ())


@given(st.data())
def test_following_any_walk_over_a_tree_ends_on_the_last_head_s_branch(data: st.DataObject) -> None:
    tree: list[Header] = [GENESIS]
    parents: dict[str, Header] = {}
    view = rebased(GENESIS)
    known = {GENESIS.hash: GENESIS}
    for i in range(data.draw(st.integers(1, 12), label="moves")):
        parent = data.draw(st.sampled_from(tree), label="parent")
        new = branch(parent, f"branch {i}", data.draw(st.integers(1, 4), label="length"))
        for child, above in zip([parent, *new], new, strict=False):
            parents[above.hash] = child
        tree += new
        known |= {b.hash: b for b in new}
        head = data.draw(st.sampled_from(tree), label="head")
        held = view.holds(head.ref)
        before = view.window
        if head == GENESIS:
            continue
        view = follow(view, head, known)
        expected = [head]
        while expected[0].hash in parents:
            expected.insert(0, parents[expected[0].hash])
        assert view.window == (before if held else tuple(expected))
