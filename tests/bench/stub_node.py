"""A node that costs next to nothing: ``python -m tests.bench.stub_node FILE`` serves answers that are rendered already.

FILE is a pickled Rendered. Prints its port when it listens. ``POST /show/<branch>/<height>`` makes that block the head
and announces it; ``GET /served`` tells how often and until when each method was asked since, and the CPU used.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from aiohttp import WSMsgType, web

from tests.fakes.rpc_node.answers import block_object
from tests.fakes.rpc_node.chain import Block

NULL = b"null"


@dataclass(slots=True)
class Rendered:
    """Answers as bytes, by block hash, and which blocks each branch has by height."""

    blocks: dict[str, bytes] = field(default_factory=dict)
    logs: dict[str, bytes] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)  # as newHeads tells of it
    branches: list[list[str]] = field(default_factory=list)

    def add(self, branch: Sequence[Block]) -> None:
        """Renders a branch from genesis to its head."""
        self.branches.append([block.hash for block in branch])
        for block in branch:
            if block.hash not in self.blocks:
                self.blocks[block.hash] = json.dumps(block_object(block, full=False)).encode()
                self.logs[block.hash] = json.dumps(block.logs).encode()
                told = {"subscription": "0x1", "result": block.header}
                self.heads[block.hash] = json.dumps({"method": "eth_subscription", "params": told})


class Request(msgspec.Struct):
    """A question; all that differs is in ``params``."""

    id: int
    method: str
    params: list[Any]


class Stub:
    """Serves Rendered; finality never moves."""

    def __init__(self, rendered: Rendered) -> None:
        self._rendered = rendered
        self._branch: list[str] = rendered.branches[0]
        self._height = 0
        self._served: dict[str, list[float]] = {}  # method → how often, until when (Unix seconds)
        self._sockets: list[web.WebSocketResponse] = []
        self._decode = msgspec.json.Decoder(Request).decode

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/", self._answer)
        app.router.add_get("/", self._subscribe)
        app.router.add_post("/show/{branch}/{height}", self._show)
        app.router.add_get("/served", self._tell)
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        asked = self._decode(await request.read())
        served = self._served.setdefault(asked.method, [0, 0.0])
        served[0], served[1] = served[0] + 1, time.time()
        body = b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (asked.id, self._result(asked))
        return web.Response(body=body, content_type="application/json")

    def _result(self, asked: Request) -> bytes:
        match asked.method, asked.params:
            case "eth_getBlockByNumber", [place, _]:
                height = {"latest": self._height, "safe": 0, "finalized": 0}.get(place)
                height = int(place, 16) if height is None else height
                return self._rendered.blocks[self._branch[height]] if height <= self._height else NULL
            case "eth_getBlockByHash", [block_hash, _]:
                return self._rendered.blocks.get(block_hash, NULL)
            case "eth_getLogs", [{"blockHash": block_hash}]:
                return self._rendered.logs[block_hash]
            case "eth_chainId", _:
                return b'"0x7a69"'
        raise web.HTTPNotImplemented(text=str(asked))

    async def _subscribe(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str('{"jsonrpc": "2.0", "id": 1, "result": "0x1"}')
                self._sockets.append(socket)
        self._sockets.remove(socket)
        return socket

    async def _show(self, request: web.Request) -> web.Response:
        self._branch = self._rendered.branches[int(request.match_info["branch"])]
        self._height = int(request.match_info["height"])
        self._served.clear()
        now = time.time()
        for socket in self._sockets:
            await socket.send_str(self._rendered.heads[self._branch[self._height]])
        return web.json_response({"announced": now})

    async def _tell(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"served": self._served, "cpu_s": time.process_time(), "listeners": len(self._sockets)}
        )


async def main(rendered: Rendered) -> None:
    stub = Stub(rendered)
    runner = web.AppRunner(stub.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(pickle.loads(Path(sys.argv[1]).read_bytes())))
