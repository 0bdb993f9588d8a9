"""Several nodes as one: who is asked, who is left, who is never believed."""

from __future__ import annotations

import pytest

from indexer.adapters.failover import FailoverNode
from indexer.errors import ConfigurationRefused, NodeUnavailable
from tests.fakes.chain_node import ChainNode
from tests.unit.indexer.core.branches import GENESIS, branch, header

CHAIN = [GENESIS, *branch(GENESIS, "a", 9)]


class Node(ChainNode):
    """A ChainNode that may be away or on another chain."""

    away = False
    chain = 31337

    async def chain_id(self) -> int:
        if self.away:
            raise NodeUnavailable(f"{self.name} is away")
        return self.chain


def node(name: str, height: int = 9) -> Node:
    return Node(headers={h.number: h for h in CHAIN[: height + 1]}, name=name)


async def test_distrust_moves_on_and_comes_round() -> None:
    pool = FailoverNode([node("a"), node("b")], chain_id=31337)
    assert pool.name == "a"
    pool.distrust()
    assert pool.name == "b"
    pool.distrust()
    assert pool.name == "a"


async def test_a_node_that_was_away_at_the_start_is_checked_before_its_first_use() -> None:
    good, late = node("good"), node("late")
    late.away = True
    pool = FailoverNode([good, late], chain_id=31337)
    await pool.check()
    late.away, late.chain = False, 1
    pool.distrust()
    with pytest.raises(ConfigurationRefused, match="late is on chain id 1"):
        await pool.header_by_number(1)


async def test_nodes_that_disagree_on_block_0_are_refused() -> None:
    other = Node(headers={0: header(0, "other genesis")}, name="other")
    with pytest.raises(ConfigurationRefused, match="block 0"):
        await FailoverNode([node("a"), other], chain_id=31337).check()


async def test_no_node_at_all_is_an_outage() -> None:
    gone = node("gone")
    gone.away = True
    with pytest.raises(NodeUnavailable, match="gone is away"):
        await FailoverNode([gone], chain_id=31337).check()


async def test_a_laggard_is_left_for_the_node_that_is_furthest() -> None:
    pool = FailoverNode([node("slow", 3), node("fast", 9)], chain_id=31337)
    latest = await pool.header_by_tag("latest")
    assert latest is not None
    assert (pool.name, latest.number) == ("fast", 9)


async def test_two_blocks_behind_is_no_reason_to_leave() -> None:
    pool = FailoverNode([node("a", 7), node("b", 9)], chain_id=31337)
    await pool.header_by_tag("latest")
    assert pool.name == "a"


async def test_hashes_come_from_every_node_that_answers() -> None:
    gone = node("gone")
    gone.away = True
    pool = FailoverNode([node("a"), gone, node("b", 3)], chain_id=31337)
    assert await pool.hashes_at(5) == [CHAIN[5].hash]
    assert await pool.hashes_at(2) == [CHAIN[2].hash] * 2


def test_a_pool_needs_a_node() -> None:
    with pytest.raises(ValueError, match="no node"):
        FailoverNode([], chain_id=1)
