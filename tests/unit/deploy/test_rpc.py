"""The connection to a node, against a real HTTP server: deadlines, sizes, statuses, and no key in any message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from deploy.runtime import rpc
from deploy.runtime.rpc import RpcTransportError, connect

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    runners: list[web.AppRunner] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_post("/secret-key", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        return f"http://user:password@127.0.0.1:{runner.addresses[0][1]}/secret-key?token=abc"

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_web3_works_over_the_provider(serve: Serve) -> None:
    async def answer(request: web.Request) -> web.Response:
        sent = await request.json()
        return web.json_response({"jsonrpc": "2.0", "id": sent["id"], "result": "0x7a69"})

    async with connect(await serve(answer)) as node:
        assert await node.web3.eth.chain_id == 31337


async def test_an_answer_of_any_announced_length_is_bounded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "RESPONSE_BYTES_MAX", 10_000)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"x" * 1_000)
        return response

    async with connect(await serve(endless)) as node:
        with pytest.raises(RpcTransportError, match="more than 10000 bytes"):
            await node.provider.post(b"{}")


async def test_no_answer_in_time_is_an_error_and_the_next_request_works(serve: Serve) -> None:
    slow = asyncio.Event()

    async def first_hangs(request: web.Request) -> web.Response:
        if not slow.is_set():
            slow.set()
            await asyncio.Event().wait()
        return web.Response(text="ok")

    async with connect(await serve(first_hangs), timeout_s=0.2) as node:
        with pytest.raises(RpcTransportError, match="no answer in time") as caught:
            await node.provider.post(b"{}")
        assert await node.provider.post(b"{}") == b"ok"
    assert "secret-key" not in str(caught.value)
    assert "password" not in str(caught.value)


async def test_a_status_other_than_200_is_an_error_with_the_status(serve: Serve) -> None:
    async def limited(request: web.Request) -> web.Response:
        return web.Response(status=429, text="slow down")

    async with connect(await serve(limited)) as node:
        with pytest.raises(RpcTransportError, match="HTTP 429: slow down") as caught:
            await node.provider.post(b"{}")
    assert caught.value.status == 429
    assert "secret-key" not in str(caught.value)
