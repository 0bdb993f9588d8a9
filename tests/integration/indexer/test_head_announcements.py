"""newHeads from a node that says too much, too often, out of order, or nothing: each is a wake-up at most, and the
subscription comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from indexer.adapters.heads import MESSAGE_BYTES_MAX, Heads
from tests.fakes.rpc_node import RpcError, ScriptedNode, faults

Say = Callable[[ScriptedNode], Awaitable[None]]
LOGS_REMOVED = {"address": "0x" + "cc" * 20, "topics": [], "data": "0x", "blockHash": "0x" + "12" * 32, "removed": True}


@pytest.fixture
async def script() -> AsyncIterator[ScriptedNode]:
    async with ScriptedNode() as script:
        script.chain.mine_empty(5)
        yield script


@pytest.fixture
async def heads(script: ScriptedNode) -> AsyncIterator[Heads]:
    """Listening, and awake once because it has subscribed."""
    heads = Heads(script.ws_url, timeout_s=0.3)
    listening = asyncio.ensure_future(heads.listen())
    assert await heads.wait(5) is not None
    yield heads
    assert not listening.done()
    listening.cancel()


async def no_more(heads: Heads) -> None:
    """Empties what was announced."""
    while await heads.wait(0.05) is not None:
        pass


async def again(script: ScriptedNode, heads: Heads) -> None:
    """It subscribes anew and is told of heads."""
    async with asyncio.timeout(10):
        await script.subscribed.wait()
        await no_more(heads)
        await script.announce()
        assert await heads.wait(5) is not None


async def out_of_order(script: ScriptedNode) -> None:
    newest, older = script.chain.head, script.chain.branch[2]
    await script.announce(newest, older, newest, newest)


async def orphan(script: ScriptedNode) -> None:
    left = script.chain.fork(at=2)
    script.chain.mine_empty(1)
    await script.announce(left)


@pytest.mark.parametrize(
    "say",
    [
        lambda script: script.announce(),
        out_of_order,
        orphan,
        lambda script: script.notify(LOGS_REMOVED),
        lambda script: script.notify({"blank": "x" * 2_000_000}),
        lambda script: script.say("no json"),
        lambda script: script.say('{"jsonrpc": "2.0", "error": {"code": -32000, "message": "dropped"}}'),
    ],
)
async def test_whatever_is_said_is_a_wake_up_and_nothing_more(script: ScriptedNode, heads: Heads, say: Say) -> None:
    await no_more(heads)
    await say(script)
    assert await heads.wait(5) is not None
    await no_more(heads)
    await again(script, heads)


@pytest.mark.parametrize(
    "say",
    [
        lambda script: script.say("x" * (MESSAGE_BYTES_MAX + 1)),
        lambda script: script.say(b"\x00" * (MESSAGE_BYTES_MAX + 1)),
        lambda script: script.hang_up(),
    ],
)
async def test_a_connection_that_breaks_is_told_each_time_and_comes_back_soon(
    script: ScriptedNode, heads: Heads, say: Say
) -> None:
    with capture_logs() as told:
        for _ in range(4):  # pauses that grow from one loss to the next would take 7 s by now
            script.subscribed.clear()
            await say(script)
            async with asyncio.timeout(4):
                await script.subscribed.wait()
    assert sum("lost" in line["event"] for line in told) == 4
    await again(script, heads)


@pytest.mark.parametrize(
    "fault", [faults.status(429, retry_after_s=1), faults.status(502), faults.hangs, faults.resets, faults.not_http]
)
async def test_a_handshake_that_fails_is_tried_again(script: ScriptedNode, fault: faults.Fault) -> None:
    rule = script.misbehave(fault, "ws_connect", times=2)
    heads = Heads(script.ws_url, timeout_s=0.3)
    listening = asyncio.ensure_future(heads.listen())
    await again(script, heads)
    assert rule.hits == 2
    assert not listening.done()
    listening.cancel()


async def test_a_refused_subscription_is_tried_again(script: ScriptedNode) -> None:
    rule = script.answer("eth_subscribe", RpcError(-32601, "no subscriptions here"), times=2)
    heads = Heads(script.ws_url, timeout_s=0.3)
    listening = asyncio.ensure_future(heads.listen())
    async with asyncio.timeout(10):
        while rule.hits < 2 or not script.times_asked("eth_subscribe") > 2:  # noqa: ASYNC110 - two conditions of a fake
            await asyncio.sleep(0.01)
    await again(script, heads)
    listening.cancel()


async def test_a_subscription_outlives_the_deadline_of_its_beginning(script: ScriptedNode, heads: Heads) -> None:
    assert await heads.wait(0.7) is None  # more than twice timeout_s
    assert script.times_asked("eth_subscribe") == 1
    await again(script, heads)
