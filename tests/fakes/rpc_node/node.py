"""The node itself: serves a chain over HTTP and WebSocket on loopback, and does what the test's script says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import WSMsgType, web

from tests.fakes.rpc_node.answers import RpcError, honest
from tests.fakes.rpc_node.chain import Block, Chain, Json
from tests.fakes.rpc_node.faults import Fault


@dataclass(frozen=True, slots=True)
class Call:
    """One question that was asked."""

    method: str
    params: Sequence[Any] = ()


Lie = Callable[[Call, Any], Any]
"""The honest result of a call, as it is to be told; may raise RpcError."""


@dataclass(slots=True, kw_only=True)
class Rule:
    """One line of the script. ``hits`` says how often it was followed: a test that expects none has tested nothing."""

    method: str | None
    lie: Lie | None = None
    fault: Fault | None = None
    when: Callable[[Call], bool] = lambda call: True
    times: int | None = None
    hits: int = 0

    def follows(self, call: Call) -> bool:
        """Whether it is for this call; counts."""
        spent = self.times is not None and self.hits >= self.times
        if spent or self.method not in (None, call.method) or not self.when(call):
            return False
        self.hits += 1
        return True

    def stop(self) -> None:
        self.times = self.hits


class ScriptedNode:
    """Honest until told otherwise. Use as an async context; ``die`` and ``revive`` keep the port."""

    def __init__(self, chain: Chain | None = None) -> None:
        self.chain = chain or Chain()
        self.asked: list[Call] = []
        self.subscribers: list[web.WebSocketResponse] = []
        self.subscribed = asyncio.Event()
        self.port = 0
        self._rules: list[Rule] = []
        self._runner: web.AppRunner | None = None

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.revive()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.die()

    async def die(self) -> None:
        """Every connection ends, nobody listens any more."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def revive(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/", self._post)
        app.router.add_get("/", self._socket)
        self._runner = web.AppRunner(app, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    def answer(
        self,
        method: str,
        what: Any,
        *,
        times: int | None = None,
        when: Callable[[Call], bool] = lambda call: True,
    ) -> Rule:
        """From now on the answer to ``method`` is ``what``: a result, an RpcError, or a Lie that makes one."""

        def constant(call: Call, result: Any) -> Any:
            if isinstance(what, RpcError):
                raise what
            return what

        lie: Lie = what if callable(what) else constant
        return self._add(Rule(method=method, lie=lie, times=times, when=when))

    def misbehave(
        self,
        fault: Fault,
        method: str | None = None,
        *,
        times: int | None = None,
        when: Callable[[Call], bool] = lambda call: True,
    ) -> Rule:
        """From now on answers go wrong on their way (``faults``). A batch follows the rule of its first call."""
        return self._add(Rule(method=method, fault=fault, times=times, when=when))

    def behave(self) -> None:
        """Honest again."""
        self._rules.clear()

    def times_asked(self, method: str) -> int:
        return sum(call.method == method for call in self.asked)

    async def announce(self, *blocks: Block) -> None:
        """newHeads notifications of these blocks, in this order; without any, of the head."""
        for block in blocks or (self.chain.head,):
            await self.notify(block.header)

    async def notify(self, result: Any) -> None:
        """One notification with whatever content, to every subscriber."""
        await self.say(
            json.dumps(
                {"jsonrpc": "2.0", "method": "eth_subscription", "params": {"subscription": "0x1", "result": result}}
            )
        )

    async def say(self, text: str | bytes) -> None:
        """Whatever text (or bytes) to every subscriber; who hangs up meanwhile may."""
        for socket in list(self.subscribers):
            with contextlib.suppress(ConnectionError):
                await (socket.send_str(text) if isinstance(text, str) else socket.send_bytes(text))

    async def hang_up(self) -> None:
        """Closes every WebSocket."""
        for socket in list(self.subscribers):
            await socket.close()

    def _add(self, rule: Rule) -> Rule:
        self._rules.insert(0, rule)  # the newest line of the script comes first
        return rule

    async def _post(self, request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.read())
        first = asked[0] if isinstance(asked, list) else asked
        fault = self._fault(Call(first["method"], first.get("params", [])))
        replies = [self._reply(item) for item in asked] if isinstance(asked, list) else self._reply(asked)
        body = json.dumps(replies).encode()
        if fault is not None:
            return await fault(request, body)
        return web.Response(body=body, content_type="application/json")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        fault = self._fault(Call("ws_connect"))
        if fault is not None:
            return await fault(request, b"")
        await socket.prepare(request)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    asked = json.loads(message.data)
                    await socket.send_str(json.dumps(self._reply(asked)))
                    if asked["method"] == "eth_subscribe":
                        self.subscribers.append(socket)
                        self.subscribed.set()
        finally:
            if socket in self.subscribers:
                self.subscribers.remove(socket)
        return socket

    def _fault(self, call: Call) -> Fault | None:
        return next((rule.fault for rule in self._rules if rule.fault and rule.follows(call)), None)

    def _reply(self, asked: Json) -> Json:
        call = Call(asked["method"], asked.get("params", []))
        self.asked.append(call)
        envelope: Json = {"jsonrpc": "2.0", "id": asked["id"]}
        try:
            return envelope | {"result": self._result(call)}
        except RpcError as error:
            return envelope | {"error": error.body}

    def _result(self, call: Call) -> Any:
        rule = next((rule for rule in self._rules if rule.lie and rule.follows(call)), None)
        if call.method == "eth_subscribe":
            return "0x1" if rule is None or rule.lie is None else rule.lie(call, "0x1")
        try:
            result = honest(self.chain, call.method, call.params)
        except RpcError:
            if rule is None:
                raise
            result = None
        return result if rule is None or rule.lie is None else rule.lie(call, result)
