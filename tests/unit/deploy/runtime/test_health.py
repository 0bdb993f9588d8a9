"""The health server: it lives, it is right or says why not, and it shows the metrics. Loopback, any free port."""

from __future__ import annotations

import socket
from collections.abc import Callable

import aiohttp
import pytest

from deploy.runtime import telemetry
from deploy.runtime.health import HealthServer, Readiness


def server(readiness: Callable[[], Readiness], *, port: int = 0) -> HealthServer:
    return HealthServer(
        host="127.0.0.1", port=port, readiness=readiness, exposition=lambda: (b"metric 1\n", "text/plain")
    )


def ready() -> Readiness:
    return Readiness(ready=True, reasons=[])


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def test_it_tells_that_it_lives_and_shows_metrics() -> None:
    async with server(ready) as running:
        assert (await get(f"{running.url}/healthz"))[0] == 200
        assert await get(f"{running.url}/readyz") == (200, '{"ready": true, "reasons": []}')
        assert await get(f"{running.url}/metrics") == (200, "metric 1\n")


async def test_not_ready_is_503_with_the_reasons_while_it_lives() -> None:
    async with server(lambda: Readiness(ready=False, reasons=["latched at block 7"])) as running:
        status, body = await get(f"{running.url}/readyz")
        assert status == 503
        assert "latched at block 7" in body
        assert (await get(f"{running.url}/healthz"))[0] == 200


async def test_a_readiness_that_cannot_be_judged_is_not_ready() -> None:
    def broken() -> Readiness:
        raise RuntimeError("no view yet")

    async with server(broken) as running:
        status, body = await get(f"{running.url}/readyz")
    assert status == 503
    assert "RuntimeError" in body


async def test_a_taken_port_is_an_oserror_at_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="address already in use"):
        await server(ready, port=taken.getsockname()[1]).__aenter__()


async def test_the_exposition_of_real_metrics_is_prometheus_text() -> None:
    measured = telemetry.start(service="chainbooks-test", instance="a", chain="local")
    try:
        measured.meter.create_counter("chainbooks_test_events").add(3, {"op": "applied"})
        async with HealthServer(host="127.0.0.1", port=0, readiness=ready, exposition=measured.exposition) as running:
            status, body = await get(f"{running.url}/metrics")
    finally:
        measured.shutdown()
    assert status == 200
    assert 'chainbooks_test_events_total{op="applied"} 3.0' in body.splitlines()
    assert "process_resident_memory_bytes" in body
