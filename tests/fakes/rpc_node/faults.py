"""How an answer's way over HTTP goes wrong: statuses, silence, cuts, wrong encodings, too much of it, wrong ids.

A fault gets the request and the honest body, and makes the response. What an answer *says* is scripted with
``ScriptedNode.answer``.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

Fault = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]
CHUNK: Final = 64 * 1024


def status(code: int, text: str = "", *, retry_after_s: float | None = None) -> Fault:
    """Another HTTP status, with a Retry-After if one is given."""
    headers = {} if retry_after_s is None else {"Retry-After": f"{retry_after_s:g}"}

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.Response(status=code, text=text, headers=headers)

    return respond


def moved(url: str) -> Fault:
    """A redirection."""

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": url})

    return respond


def says(text: str | bytes, *, headers: dict[str, str] | None = None) -> Fault:
    """HTTP 200 with whatever text."""
    raw = text.encode() if isinstance(text, str) else text

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.Response(body=raw, headers=headers)

    return respond


async def hangs(request: web.Request, body: bytes) -> web.StreamResponse:
    """No answer, until the client gives up or the node is closed."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def stalls(request: web.Request, body: bytes) -> web.StreamResponse:
    """Half of the body, then nothing."""
    response = await _begun(request, len(body))
    await response.write(body[: len(body) // 2])
    await asyncio.Event().wait()
    return response


async def cuts(request: web.Request, body: bytes) -> web.StreamResponse:
    """Half of the body, then the connection ends."""
    response = await _begun(request, len(body))
    await response.write(body[: len(body) // 2])
    assert request.transport is not None
    request.transport.close()
    return response


async def resets(request: web.Request, body: bytes) -> web.StreamResponse:
    """A TCP reset instead of an answer."""
    assert request.transport is not None
    raw = request.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return web.Response()


async def not_http(request: web.Request, body: bytes) -> web.StreamResponse:
    """Bytes that are no HTTP at all."""
    assert request.transport is not None
    request.transport.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")  # type: ignore[attr-defined]
    request.transport.close()
    return web.Response()


def oversized(size: int) -> Fault:
    """A valid answer that blanks blow up to ``size`` bytes, its length not announced."""

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(body[:-1])
        blank = b" " * CHUNK
        for _ in range(size // CHUNK):
            await response.write(blank)
        await response.write(body[-1:])
        return response

    return respond


def zipped(*, blanks: int = 0) -> Fault:
    """The same answer as gzip, if wanted a bomb: so many blanks before the last byte."""

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        packer = zlib.compressobj(wbits=31)
        blank = packer.compress(body[:-1]) + b"".join(packer.compress(b" " * CHUNK) for _ in range(blanks // CHUNK))
        packed = blank + packer.compress(body[-1:]) + packer.flush()
        return web.Response(body=packed, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    return respond


def rewritten(change: Callable[[Any], Any]) -> Fault:
    """The answer's JSON, changed as a whole: ids, members, order of a batch."""

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.json_response(change(json.loads(body)))

    return respond


def foreign_id() -> Fault:
    """An answer to another question, as proxies mix them up."""
    return rewritten(lambda answer: answer | {"id": 4_000_000_000})


def in_a_batch() -> Fault:
    """A list of one instead of the answer."""
    return rewritten(lambda answer: [answer])


def drops_from_batch(index: int) -> Fault:
    """A batch's replies without one of them."""
    return rewritten(lambda answers: [a for i, a in enumerate(answers) if i != index])


def reverses_batch() -> Fault:
    """A batch's replies in another order."""
    return rewritten(lambda answers: answers[::-1])


async def _begun(request: web.Request, length: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(length)})
    await response.prepare(request)
    return response
