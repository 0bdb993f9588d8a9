"""Following a real node into a real broker: every event once, in order, through reorgs, finality and restarts."""

from __future__ import annotations

import json
import signal

import aiohttp

from contracts.messages import event_id
from deploy.local import ports
from tests.integration.indexer.rig import PAID, Rig, header


async def test_history_and_live_events_are_published_once_and_in_order(rig: Rig) -> None:
    for _ in range(20):
        await rig.till.pay()
        await rig.till.mine()
    process = await rig.start()
    await rig.until_published(await rig.till.head())
    for _ in range(5):
        await rig.till.pay()
        await rig.till.pay()
        await rig.till.mine()
    await rig.until_published(await rig.till.head())
    await rig.check_equals_chain()
    events = await rig.events()
    assert [int(e["args"]["seq"]) for e in events] == list(range(1, 31))
    assert events[0]["event_id"] == event_id(
        chain_id=31337, block_hash=bytes.fromhex(events[0]["block_hash"][2:]), position=events[0]["log_index"]
    )
    assert await rig.stop(process) == 0


async def test_the_final_topic_gets_each_event_once_when_its_block_is_final(rig: Rig) -> None:
    process = await rig.start()
    for _ in range(14):
        await rig.till.pay()
        await rig.till.mine()
    head = await rig.till.head()
    await rig.until_published(head)

    async def finals() -> list[int]:
        records = [r for r in await rig.read(rig.topics.final) if header(r, "op") == "finalized"]
        return [json.loads(r.value)["block_number"] for r in records]

    async def complete() -> bool:
        return len(await finals()) >= head - 8 - 1  # the contract was made in block 1

    await rig.until("final events", complete)
    assert await finals() == list(range(2, head - 8 + 1))
    await rig.check_streams()
    assert await rig.stop(process) == 0


async def test_a_reorg_retracts_the_whole_payload_newest_first_and_applies_the_new_branch(rig: Rig) -> None:
    process = await rig.start()
    txs = []
    for _ in range(4):
        txs.append(await rig.till.pay())
        await rig.till.mine()
    await rig.until_published(await rig.till.head())
    before = await rig.events()
    # the last three blocks are replaced: the payments of the first two are dropped, another one comes in their place
    await rig.till.call("anvil_reorg", 3, [])
    await rig.till.pay(amount=77)
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    await rig.check_equals_chain()
    events = await rig.events()
    retracted = [e for e in events if e["op"] == "retracted"]
    assert [e["event_id"] for e in retracted] == [e["event_id"] for e in reversed(before[-3:])]
    originals = {e["event_id"]: e for e in before}
    for event in retracted:
        assert event == originals[event["event_id"]] | {"op": "retracted", "revision": 2}
    assert events[-1]["amounts"][0]["base_units"] == "77"
    assert await rig.stop(process) == 0


async def test_a_payment_that_moves_to_another_block_is_another_event(rig: Rig) -> None:
    process = await rig.start()
    await rig.till.pay(amount=5)
    await rig.till.mine(2)
    await rig.until_published(await rig.till.head())
    (first,) = await rig.events()
    payload = await rig.till.call("eth_getTransactionByHash", first["tx_hash"])
    again = {key: payload[key] for key in ("from", "to", "gas", "nonce")} | {"data": payload["input"]}
    await rig.till.call("anvil_reorg", 2, [[again, 1]])
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    await rig.check_equals_chain()
    applied, retracted, moved = await rig.events()
    assert (applied["op"], retracted["op"], moved["op"]) == ("applied", "retracted", "applied")
    assert moved["block_number"] == first["block_number"] + 1
    assert moved["event_id"] != first["event_id"]
    assert moved["args"] == first["args"]
    assert await rig.stop(process) == 0


async def test_a_head_that_goes_backwards_retracts_nothing(rig: Rig) -> None:
    port = ports.free_ports(1)[0]
    process = await rig.start(TELEMETRY__PORT=str(port))
    await rig.till.pay()
    await rig.till.mine(3)
    head = await rig.till.head()
    await rig.until_published(head)
    before = await rig.events()
    await rig.till.call("anvil_rollback", 2)
    assert await rig.till.head() == head - 2

    async def looked() -> bool:
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/metrics") as response:
            return f'chainbooks_indexer_node_head{{chain="local"}} {head - 2}.0' in await response.text()

    await rig.until("a look at the lower head", looked)
    assert await rig.events() == before
    assert await rig.stop(process) == 0


async def test_kill_and_restart_continues_from_the_state_topic_alone(rig: Rig) -> None:
    process = await rig.start()
    for _ in range(12):
        await rig.till.pay()
        await rig.till.mine()
    await rig.until_published(await rig.till.head())
    await rig.stop(process, signal.SIGKILL)
    for _ in range(12):
        await rig.till.pay()
        await rig.till.mine()
    process = await rig.start()
    await rig.until_published(await rig.till.head())
    await rig.check_equals_chain()
    assert await rig.stop(process) == 0


async def test_a_reorg_while_the_indexer_is_down_is_published_at_its_start(rig: Rig) -> None:
    process = await rig.start()
    for _ in range(3):
        await rig.till.pay()
        await rig.till.mine()
    await rig.until_published(await rig.till.head())
    assert await rig.stop(process) == 0
    await rig.till.call("anvil_reorg", 2, [])
    await rig.till.pay(amount=9)
    await rig.till.mine()
    process = await rig.start()
    await rig.until_published(await rig.till.head())
    await rig.check_equals_chain()
    assert sum(e["op"] == "retracted" for e in await rig.events()) == 2
    assert await rig.stop(process) == 0


async def test_an_undecodable_log_is_rejected_raw_and_the_stream_goes_on(rig: Rig) -> None:
    process = await rig.start()
    await rig.till.pay()
    await rig.till.mine()
    await rig.till.emit([PAID, b"\x01" * 32], b"\xff" * 31)
    await rig.till.mine()
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    assert len(await rig.events()) == 2
    rejected = [json.loads(r.value) for r in await rig.read(rig.topics.rejected) if header(r, "op") == "rejected"]
    assert [(r["data"], r["topics"]) for r in rejected] == [("0x" + "ff" * 31, ["0x" + PAID.hex(), "0x" + "01" * 32])]
    assert rejected[0]["code"]
    assert rejected[0]["reason"]
    await rig.till.call("anvil_reorg", 3, [])
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    ops = [header(r, "op") for r in await rig.read(rig.topics.rejected)]
    assert ops == ["rejected", "retracted"]
    assert await rig.stop(process) == 0


async def test_a_block_far_in_the_future_is_published(rig: Rig) -> None:
    process = await rig.start()
    await rig.till.call("evm_increaseTime", 40 * 24 * 3600)
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    await rig.check_equals_chain()
    assert await rig.stop(process) == 0


async def test_a_change_below_finality_latches_and_stays_latched(rig: Rig) -> None:
    process = await rig.start()
    await rig.till.mine(3)
    await rig.till.pay()
    await rig.till.mine(12)
    await rig.until_published(await rig.till.head())
    before = await rig.events()
    await rig.till.call("anvil_reorg", 14, [])
    await rig.till.mine(2)

    async def latched() -> bool:
        return "finality violation" in rig.log()

    await rig.until("it latches", latched)
    assert await rig.stop(process) == 4
    process = await rig.start()
    await rig.until("it is still latched", lambda: _latched(rig))
    assert await rig.stop(process) == 4
    code, out = await rig.command("status")
    assert code == 4
    assert "was final as" in out
    assert await rig.events() == before


async def _latched(rig: Rig) -> bool:
    return "latched:" in rig.log()
