"""A change below finality, from the latch to the books being right again: on a real node and a real broker."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.indexer.rig import PAID, Rig, header


async def latched(rig: Rig) -> dict[str, Any]:
    """Starts the indexer until it latches and stops it; the latch as ``status`` tells it."""
    process = await rig.start()

    async def says_so() -> bool:
        return "latched:" in rig.log()

    await rig.until("it latches", says_so, process)
    assert await rig.stop(process) == 4
    return await latch(rig)


async def latch(rig: Rig) -> dict[str, Any]:
    _, out = await rig.command("status", "--json")
    found: dict[str, Any] = json.loads(out)["latch"]
    return found


async def violated(rig: Rig, *, depth: int = 14) -> dict[str, Any]:
    """Payments in every block, some final; then a reorg below finality with other payments in its place."""
    process = await rig.start()
    for number in range(16):
        await rig.till.pay()
        if number == 6:
            await rig.till.emit([PAID, b"\x01" * 32], b"\xff" * 31)
        await rig.till.mine()
    await rig.until_published(await rig.till.head())
    assert await rig.stop(process) == 0
    await rig.till.call("anvil_reorg", depth, [])
    for _ in range(3):
        await rig.till.pay(amount=77)
        await rig.till.mine(2)
    return await latched(rig)


async def resolved(rig: Rig, block_hash: str, **settings: str) -> dict[str, Any]:
    code, out = await rig.command("resolve", "--block-hash", block_hash, "--yes", "--json", **settings)
    assert code == 0, out
    document: dict[str, Any] = json.loads(out[out.index("{\n") :])
    assert document["resolved"]
    return document


async def check_follows(rig: Rig) -> None:
    """``run`` goes on, and what stands is the chain; what is final stands on the final topic, and nothing else."""
    process = await rig.start()
    await rig.till.pay(amount=5)
    await rig.till.mine(10)
    head = await rig.till.head()
    await rig.until_published(head)
    await rig.check_equals_chain()
    on_chain = await rig.on_chain()

    async def final() -> bool:
        return await rig.finals() == [log for log in on_chain if log[0] <= head - 8]

    await rig.until("finals", final, process)
    assert await rig.stop(process) == 0


async def test_a_violation_is_resolved_and_the_indexer_goes_on(rig: Rig) -> None:
    found = await violated(rig)
    before = await rig.events()
    code, out = await rig.command("resolve", "--block-hash", found["seen"]["hash"], "--json")
    assert code == 4, out
    assert await rig.events() == before
    document = await resolved(rig, found["seen"]["hash"])
    records = [json.loads(r.value) for r in await rig.read(rig.topics.events)]
    revoked = [e for e in records if e["op"] == "revoked"]
    originals = {e["event_id"]: e for e in before if e["op"] == "applied"}
    assert revoked
    for event in revoked:
        original = originals[event["event_id"]]
        assert event == original | {"op": "revoked", "revision": 2, "incident_id": document["incident_id"]}
    places = [(e["block_number"], e["log_index"]) for e in revoked]
    assert places == sorted(places, reverse=True)
    assert document["revoked"]["events"] == [{"contract": "till", "book": "till", "count": len(revoked)}]
    ops = [header(r, "op") for r in await rig.read(rig.topics.rejected)]
    assert ops == ["rejected", "retracted"]
    await check_follows(rig)
