"""One writer per chain: a second instance waits, a superseded one stops, and neither ever doubles a record."""

from __future__ import annotations

import json
import signal

from indexer.adapters.kafka_publisher import KafkaPublisher
from indexer.core.compose import KafkaTx, OutRecord
from indexer.core.state import Owner, load, owner_write
from tests.integration.indexer.rig import Rig
from tests.unit.indexer.core.test_compose import CURSOR


async def owner(rig: Rig) -> str:
    records = [(r.key.decode(), r.value) for r in await rig.read(rig.topics.state)]
    found = load(records).owner
    return found.instance_id if found else ""


async def test_a_second_instance_waits_and_takes_over_after_a_kill(rig: Rig) -> None:
    first = await rig.start(INDEXER__INSTANCE_ID="first")
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    second = await rig.start(INDEXER__INSTANCE_ID="second")
    await rig.until("the second stands by", lambda: _says(rig, "standby"))
    assert (await owner(rig)).startswith("first-")
    await rig.stop(first, signal.SIGKILL)
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    assert (await owner(rig)).startswith("second-")
    await rig.check_equals_chain()
    assert await rig.stop(second) == 0


async def test_an_orderly_stop_hands_the_lease_over_at_once(rig: Rig) -> None:
    rig.extra["INDEXER__LEASE_S"] = "300"
    first = await rig.start(INDEXER__INSTANCE_ID="first")
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    assert await rig.stop(first) == 0
    second = await rig.start(INDEXER__INSTANCE_ID="second")
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    assert await rig.stop(second) == 0


async def test_an_instance_that_was_fenced_by_another_owner_exits_superseded(rig: Rig) -> None:
    """An intruder that ignores the lease takes the transactional id and the owner record."""
    victim = await rig.start(INDEXER__INSTANCE_ID="victim")
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    intruder = KafkaPublisher(
        bootstrap_servers=rig.kafka, transactional_id=f"{rig.prefix}indexer-31337", topics=rig.topics
    )
    await intruder.open()
    cursor = load([(r.key.decode(), r.value) for r in await rig.read(rig.topics.state)]).cursor
    assert cursor is not None
    claim = Owner(instance_id="intruder", lease_until_ms=2**53, started_at_ms=0)
    await intruder.publish(KafkaTx(cursor=cursor, records=(), state=(owner_write(claim),)))
    await rig.till.pay()
    await rig.till.mine()

    async def ended() -> bool:
        return victim.returncode is not None

    await rig.until("the victim stops", ended)
    await intruder.close()
    assert victim.returncode == 5
    assert "superseded by intruder" in rig.log()
    assert len(await rig.events()) == 1
    await rig.check_streams()


async def test_an_instance_that_was_fenced_by_nobody_rebuilds_and_goes_on(rig: Rig) -> None:
    """Someone took the transactional id but never claimed the chain: the owner comes back, and nothing is lost."""
    process = await rig.start(INDEXER__INSTANCE_ID="me")
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    stray = KafkaPublisher(
        bootstrap_servers=rig.kafka, transactional_id=f"{rig.prefix}indexer-31337", topics=rig.topics
    )
    await stray.open()
    await stray.close()
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    await rig.check_equals_chain()
    assert (await owner(rig)).startswith("me-")
    assert await rig.stop(process) == 0


async def _says(rig: Rig, text: str) -> bool:
    return text in rig.log()


async def test_two_instances_with_one_configured_name_do_not_duel(rig: Rig) -> None:
    first = await rig.start(INDEXER__INSTANCE_ID="same")
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    second = await rig.start(INDEXER__INSTANCE_ID="same")
    await rig.until("the second stands by", lambda: _says(rig, "standby"))
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    assert "producer discarded" not in rig.log(0) + rig.log(1)
    assert await rig.stop(second) == 0
    assert await rig.stop(first) == 0


async def test_an_aborted_first_kafka_tx_does_not_look_like_a_lost_state(rig: Rig) -> None:
    stray = KafkaPublisher(
        bootstrap_servers=rig.kafka, transactional_id=f"{rig.prefix}indexer-31337", topics=rig.topics
    )
    await stray.open()
    record = OutRecord(topic="events", partition=0, key=b"", value=b"{}", headers=[], timestamp_ms=1)
    await stray._producer.begin_transaction()
    await stray._send_all(KafkaTx(cursor=CURSOR, records=(record,), state=()))
    await stray._producer.abort_transaction()
    await stray.close()
    process = await rig.start()
    await rig.till.pay()
    await rig.till.mine()
    await rig.until_published(await rig.till.head())
    await rig.check_equals_chain()
    assert await rig.stop(process) == 0


async def test_status_tells_head_owner_and_streams(rig: Rig) -> None:
    process = await rig.start(INDEXER__INSTANCE_ID="me")
    await rig.till.pay()
    await rig.till.mine()
    head = await rig.till.head()
    await rig.until_published(head)
    code, out = await rig.command("status", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["head"]["number"] == document["node_head"] == head
    assert document["owner"]["instance"].startswith("me-")
    assert document["lag_blocks"] == 0
    assert await rig.stop(process) == 0
