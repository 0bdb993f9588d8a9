"""Wake-ups for new heads: ``eth_subscribe newHeads`` over WebSocket, with polling as the fallback.

Only the fact that something arrived is used; all data comes over HTTP, where it can be checked and asked for again.
"""

from __future__ import annotations

import asyncio
import time

import aiohttp
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from deploy.runtime.rpc import redacted

_log = structlog.get_logger(__name__)
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
SUBSCRIBE = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}


class SubscriptionLost(Exception):
    """The WebSocket closed, or the node refused the subscription."""


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
        """Keeps the subscription; returns at once without a URL. A lost connection is a log line, never an error."""
        if self._url is None:
            return
        name = redacted(self._url)

        def lost(attempt: RetryCallState) -> None:
            if attempt.attempt_number == 1 and attempt.outcome is not None:
                _log.warning(
                    "newHeads lost: polling until it is back", node=name, reason=_why(attempt.outcome.exception())
                )

        while True:
            retrying = AsyncRetrying(
                retry=retry_if_exception_type((SubscriptionLost, aiohttp.ClientError, OSError, TimeoutError)),
                wait=wait_random_exponential(multiplier=0.5, max=15),
                before_sleep=lost,
            )
            await retrying(self._subscribed, name)

    async def _subscribed(self, name: str) -> None:
        """One connection's life. Always ends by an exception, so that there is a pause before the next."""
        assert self._url is not None
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(self._url, heartbeat=20.0, max_msg_size=MESSAGE_BYTES_MAX) as socket,
        ):
            await socket.send_json(SUBSCRIBE)
            answer = await socket.receive(timeout=self._timeout_s)
            if answer.type is not aiohttp.WSMsgType.TEXT or '"result"' not in str(answer.data):
                raise SubscriptionLost(f"refused eth_subscribe: {answer.type.name} {str(answer.data)[:200]}")
            _log.info("newHeads subscribed", node=name)
            self._announce()  # whatever came while we were away
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._announce()
        raise SubscriptionLost("the subscription ended")

    def _announce(self) -> None:
        self._received_ms = time.time_ns() // 1_000_000
        self._announced.set()


def _why(failure: BaseException | None) -> str:
    """Without the URL: it may hold a key, and aiohttp puts it into its messages."""
    if isinstance(failure, aiohttp.WSServerHandshakeError):
        return f"the node answered HTTP {failure.status} to the handshake"
    return str(failure) if isinstance(failure, SubscriptionLost) else type(failure).__name__
