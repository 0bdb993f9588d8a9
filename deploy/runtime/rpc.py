"""The JSON-RPC connection that both services use: AsyncWeb3 over an HTTP provider of our own.

web3's own HTTP session manager takes one process-wide lock for every request, and a request that is cancelled by a
timeout can leave it held; it also closes every connection after use. So the provider keeps one aiohttp session with
keep-alive and never retries: retrying is the caller's decision. It never puts a URL's path, query or credentials into a
message: they may hold keys.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final, Self

import aiohttp
from eth_typing import URI
from web3 import AsyncWeb3
from web3.providers import AsyncHTTPProvider
from web3.types import RPCEndpoint

from deploy.runtime.settings import redacted

RESPONSE_BYTES_MAX: Final = 64 * 1024 * 1024
REFUSAL_BYTES_MAX: Final = 16 * 1024
PAUSE_S_MAX: Final = 60.0  # no Retry-After is obeyed for longer
NESTING_MAX: Final = 1_000  # Python's own default

# py_ecc, which web3 imports, sets 100,000: more than the stack holds, so that one deeply nested answer from a node
# would end the process instead of raising RecursionError.
sys.setrecursionlimit(NESTING_MAX)


class RpcTransportError(Exception):
    """The node could not be reached, did not answer in time, or did not answer with HTTP 200.

    ``status`` is the HTTP status, or None when there was no answer; ``too_much`` says that the answer was too slow or
    too large, so that asking for less may help. ``body`` is what came with a status of 400 or 413 and looks like a JSON
    object: some nodes send their JSON-RPC error that way.
    """

    def __init__(
        self, message: str, *, status: int | None = None, too_much: bool = False, body: bytes | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.too_much = too_much
        self.body = body


def _seconds(retry_after: str) -> float:
    """The seconds of a Retry-After header; 0 for a date, which nodes do not send, and for nonsense."""
    try:
        seconds = float(retry_after)
    except ValueError:
        return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0


class HttpProvider(AsyncHTTPProvider):
    """AsyncHTTPProvider with one keep-alive session, a deadline per request and a bound on the answer's size."""

    def __init__(self, url: str, *, timeout_s: float = 10.0, connections_max: int = 16) -> None:
        super().__init__(URI(url), exception_retry_configuration=None)
        self.name = redacted(url)
        self._timeout_s = timeout_s
        self._connections_max = connections_max
        self._session: aiohttp.ClientSession | None = None
        self._paused_until = 0.0  # on time.monotonic(); the node asked for it

    def __str__(self) -> str:
        return f"RPC connection {self.name}"

    async def _make_request(self, method: RPCEndpoint, request_data: bytes) -> bytes:
        del method
        return await self.post(request_data)

    async def post(self, request_data: bytes) -> bytes:
        """Sends one JSON-RPC request body and returns the raw answer. Raises RpcTransportError.

        While a Retry-After of the node runs, nothing is sent: the error comes at once.
        """
        left_s = self._paused_until - time.monotonic()
        if left_s > 0:
            raise RpcTransportError(f"{self.name} asked for a pause, {left_s:.1f} s are left", status=429)
        try:
            async with self._connected().post(
                str(self.endpoint_uri), data=request_data, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise await self._refusal(response)
                return await self._bounded(response)
        except (TimeoutError, aiohttp.ClientError, OSError) as exc:
            late = isinstance(exc, TimeoutError)
            why = "no answer in time" if late else type(exc).__name__
            raise RpcTransportError(f"{self.name} could not be asked: {why}", too_much=late) from exc

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections_max, keepalive_timeout=60),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                headers={"Content-Type": "application/json", "User-Agent": "chainbooks"},
            )
        return self._session

    async def _refusal(self, response: aiohttp.ClientResponse) -> RpcTransportError:
        """What another status than 200 means; a Retry-After begins to run."""
        pause_s = _seconds(response.headers.get("Retry-After", ""))
        if pause_s:
            self._paused_until = time.monotonic() + min(pause_s, PAUSE_S_MAX)
        sent = await response.content.read(REFUSAL_BYTES_MAX)
        text = sent[:300].decode("utf-8", "replace")
        return RpcTransportError(
            f"{self.name} answered HTTP {response.status}: {text}",
            status=response.status,
            body=sent if response.status in (400, 413) and sent.lstrip().startswith(b"{") else None,
        )

    async def _bounded(self, response: aiohttp.ClientResponse) -> bytes:
        """The body, whatever length the node announces; never more than RESPONSE_BYTES_MAX of it in memory."""
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > RESPONSE_BYTES_MAX:
                raise RpcTransportError(f"{self.name} sent more than {RESPONSE_BYTES_MAX} bytes", too_much=True)
            chunks.append(chunk)
        return b"".join(chunks)

    async def disconnect(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


class Rpc:
    """One node: ``web3`` for whatever is not hot, ``post`` of the provider for what is. Use as an async context."""

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        self.provider = HttpProvider(url, timeout_s=timeout_s)
        self.web3: AsyncWeb3[HttpProvider] = AsyncWeb3(self.provider)

    @property
    def name(self) -> str:
        """The URL without anything secret."""
        return self.provider.name

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.provider.disconnect()


def connect(url: str, *, timeout_s: float = 10.0) -> Rpc:
    """A node by URL; nothing is sent yet."""
    return Rpc(url, timeout_s=timeout_s)
