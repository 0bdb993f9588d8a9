"""What the indexer tells about itself while it runs: liveness, readiness with reasons, metrics, spans."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import aiohttp

from deploy.local import ports
from tests.integration.indexer.rig import Rig, header


async def get(url: str) -> tuple[int, str]:
    try:
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            return response.status, await response.text()
    except aiohttp.ClientError:
        return 0, ""


async def test_health_readiness_metrics_and_a_trace(rig: Rig) -> None:
    port = ports.free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"
    trace = rig.folder / "spans.jsonl"
    process = await rig.start(
        TELEMETRY__PORT=str(port),
        TELEMETRY__TRACE_FILE=str(trace),
        INDEXER__HEAD_LAG_MAX_S="1",
        CHAIN__RPC_TIMEOUT_S="0.5",
    )

    async def ready() -> bool:
        return (await get(f"{url}/readyz"))[0] == 200

    async def unready() -> Any:
        status, text = await get(f"{url}/readyz")
        return json.loads(text)["reasons"] if status == 503 else None

    await rig.until("ready", ready)
    assert (await get(f"{url}/healthz"))[0] == 200
    await rig.till.pay()
    await rig.till.mine(2)
    head = await rig.till.head()
    await rig.until_published(head)
    await rig.till.call("anvil_reorg", 1, [])
    await rig.till.mine()
    await rig.until_published(head + 1)
    _, metrics = await get(f"{url}/metrics")
    assert f'chainbooks_indexer_head{{chain="local"}} {head + 1}.0' in metrics
    assert 'chainbooks_indexer_events_total{chain="local",op="applied"} 1.0' in metrics
    assert 'chainbooks_indexer_reorgs_total{chain="local"} 1.0' in metrics
    os.kill(rig.node.pid, signal.SIGSTOP)
    reasons = await rig.until("not ready without a node", unready)
    os.kill(rig.node.pid, signal.SIGCONT)
    assert any("node" in reason for reason in reasons)
    await rig.until("ready again", ready)
    assert await rig.stop(process) == 0
    (record,) = [r for r in await rig.read(rig.topics.events) if header(r, "op") == "applied"]
    trace_id = header(record, "traceparent").split("-")[1]
    spans = [json.loads(line) for line in trace.read_text().splitlines()]
    assert any(span["context"]["trace_id"] == f"0x{trace_id}" for span in spans)
