"""What the simulated Kafka and a real one have in common: the same tests against both."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from contracts.messages import Topics
from indexer.adapters.kafka_publisher import KafkaPublisher
from indexer.adapters.kafka_state import KafkaStateReader
from indexer.adapters.kafka_topics import KafkaTopics, plans
from indexer.core.compose import KafkaTx, OutRecord
from indexer.errors import Fenced
from indexer.ports import PublisherPort, StatePort
from ledger.adapters.kafka_consumer import KafkaConsumer
from ledger.ports import ConsumerPort, OffsetsLost, Partition
from tests.simulation.consumer import Group, SimConsumer
from tests.simulation.faults import Faults
from tests.simulation.kafka import Broker
from tests.simulation.loop import Gate
from tests.simulation.producer import SimPublisher, SimStateReader

DEADLINE_S = 30.0


class OpenGate(Gate):
    """Everybody may pass; ``held`` calls wait for ever, as those of a process that is about to be killed."""

    def __init__(self, broker: Broker, *, held: str = "") -> None:
        super().__init__()
        self._broker = broker
        self._held = held

    async def wait(self, what: str) -> None:
        self._broker.finish()
        if what == self._held:
            await asyncio.Event().wait()


@dataclass(slots=True)
class Kafka:
    """One of both."""

    topics: Topics
    publisher: Callable[[], PublisherPort]
    state: StatePort
    consumer: Callable[[], ConsumerPort]
    leave_open: Callable[[KafkaTx], Any]  # a producer sends, and is gone before the commit


@pytest.fixture(params=["simulated", "real"])
async def kafka(request: pytest.FixtureRequest, kafka_prefix: str) -> AsyncIterator[Kafka]:
    topics = Topics(chain="local", prefix=kafka_prefix)
    if request.param == "simulated":
        yield simulated(topics)
        return
    bootstrap: str = request.getfixturevalue("kafka_bootstrap")
    await KafkaTopics(bootstrap_servers=bootstrap, replication_factor=1).ensure(plans(topics, partitions=2))
    yield real(topics, bootstrap)


def simulated(topics: Topics) -> Kafka:
    broker, pick = Broker(), random.Random(1)
    faults = Faults(pick, lambda _: None)
    faults.on = False
    group = Group((topics.events, topics.rejected), 2)

    def publisher(gate: Gate | None = None) -> SimPublisher:
        return SimPublisher(
            broker, transactional_id="t", topics=topics, gate=gate or OpenGate(broker), faults=faults, pick=pick
        )

    async def leave_open(tx: KafkaTx) -> None:
        gone = publisher(OpenGate(broker, held="commit"))
        await gone.open()
        sending = asyncio.ensure_future(gone.publish(tx))
        await asyncio.wait({sending}, timeout=0.05)
        assert broker.log(topics.state).undecided
        sending.cancel()
        await asyncio.wait({sending})

    return Kafka(
        topics=topics,
        publisher=publisher,
        state=SimStateReader(broker, gate=OpenGate(broker), faults=faults, pick=pick),
        consumer=lambda: SimConsumer(broker, group, gate=OpenGate(broker), faults=faults, pick=pick),
        leave_open=leave_open,
    )


def real(topics: Topics, bootstrap: str) -> Kafka:
    def publisher() -> KafkaPublisher:
        return KafkaPublisher(bootstrap_servers=bootstrap, transactional_id=f"{topics.prefix}t", topics=topics)

    async def leave_open(tx: KafkaTx) -> None:
        gone = publisher()
        await gone.open()
        await gone._producer.begin_transaction()
        await gone._send_all(tx)
        gone._producer._sender._sender_task.cancel()  # no abort: as when the process is killed
        gone._producer._closed = True
        await gone._producer.client.close()

    return Kafka(
        topics=topics,
        publisher=publisher,
        state=KafkaStateReader(bootstrap_servers=bootstrap),
        consumer=lambda: KafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=f"{topics.prefix}g",
            topics=(topics.events, topics.rejected),
            client_id="contract",
            instance_id=None,
            fetch_bytes_max=1_000_000,
            session_timeout_s=10,
        ),
        leave_open=leave_open,
    )


def tx(*values: int, partition: int = 0, state: Sequence[tuple[str, bytes | None]] = ()) -> KafkaTx:
    records = tuple(
        OutRecord(
            topic="events",
            partition=partition,
            key=b"k",
            value=str(value).encode(),
            headers=[("n", b"1")],
            timestamp_ms=1_700_000_000_000,
        )
        for value in values
    )
    return KafkaTx(cursor=cast(Any, None), records=records, state=tuple(state) or (("cursor", b"1"),))


async def read_state(kafka: Kafka) -> list[tuple[int, str, bytes | None]]:
    async with aclosing(kafka.state.read(kafka.topics.state, to_the_very_end=True)) as records:
        return [record async for record in records]


async def test_what_is_committed_is_read_back_in_order_at_its_offsets(kafka: Kafka) -> None:
    publisher = kafka.publisher()
    await publisher.open()
    assert not await kafka.state.any_records(kafka.topics.events, 2)
    first = await publisher.publish(tx(1, state=[("a", b"1"), ("b", b"1")]))
    second = await publisher.publish(tx(2, state=[("a", b"2"), ("b", None)]))
    records = await read_state(kafka)
    assert [(key, value) for _, key, value in records] == [("a", b"1"), ("b", b"1"), ("a", b"2"), ("b", None)]
    assert [offset for offset, _, _ in records] == [*first, *second]
    assert second[0] > first[-1] + 1, "commit markers have offsets"
    assert await kafka.state.read_at(kafka.topics.state, [first[1], second[0]]) == [records[1], records[2]]
    assert await kafka.state.latest(kafka.topics.state, "a") == b"2"
    assert await kafka.state.latest(kafka.topics.state, "c") is None
    assert await kafka.state.any_records(kafka.topics.events, 2)
    await publisher.close()


async def test_a_newer_producer_fences_the_older(kafka: Kafka) -> None:
    older, newer = kafka.publisher(), kafka.publisher()
    await older.open()
    await older.publish(tx(1))
    await newer.open()
    with pytest.raises(Fenced):
        await older.publish(tx(2))
    await newer.publish(tx(3))
    assert len(await read_state(kafka)) == 2
    await older.close()
    await newer.close()


async def test_what_a_killed_producer_left_open_is_never_seen(kafka: Kafka) -> None:
    await kafka.leave_open(tx(1, state=[("a", b"lost")]))
    heir = kafka.publisher()
    await heir.open()
    assert await read_state(kafka) == []
    assert not await kafka.state.any_records(kafka.topics.events, 2)
    await heir.publish(tx(2, state=[("a", b"kept")]))
    assert [value for _, _, value in await read_state(kafka)] == [b"kept"]
    await heir.close()


@dataclass(slots=True)
class Member:
    """Takes what a rebalance gives and starts at 0."""

    consumer: ConsumerPort
    held: set[Partition] = field(default_factory=set)
    seeks: bool = True

    async def revoked(self, partitions: Sequence[Partition]) -> None:
        self.held -= set(partitions)

    async def assigned(self, partitions: Sequence[Partition]) -> None:
        self.held |= set(partitions)
        for partition in partitions:
            assert self.consumer.seek(partition, 0)

    async def values(self, count: int, partition: Partition) -> list[tuple[int, bytes | None]]:
        """Offset and value of records of a partition, in order of arrival."""
        found: list[tuple[int, bytes | None]] = []
        async with asyncio.timeout(DEADLINE_S):
            while len(found) < count:
                polled = await self.consumer.poll(0.2)
                found += [(record.offset, record.value) for record in polled.get(partition, ())]
        return found


async def joined(kafka: Kafka) -> Member:
    member = Member(kafka.consumer())
    await member.consumer.start(member)
    return member


async def test_a_consumer_gets_committed_records_from_where_it_seeks(kafka: Kafka) -> None:
    first, ours = Partition(kafka.topics.events, 0), kafka.publisher()
    await kafka.leave_open(tx(0))
    await ours.open()
    await ours.publish(tx(1, 2))
    await ours.publish(tx(3))
    member = await joined(kafka)
    records = await member.values(3, first)
    assert [value for _, value in records] == [b"1", b"2", b"3"]
    assert records[2][0] > records[1][0] + 1, "a commit marker lies between"
    assert member.consumer.seek(first, records[1][0])
    assert await member.values(2, first) == records[1:], "delivered again"
    assert not member.consumer.seek(Partition(kafka.topics.events, 7), 0), "not ours"
    await member.consumer.stop()
    await ours.close()


async def test_an_offset_beyond_the_log_is_told(kafka: Kafka) -> None:
    first, ours = Partition(kafka.topics.events, 0), kafka.publisher()
    await ours.open()
    await ours.publish(tx(1))
    member = await joined(kafka)
    await member.values(1, first)
    member.consumer.seek(first, 1_000)
    with pytest.raises(OffsetsLost) as caught:
        await member.values(1, first)
    assert caught.value.offsets == {first: 1_000}
    await member.consumer.stop()
    await ours.close()


async def test_a_group_shares_partitions_and_the_last_member_gets_them_all(kafka: Kafka) -> None:
    everything = {Partition(t, p) for t in (kafka.topics.events, kafka.topics.rejected) for p in (0, 1)}
    one = await joined(kafka)
    assert one.held == everything
    two = Member(kafka.consumer())
    starting = asyncio.ensure_future(two.consumer.start(two))
    await until(lambda: one.held | two.held == everything and len(one.held) == len(two.held) == 2, one, starting)
    assert {p.number for p in one.held} != {p.number for p in two.held}, "one number of both topics each"
    await two.consumer.stop()
    await until(lambda: one.held == everything, one, starting)
    await one.consumer.stop()


async def until(holds: Callable[[], bool], member: Member, beside: asyncio.Future[None]) -> None:
    """Polls, as members do, until it holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not (holds() and beside.done()):
            await member.consumer.poll(0.1)
