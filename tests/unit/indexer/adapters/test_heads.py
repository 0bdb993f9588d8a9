"""newHeads over a real WebSocket: what announces a head, and what never ends the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from indexer.adapters.heads import Heads

Conversation = Callable[[web.WebSocketResponse], Awaitable[None]]
Serve = Callable[[Conversation], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    runners: list[web.AppRunner] = []

    async def start(talk: Conversation) -> str:
        async def handler(request: web.Request) -> web.StreamResponse:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await talk(socket)
            return socket

        app = web.Application()
        app.router.add_get("/key123", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        return f"ws://127.0.0.1:{runner.addresses[0][1]}/key123"

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_a_head_wakes_at_once_and_says_when_it_came(serve: Serve) -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        await socket.send_json({"jsonrpc": "2.0", "id": 1, "result": "0x1"})
        await socket.send_json({"method": "eth_subscription", "params": {}})
        await socket.receive()

    heads = Heads(await serve(talk))
    listening = asyncio.ensure_future(heads.listen())
    assert await heads.wait(5) is not None
    listening.cancel()


async def test_without_a_head_the_wait_ends_by_itself() -> None:
    heads = Heads(None)
    await heads.listen()
    assert await heads.wait(0.01) is None


@pytest.mark.parametrize("answer", ["", "not json", '{"error": {"code": -32601, "message": "no subscriptions"}}'])
async def test_an_endpoint_that_closes_or_talks_nonsense_is_tried_again(serve: Serve, answer: str) -> None:
    attempts: list[str] = []
    third = asyncio.Event()

    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        attempts.append(answer)
        if answer:
            await socket.send_str(answer)
        await socket.close()
        if len(attempts) == 3:
            third.set()

    heads = Heads(await serve(talk))
    listening = asyncio.ensure_future(heads.listen())
    async with asyncio.timeout(20):
        await third.wait()
    assert not listening.done()
    listening.cancel()


async def test_a_refused_handshake_never_logs_the_key(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    url = (await serve(lambda socket: asyncio.sleep(0))).replace("key123", "key456")
    heads = Heads(url)
    listening = asyncio.ensure_future(heads.listen())
    await asyncio.wait({listening}, timeout=1)
    assert not listening.done()
    listening.cancel()
    assert "key456" not in caplog.text


async def test_a_cancellation_is_never_swallowed_by_a_head() -> None:
    heads = Heads(None)
    waiting = asyncio.ensure_future(heads.wait(10))
    await asyncio.sleep(0)
    heads._announce()  # in the same turn of the loop as the cancellation
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
