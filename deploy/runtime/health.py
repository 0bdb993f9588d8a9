"""The health server of a service: ``/healthz`` (the process lives), ``/readyz`` (it is right), ``/metrics``.

It listens on loopback unless told otherwise, answers GET only, and never changes anything. What "right" means is the
service's decision: it hands in a function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog
from aiohttp import web

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """``ready``: synced, not latched, not stalled, lag under the SLO. ``reasons``: why not, one sentence each."""

    ready: bool
    reasons: list[str]


class HealthServer:
    """Use as an async context. ``port`` is the one it really listens on after entering (0 asks for any free one)."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        readiness: Callable[[], Readiness],
        exposition: Callable[[], tuple[bytes, str]],
    ) -> None:
        self.host = host
        self.port = port
        self._readiness = readiness
        self._exposition = exposition
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        """Raises OSError when the address cannot be listened on."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = runner.addresses[0][1]
        _log.info("health server listens", url=self.url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _readyz(self, _request: web.Request) -> web.Response:
        try:
            readiness = self._readiness()
        except Exception as exc:  # not knowing is not being ready; the probe must get an answer either way
            _log.error("readiness could not be judged", error=repr(exc))
            readiness = Readiness(ready=False, reasons=[f"readiness could not be judged: {type(exc).__name__}"])
        body = {"ready": readiness.ready, "reasons": readiness.reasons}
        return web.json_response(body, status=200 if readiness.ready else 503)

    async def _metrics(self, _request: web.Request) -> web.Response:
        body, content_type = self._exposition()
        return web.Response(body=body, headers={"Content-Type": content_type})
