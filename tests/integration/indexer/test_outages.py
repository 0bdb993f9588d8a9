"""Node or broker away, at the start and in the middle: nothing lost, nothing doubled, recovery without help."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.local import ports
from deploy.local.daemon import Daemon
from deploy.local.native import server
from deploy.local.native.kafka import Kafka
from deploy.local.paths import layout
from indexer.core.state import load
from tests.integration.indexer.rig import Rig, rig_on
from tests.services import AnvilFactory


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Kafka]:
    """A broker of the test's own, to be killed."""
    port, controller_port = ports.free_ports(2)
    kafka = Kafka(
        daemon=Daemon(name="kafka", folder=tmp_path / "run", ephemeral=True),
        folder=tmp_path / "kafka",
        jars=layout().kafka_jars,
        port=port,
        controller_port=controller_port,
    )
    server.start([kafka], timeout_s=60)
    yield kafka
    kafka.stop()


@pytest.fixture
async def own_rig(broker: Kafka, anvil: AnvilFactory, kafka_prefix: str, tmp_path: Path) -> AsyncIterator[Rig]:
    node = await anvil(slots_in_an_epoch=4, no_mining=True)
    async with rig_on(node, kafka=broker.endpoint, prefix=kafka_prefix, folder=tmp_path) as rig:
        rig.extra["INDEXER__KAFKA_TIMEOUT_S"] = "3"
        yield rig


async def lease(rig: Rig) -> int:
    """Unix ms until which instance "me" owns the chain."""
    owner = load([(r.key.decode(), r.value) for r in await rig.read(rig.topics.state)]).owner
    assert owner is not None
    assert owner.instance_id.startswith("me-")
    return owner.lease_until_ms


async def said(rig: Rig, text: str) -> None:
    async def holds() -> bool:
        return text in rig.log()

    await rig.until(f"the log says {text!r}", holds)


async def test_a_node_that_is_away_at_the_start_and_in_the_middle(rig: Rig) -> None:
    await rig.till.pay()
    await rig.till.mine()
    os.kill(rig.node.pid, signal.SIGSTOP)
    process = await rig.start(CHAIN__RPC_TIMEOUT_S="3", INDEXER__INSTANCE_ID="me")
    await said(rig, "waiting")
    os.kill(rig.node.pid, signal.SIGCONT)
    await rig.until_published(await rig.till.head())
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    standby = await rig.start(INDEXER__INSTANCE_ID="rival")
    await said(rig, "standby")
    os.kill(rig.node.pid, signal.SIGSTOP)
    before = await lease(rig)

    async def renewed() -> bool:
        return await lease(rig) > before + 4_000  # twice the lease: the rival would have taken over

    await rig.until("the lease is kept while the node is away", renewed)
    os.kill(rig.node.pid, signal.SIGCONT)
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    await rig.check_equals_chain()
    assert rig.log(0).count("stage=node") <= 6  # a line when it begins, a line when it ends, for each outage
    assert await rig.stop(standby) == 0
    assert await rig.stop(process) == 0


async def test_a_broker_that_is_killed_in_the_middle_loses_and_doubles_nothing(own_rig: Rig, broker: Kafka) -> None:
    rig = own_rig
    process = await rig.start()
    for _ in range(3):
        await rig.till.pay()
        await rig.till.mine()
    await rig.until_published(await rig.till.head())
    broker.stop()
    for _ in range(3):
        await rig.till.pay()
        await rig.till.mine()
    await said(rig, "producer discarded")
    await asyncio.to_thread(server.start, [broker], timeout_s=60)
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    await rig.check_equals_chain()
    assert process.returncode is None
    assert await rig.stop(process) == 0


async def test_a_broker_that_comes_after_the_indexer_is_waited_for(own_rig: Rig, broker: Kafka) -> None:
    rig = own_rig
    broker.stop()
    process = await rig.start()
    await said(rig, "stage=kafka")
    await asyncio.to_thread(server.start, [broker], timeout_s=60)
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    await rig.check_equals_chain()
    assert await rig.stop(process) == 0


async def test_sigterm_under_load_ends_within_five_seconds_and_leaves_no_open_transaction(rig: Rig) -> None:
    process = await rig.start()

    async def load() -> None:
        while process.returncode is None:
            for _ in range(5):
                await rig.till.pay()
            await rig.till.mine()

    loading = asyncio.ensure_future(load())
    await rig.until_published(5)
    began = time.monotonic()
    assert await rig.stop(process) == 0
    assert time.monotonic() - began < 5
    await loading
    assert await rig.ends("read_committed") == await rig.ends("read_uncommitted")
    process = await rig.start()
    await rig.until_published(await rig.till.head())
    await rig.check_equals_chain()
    assert await rig.stop(process) == 0


async def test_sigterm_ends_within_five_seconds_while_the_broker_is_away(own_rig: Rig, broker: Kafka) -> None:
    process = await own_rig.start()
    await own_rig.till.pay()
    await own_rig.till.mine()
    await own_rig.until_published(await own_rig.till.head())
    broker.stop()
    await own_rig.till.mine()
    began = time.monotonic()
    assert await own_rig.stop(process) == 0
    assert time.monotonic() - began < 5
