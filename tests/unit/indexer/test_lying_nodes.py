"""What the shell makes of nodes that lag, forget, contradict themselves or answer for another chain."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import pytest

from contracts.registry import Registry
from indexer.core.blocks import Header
from indexer.errors import DependencyAway, Latched
from tests.fakes.chain_node import ChainNode
from tests.unit.indexer.core.branches import GENESIS, header
from tests.unit.indexer.following import Followed

Tag = Literal["latest", "safe", "finalized"]


@dataclass(slots=True)
class Forgetful(ChainNode):
    """A node that answers null for some blocks, and has headers by hash that are not in its chain."""

    null_tags: set[str] = field(default_factory=set)
    null_hashes: set[str] = field(default_factory=set)
    replaced: dict[str, Header] = field(default_factory=dict)  # what it says for a hash, at a later time
    on_chain: int = 31337

    async def chain_id(self) -> int:
        return self.on_chain

    async def header_by_tag(self, tag: Tag) -> Header | None:
        return None if tag in self.null_tags else await ChainNode.header_by_tag(self, tag)

    async def header_by_hash(self, block_hash: str) -> Header | None:
        if block_hash in self.null_hashes:
            return None
        return self.replaced.get(block_hash) or await ChainNode.header_by_hash(self, block_hash)


class InTurn:
    """Several nodes behind one port: every question goes to the next of them."""

    name = "in turn"

    def __init__(self, *nodes: ChainNode) -> None:
        self._nodes = nodes
        self._asked = 0

    @property
    def count(self) -> int:
        return len(self._nodes)

    def distrust(self) -> None:
        self._asked += 1

    async def hashes_at(self, number: int) -> list[str]:
        return [found for node in self._nodes for found in await node.hashes_at(number)]

    def __getattr__(self, question: str) -> object:
        self._asked += 1
        return getattr(self._nodes[self._asked % len(self._nodes)], question)


def with_node(registry: Registry, node: ChainNode) -> Followed:
    return Followed(registry, node=node)


async def test_null_answers_are_lag_and_change_nothing(registry: Registry) -> None:
    node = Forgetful(headers={0: GENESIS})
    followed = with_node(registry, node)
    ours, rival = followed.mined(GENESIS, "a", 4), followed.mined(GENESIS, "b", 6)
    followed.show(ours)
    missing = {block.hash for block in rival[:-1]}

    def forget() -> None:
        followed.show(rival)
        node.null_hashes = missing

    def remember() -> None:
        assert [op for op, *_ in followed.published()] == ["applied"] * 4
        node.null_hashes = set()

    await followed.run(forget, lambda: None, remember)
    assert followed.standing() == [b.hash for b in rival]


@pytest.mark.parametrize("tag", ["latest", "safe", "finalized"])
async def test_a_null_tag_is_asked_for_again_until_the_outage_is_too_long(registry: Registry, tag: str) -> None:
    node = Forgetful(headers={0: GENESIS})
    followed = with_node(registry, node)
    followed.show(followed.mined(GENESIS, "a", 4))
    with pytest.raises(DependencyAway, match=f"no '{tag}' block"):
        await followed.run(lambda: node.null_tags.add(tag))
    assert [op for op, *_ in followed.published()] == ["applied"] * 4


async def test_a_head_that_goes_backwards_is_no_reorg(registry: Registry) -> None:
    followed = Followed(registry)
    blocks = followed.mined(GENESIS, "a", 9)
    followed.show(blocks)
    await followed.run(lambda: followed.show(blocks[:3]), lambda: followed.show([]), lambda: followed.show(blocks))
    assert [op for op, *_ in followed.published()] == ["applied"] * 9


async def test_tags_that_regress_or_run_ahead_publish_nothing_twice(registry: Registry) -> None:
    followed = Followed(registry)
    blocks = followed.mined(GENESIS, "a", 9)
    followed.show(blocks, finalized=5)
    await followed.run(
        lambda: followed.show(blocks, finalized=2),
        lambda: followed.show(blocks[:4], finalized=3),
        lambda: followed.show(blocks, finalized=9),
        lambda: followed.show(blocks, finalized=0),
    )
    assert [(op, number) for op, number, *_ in followed.published("final")] == [("finalized", n) for n in range(1, 10)]
    assert followed.standing() == [b.hash for b in blocks]


async def test_a_known_hash_with_another_header_is_a_lie_and_is_forgotten(registry: Registry) -> None:
    """A block of ours under another number or parent would be published a second time."""
    node = Forgetful(headers={0: GENESIS})
    followed = with_node(registry, node)
    ours = followed.mined(GENESIS, "a", 3)
    followed.show(ours)
    again = replace(ours[2], number=4, parent_hash=ours[2].hash)
    honest = followed.mined(ours[2], "a", 2)

    def lie() -> None:
        node.headers[4] = again

    with pytest.raises(DependencyAway, match="another header than before"):
        await followed.run(lie)
    followed.show(ours, honest)
    await followed.run()
    assert followed.standing() == [b.hash for b in (*ours, *honest)]


async def test_an_orphan_that_comes_back_with_another_parent_is_a_lie(registry: Registry) -> None:
    node = Forgetful(headers={0: GENESIS})
    followed = with_node(registry, node)
    ours, rival = followed.mined(GENESIS, "a", 3), followed.mined(GENESIS, "b", 3)
    followed.show(ours)

    def lie() -> None:
        node.headers[4] = header(4, "c", ours[1])
        node.headers[4] = replace(node.headers[4], parent_hash=ours[2].hash)
        node.replaced[ours[2].hash] = replace(ours[2], parent_hash=rival[1].hash)

    with pytest.raises(DependencyAway, match="another header than before"):
        await followed.run(lambda: followed.show(rival), lie)
    node.replaced.clear()
    followed.show(rival)
    await followed.run()
    assert followed.standing() == [b.hash for b in rival]


async def test_a_header_whose_number_is_not_its_parent_s_plus_one_is_a_lie(registry: Registry) -> None:
    followed = Followed(registry)
    ours = followed.mined(GENESIS, "a", 3)
    followed.show(ours)

    def lie() -> None:
        followed.node.headers[9] = replace(header(9, "x", ours[2]), logs_bloom=bytes(256))

    with pytest.raises(DependencyAway, match="its child says 8"):
        await followed.run(lie)
    assert followed.standing() == [b.hash for b in ours]


@pytest.mark.parametrize("what", ["chain id", "block 0"])
async def test_a_node_that_answers_for_another_chain_by_now_is_no_violation(registry: Registry, what: str) -> None:
    """One node, moved to another network behind its address: it must not latch ours."""
    node = Forgetful(headers={0: GENESIS})
    followed = with_node(registry, node)
    ours = followed.mined(GENESIS, "a", 8)
    followed.show(ours, finalized=6)

    def move() -> None:
        foreign = [GENESIS if what == "chain id" else header(0, "foreign")]
        followed.show(followed.mined(foreign[0], "foreign", 12), finalized=10)
        if what == "chain id":
            node.on_chain = 1
        else:
            node.headers[0] = foreign[0]

    with pytest.raises(DependencyAway, match="another chain"):
        await followed.run(move)
    assert followed.state().cursor.latch is None  # type: ignore[union-attr]
    node.on_chain = 31337
    followed.show(ours, followed.mined(ours[-1], "a", 2), finalized=7)
    await followed.run()
    assert followed.head == 10


async def test_the_same_answers_from_our_chain_are_a_violation(registry: Registry) -> None:
    followed = Followed(registry)
    ours = followed.mined(GENESIS, "a", 8)
    followed.show(ours, finalized=6)
    with pytest.raises(Latched):
        await followed.run(lambda: followed.show(followed.mined(GENESIS, "b", 12), finalized=10))
    assert followed.standing() == [b.hash for b in ours]


async def test_nodes_that_answer_in_turn_and_lag_differently_end_where_the_chain_is(registry: Registry) -> None:
    """One is ahead, one behind, one on a branch that was replaced: what stands follows evidence, and settles."""
    followed = Followed(registry)
    trunk = followed.mined(GENESIS, "a", 6)
    old, new = followed.mined(trunk[-1], "old", 2), followed.mined(trunk[-1], "new", 4)
    logs = followed.node.logs

    def node(*branches: list[Header]) -> ChainNode:
        headers = {0: GENESIS} | {b.number: b for blocks in branches for b in blocks}
        return ChainNode(headers=headers, logs=logs, finalized=2)

    nodes = [node(trunk, new), node(trunk[:4]), node(trunk, old)]
    followed.nodes = InTurn(*nodes)  # type: ignore[assignment]
    limits = replace(followed.limits, outage_max_s=10**6)
    followed.limits = limits

    def agree() -> None:
        for member in nodes:
            member.headers = dict(nodes[0].headers)

    await followed.run(*[lambda: None] * 12, agree, *[lambda: None] * 3)
    assert followed.standing() == [b.hash for b in (*trunk, *new)]
    assert {op for op, number, *_ in followed.published() if number <= 6} == {"applied"}


async def test_a_branch_that_a_lying_node_began_is_forgotten_when_another_node_is_asked(registry: Registry) -> None:
    """A header with a bloom that denies its logs comes from one node, the logs from the next one."""
    liar, honest = ChainNode(headers={0: GENESIS}), ChainNode(headers={0: GENESIS})
    followed = Followed(registry)
    blocks = followed.mined(GENESIS, "a", 2)
    honest.headers |= {b.number: b for b in blocks}
    liar.headers |= {1: blocks[0], 2: replace(blocks[1], logs_bloom=bytes(256))}
    honest.logs = liar.logs = followed.node.logs
    turn = [liar]

    class Pool(InTurn):
        def distrust(self) -> None:
            turn[0] = honest

        def __getattr__(self, question: str) -> object:
            return getattr(turn[0], question)

    followed.nodes = Pool(liar, honest)  # type: ignore[assignment]
    await followed.run()
    assert followed.standing() == [b.hash for b in blocks]


async def test_a_foreign_branch_costs_a_bounded_number_of_questions(registry: Registry) -> None:
    """A single node on a branch that never meets ours: each look ends at finality, and then waits longer."""
    followed = Followed(registry)
    ours = followed.mined(GENESIS, "a", 8)
    followed.show(ours, finalized=2)
    asked: list[str] = []
    by_hash = ChainNode.header_by_hash

    class Counting(Forgetful):
        __slots__ = ()

        async def header_by_hash(self, block_hash: str) -> Header | None:
            asked.append(block_hash)
            return await by_hash(self, block_hash)

        async def hashes_at(self, number: int) -> list[str]:
            return [ours[1].hash] if number == 2 else await ChainNode.hashes_at(self, number)

    node = Counting(headers=followed.node.headers, logs=followed.node.logs, finalized=2)
    followed.node = node
    foreign = [header(3, "f", header(2, "f"))]
    while foreign[-1].number < 40:
        foreign.append(header(foreign[-1].number + 1, "f", foreign[-1]))

    def move() -> None:
        node.headers = {0: GENESIS, **{b.number: b for b in (*ours[:2], *foreign)}}

    with pytest.raises(DependencyAway, match="does not descend from our finalized block"):
        await followed.run(move)
    assert len(asked) <= 40 * 60  # looks within outage_max_s, each down to the finalized block once
    assert followed.standing() == [b.hash for b in ours]
