"""The real pool over real HTTP: who is asked when a node dies, hangs, pauses, lags or belongs to another chain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from deploy.runtime.rpc import connect
from indexer.adapters import failover
from indexer.adapters.failover import FailoverNode
from indexer.adapters.node import Node
from indexer.errors import ConfigurationRefused, NodeBehind, NodeLied, NodeUnavailable
from indexer.ports import LogFilter
from tests.fakes.rpc_node import Call, Chain, Log, ScriptedNode, faults

TILL, TOPIC = "0x" + "cc" * 20, "0x" + "11" * 32
WANTED = LogFilter(addresses=(TILL,), topic0s=(TOPIC,))
TIMEOUT_S = 0.5


class Pool:
    """Scripted nodes over one tree, and the pool that asks them."""

    def __init__(self, scripts: list[ScriptedNode], pool: FailoverNode) -> None:
        self.scripts = scripts
        self.pool = pool

    async def latest(self) -> int:
        header = await self.pool.header_by_tag("latest")
        assert header is not None
        return header.number


@pytest.fixture
async def two() -> AsyncIterator[Pool]:
    chain = Chain()
    chain.mine_empty(11)
    chain.mine([Log(address=TILL, topics=(TOPIC,))])
    async with AsyncExitStack() as stack:
        scripts = [await stack.enter_async_context(ScriptedNode(chain.view())) for _ in range(2)]
        rpcs = [await stack.enter_async_context(connect(s.http_url, timeout_s=TIMEOUT_S)) for s in scripts]
        yield Pool(scripts, FailoverNode([Node(rpc) for rpc in rpcs], chain_id=31337))


@pytest.mark.parametrize(
    "fault",
    [faults.resets, faults.hangs, faults.status(429, retry_after_s=30), faults.status(500), faults.foreign_id()],
)
async def test_when_a_node_fails_the_next_one_is_asked(two: Pool, fault: faults.Fault) -> None:
    assert await two.latest() == 12
    two.scripts[0].misbehave(fault)
    with pytest.raises((NodeUnavailable, NodeLied)):
        await two.pool.header_by_number(12)
    two.pool.distrust()
    asked = len(two.scripts[0].asked)
    assert await two.pool.header_by_number(12) is not None
    assert len(two.scripts[0].asked) == asked


async def test_a_node_that_dies_and_comes_back_is_asked_again_in_its_turn(two: Pool) -> None:
    assert await two.latest() == 12
    await two.scripts[0].die()
    with pytest.raises(NodeUnavailable):
        await two.pool.header_by_number(1)
    two.pool.distrust()
    await two.scripts[0].revive()
    await two.scripts[1].die()
    with pytest.raises(NodeUnavailable):
        await two.pool.header_by_number(1)
    two.pool.distrust()
    assert await two.latest() == 12


async def test_a_hanging_spare_node_holds_nobody_up(two: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "COMPARE_S_MAX", 0.05)
    await two.pool.check()
    two.scripts[1].misbehave(faults.hangs)
    began = time.monotonic()
    assert await two.latest() == 12  # the first one compares the nodes
    assert time.monotonic() - began < TIMEOUT_S / 2


async def test_a_laggard_is_left(two: Pool) -> None:
    two.scripts[0].chain.fork(at=8)
    assert await two.latest() == 12
    assert two.scripts[0].times_asked("eth_getBlockByNumber") == 2  # genesis, and once for its head


async def test_a_node_that_lacks_the_parent_of_its_own_block_is_left(two: Pool) -> None:
    await two.latest()
    assert await two.pool.header_by_hash("0x" + "12" * 32) is None
    asked = len(two.scripts[0].asked)
    assert await two.pool.header_by_number(12) is not None
    assert len(two.scripts[0].asked) == asked


async def test_logs_are_asked_of_one_that_has_the_block(two: Pool) -> None:
    head = await two.pool.header_by_tag("latest")
    assert head is not None
    ahead = two.scripts[0].chain.head
    two.scripts[0].chain.fork(at=8)
    two.scripts[0].chain.blocks = {b.hash: b for b in two.scripts[0].chain.branch}  # never heard of it
    with pytest.raises(NodeBehind):
        await two.pool.logs_of_block(head, WANTED)
    two.pool.distrust()
    assert [log.tx_hash for log in await two.pool.logs_of_block(head, WANTED)] == [ahead.txs[0]["hash"]]


@pytest.mark.parametrize("how", ["another chain id", "another genesis"])
async def test_a_node_of_another_chain_is_refused_before_anything_is_asked_of_it(two: Pool, how: str) -> None:
    if how == "another chain id":
        two.scripts[1].answer("eth_chainId", "0x1")
    else:
        two.scripts[1].chain = Chain()
        two.scripts[1].chain.mine_empty(3)
        genesis = {**two.scripts[1].chain.branch[1].header, "number": "0x0"}
        two.scripts[1].answer("eth_getBlockByNumber", genesis, when=lambda call: call.params[0] == "0x0")
    with pytest.raises(ConfigurationRefused, match=r"chain id 1|block 0"):
        await two.pool.check()
    assert Call("eth_getBlockByNumber", ["latest", False]) not in two.scripts[1].asked


@pytest.mark.parametrize("said", [None, "", "0x", "7a69", "0x" + "f" * 30, 31337, ["0x7a69"]])
async def test_a_node_that_does_not_tell_its_chain_is_not_used(two: Pool, said: object) -> None:
    two.scripts[0].answer("eth_chainId", said)
    with pytest.raises(NodeLied):
        await two.pool.header_by_number(1)
    two.pool.distrust()
    assert await two.latest() == 12


async def test_all_nodes_away_is_an_outage_and_passes(two: Pool) -> None:
    for script in two.scripts:
        await script.die()
    with pytest.raises(NodeUnavailable):
        await two.pool.check()
    for script in two.scripts:
        await script.revive()
    await asyncio.wait_for(two.pool.check(), 5)
    assert await two.latest() == 12
