"""A change below finality, from the latch to the books being right again: on a real node and a real broker."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import TopicPartition

from deploy.runtime.settings import load
from indexer import app
from indexer.adapters.kafka_publisher import KafkaPublisher
from indexer.core.compose import KafkaTx
from indexer.core.state import Owner, owner_write
from indexer.core.state import load as load_state
from indexer.errors import PublisherLost
from indexer.settings import IndexerSettings
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


async def is_latched(rig: Rig) -> bool:
    cursor = load_state([(r.key.decode(), r.value) for r in await rig.read(rig.topics.state)]).cursor
    return cursor is not None and cursor.latch is not None


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


class Dies:
    """A publisher that dies with its first kafka_tx that has records: before it is committed, or after."""

    def __init__(self, inner: KafkaPublisher, *, committed: bool) -> None:
        self._inner = inner
        self._committed = committed

    async def open(self) -> None:
        await self._inner.open()

    async def publish(self, tx: KafkaTx) -> Sequence[int]:
        if tx.records and not self._committed:
            await self._inner._producer.begin_transaction()
            await self._inner._send_all(tx)
            raise PublisherLost("died before the commit")
        offsets = await self._inner.publish(tx)
        if tx.records:
            raise PublisherLost("died after the commit")
        return offsets

    async def close(self) -> None:
        await self._inner.close()


def in_small_steps(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> IndexerSettings:
    """A few records in each kafka_tx, and a lease that runs out at once when its owner dies."""
    for name, value in rig.environment().items():
        monkeypatch.setenv(name, value)
    settings = load(IndexerSettings, None)
    small = settings.indexer.model_copy(update={"kafka_tx_bytes_max": 5_000, "lease_s": 0.2})
    return settings.model_copy(update={"indexer": small})


async def test_a_resolve_that_dies_at_every_kafka_tx_ends_like_one_that_does_not(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await violated(rig)
    settings = in_small_steps(rig, monkeypatch)
    honest = app._publisher
    expected = (await app.resolve(settings, found["seen"]["hash"], agreed=lambda _: False)).incident
    deaths, committed = 0, False
    while await is_latched(rig):
        committed = not committed
        monkeypatch.setattr(app, "_publisher", lambda s, committed=committed: Dies(honest(s), committed=committed))
        with pytest.raises(PublisherLost):
            await app.resolve(settings, found["seen"]["hash"], agreed=None)
        deaths += 1
        if not committed:
            assert await is_latched(rig)
    assert deaths >= 8
    revoked = [e for e in await rig.events() if e["op"] == "revoked"]
    assert len(revoked) == sum(expected.revoked.events.values())
    assert {e["incident_id"] for e in revoked} == {expected.incident_id}
    await check_follows(rig)


async def test_a_chain_that_comes_back_in_the_middle_of_a_resolve_is_followed_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = await rig.till.call("evm_snapshot")
    for _ in range(16):
        await rig.till.pay()
        await rig.till.mine()
    ours = await rig.till.call("anvil_dumpState")
    process = await rig.start()
    await rig.until_published(await rig.till.head())
    assert await rig.stop(process) == 0
    before = await rig.on_chain()
    await rig.till.call("evm_revert", snapshot)
    for _ in range(16):
        await rig.till.pay(amount=77)
        await rig.till.mine()
    found = await latched(rig)
    settings = in_small_steps(rig, monkeypatch)
    honest = app._publisher
    monkeypatch.setattr(app, "_publisher", lambda s: Dies(honest(s), committed=True))
    events = await rig.events()
    while not any(e["op"] == "applied" and e["incident_id"] for e in events):
        with pytest.raises(PublisherLost):
            await app.resolve(settings, found["seen"]["hash"], agreed=None)
        events = await rig.events()
    assert any(e["op"] == "revoked" for e in events)
    assert await is_latched(rig)
    await rig.till.call("anvil_loadState", ours)
    assert await rig.on_chain() == before
    await resolved(rig, found["ours"]["hash"])
    assert any(e["op"] == "applied" and e["revision"] == 3 for e in await rig.events())
    await check_follows(rig)


async def test_what_cannot_be_resolved_is_refused_with_a_sentence(rig: Rig) -> None:
    some_hash = "0x" + "12" * 32
    code, out = await rig.command("resolve", "--block-hash", "12ab", "--yes")
    assert (code, "is not 0x and 64 hex digits" in out) == (2, True)
    code, out = await rig.command("resolve", "--block-hash", some_hash, "--yes")
    assert (code, "has never been published" in out) == (2, True)
    process = await rig.start()
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    code, out = await rig.command("resolve", "--block-hash", some_hash, "--yes")
    assert (code, "the chain is not latched" in out) == (2, True)
    await rig.till.mine(14)
    await rig.until_published(await rig.till.head())
    assert await rig.stop(process) == 0
    await rig.till.call("anvil_reorg", 15, [])
    found = await latched(rig)
    before = await rig.events()
    code, out = await rig.command("resolve", "--block-hash", some_hash, "--yes")
    assert (code, "Look again which one is right" in out) == (2, True)
    code, out = await rig.command("resolve", "--block-hash", found["ours"]["hash"], "--yes")
    assert (code, "Look again which one is right" in out) == (2, True)
    code, out = await rig.command("resolve", "--block-hash", found["seen"]["hash"], "--yes", CHAIN__FINALITY="100000")
    assert (code, "is not final for every node" in out) == (3, True)
    code, out = await rig.command(
        "resolve",
        "--block-hash",
        found["seen"]["hash"],
        "--yes",
        CHAIN__RPC_HTTP=f"{rig.node.http_url},http://127.0.0.1:9",
    )
    assert (code, "1 of 2 nodes answer" in out) == (3, True)
    code, out = await rig.command("resolve", "--block-hash", found["seen"]["hash"])
    assert (code, "The chain is still latched" in out, "--yes does it" in out) == (4, True, True)
    assert await rig.events() == before
    assert (await resolved(rig, found["seen"]["hash"]))["resolved"]


async def test_deleted_records_are_refused(rig: Rig) -> None:
    found = await violated(rig)
    client = AIOKafkaAdminClient(bootstrap_servers=rig.kafka)
    await client.start()
    try:
        await client.delete_records({TopicPartition(rig.topics.final, p): RecordsToDelete(3) for p in range(2)})
    finally:
        await client.close()
    code, out = await rig.command("resolve", "--block-hash", found["seen"]["hash"], "--yes")
    assert (code, "older records were deleted" in out) == (2, True), out


async def test_another_owner_is_waited_for_and_then_told(rig: Rig) -> None:
    found = await violated(rig)
    other = KafkaPublisher(bootstrap_servers=rig.kafka, transactional_id=f"{rig.prefix}stray", topics=rig.topics)
    await other.open()
    records = [(r.key.decode(), r.value) for r in await rig.read(rig.topics.state)]
    cursor = load_state(records).cursor
    assert cursor is not None
    claim = Owner(instance_id="somebody", lease_until_ms=2**53, started_at_ms=0)
    await other.publish(KafkaTx(cursor=cursor, records=(), state=(owner_write(claim),)))
    await other.close()
    code, out = await rig.command(
        "resolve", "--block-hash", found["seen"]["hash"], "--yes", INDEXER__START_TIMEOUT_S="2"
    )
    assert (code, "somebody keeps its lease" in out) == (3, True), out


async def test_finality_by_depth_latches_and_is_resolved_too(rig: Rig) -> None:
    depth = 5
    rig.extra["CHAIN__FINALITY"] = str(depth)
    process = await rig.start()
    for _ in range(12):
        await rig.till.pay()
        await rig.till.mine()
    head = await rig.till.head()
    await rig.until_published(head)

    async def final() -> bool:
        return await rig.finals() == [log for log in await rig.on_chain() if log[0] <= head - depth]

    await rig.until("finals", final, process)
    assert await rig.stop(process) == 0
    await rig.till.call("anvil_reorg", depth + 3, [])
    await rig.till.pay(amount=77)
    await rig.till.mine()
    found = await latched(rig)
    await resolved(rig, found["seen"]["hash"])
    process = await rig.start()
    await rig.till.mine(depth + 1)
    head = await rig.till.head()
    await rig.until_published(head)
    await rig.check_equals_chain()
    await rig.until("finals", final, process)
    assert await rig.stop(process) == 0


async def test_on_a_terminal_it_shows_the_incident_and_asks(rig: Rig) -> None:
    found = await violated(rig)
    asked: list[str] = []
    for answer, code in (("n", 4), ("y", 0)):
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "indexer", "resolve", "--block-hash", found["seen"]["hash"]),
            stdin=theirs,
            stdout=theirs,
            stderr=asyncio.subprocess.DEVNULL,
            env=rig.environment(),
        )
        os.close(theirs)
        with os.fdopen(ours, "r+b", buffering=0) as terminal:
            text = await asyncio.to_thread(until, terminal, b"Publish this?")
            asked.append(text)
            terminal.write(f"{answer}\n".encode())
            await asyncio.to_thread(until, terminal, b"latch")
            await asyncio.to_thread(until, terminal, b"")
            assert await process.wait() == code
    assert all("common ancestor" in text for text in asked)
    assert not await is_latched(rig)


def until(terminal: io.FileIO | io.RawIOBase, wanted: bytes) -> str:
    """What the program writes until it has written ``wanted``; b"": until it ends."""
    text = b""
    while not wanted or wanted not in text:
        try:
            piece = terminal.read(4096) or b""
        except OSError:  # how Linux says that the other end is closed
            piece = b""
        if not piece:
            break
        text += piece
    return text.decode()
