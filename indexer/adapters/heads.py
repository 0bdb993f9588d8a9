"""Wake-ups for new heads: ``eth_subscribe newHeads`` over WebSocket, with polling as the fallback.

Only the fact that something arrived is used; all data comes over HTTP, where it can be checked and asked for again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import aiohttp
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from deploy.runtime.settings import redacted

_log = structlog.get_logger(__name__)
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
SUBSCRIBE = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}


class SubscriptionLost(Exception):
    """The WebSocket closed, or the node refused the subscription."""


LOST: Final = (SubscriptionLost, aiohttp.ClientError, OSError, TimeoutError)


class Heads:
    """``listen`` runs beside the pipeline; ``wait`` returns at once when a head came, else after the timeout."""

    def __init__(self, url: str | None, *, timeout_s: float = 10.0) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._announced = asyncio.Event()
        self._received_ms = 0

    async def wait(self, timeout_s: float) -> int | None:
        """Unix ms at which the newest announcement arrived, or None when the time is over (polling)."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._announced.wait()
        except TimeoutError:
            return None
        self._announced.clear()
        return self._received_ms

    async def listen(self) -> None:
        """Keeps the subscription; returns at once without a URL. A lost connection is a log line, never an error.

        The pauses between attempts grow until one succeeds, and count anew after it.
        """
        if self._url is None:
            return
        name = redacted(self._url)
        while True:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(LOST),
                wait=wait_random_exponential(multiplier=0.5, max=15),
                before_sleep=lambda state: _tell_first(state, name),
            ):
                with attempt:
                    async with self._subscription(name) as socket:
                        await self._hear(socket)
            _log.warning("newHeads lost: polling until it is back", node=name, reason="the subscription ended")
            await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311  # jitter is no secret

    @asynccontextmanager
    async def _subscription(self, name: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A connection that has confirmed the subscription. Raises one of LOST."""
        assert self._url is not None
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(aiohttp.ClientSession())
            async with asyncio.timeout(self._timeout_s):
                connecting = http.ws_connect(self._url, heartbeat=20.0, max_msg_size=MESSAGE_BYTES_MAX)
                socket = await stack.enter_async_context(connecting)
                await socket.send_json(SUBSCRIBE)
                answer = await socket.receive()
            if answer.type is not aiohttp.WSMsgType.TEXT or '"result"' not in str(answer.data):
                raise SubscriptionLost(f"refused eth_subscribe: {answer.type.name} {str(answer.data)[:200]}")
            _log.info("newHeads subscribed", node=name)
            yield socket

    async def _hear(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Until the connection ends, however it does."""
        self._announce()  # whatever came while we were away
        try:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._announce()
        except LOST as exc:
            _log.debug("newHeads broke off", reason=type(exc).__name__)

    def _announce(self) -> None:
        self._received_ms = time.time_ns() // 1_000_000
        self._announced.set()


def _tell_first(state: RetryCallState, name: str) -> None:
    if state.attempt_number == 1 and state.outcome is not None:
        reason = _why(state.outcome.exception())
        _log.warning("newHeads cannot be had: polling until it can", node=name, reason=reason)


def _why(failure: BaseException | None) -> str:
    """Without the URL: it may hold a key, and aiohttp puts it into its messages."""
    if isinstance(failure, aiohttp.WSServerHandshakeError):
        return f"the node answered HTTP {failure.status} to the handshake"
    return str(failure) if isinstance(failure, SubscriptionLost) else type(failure).__name__
