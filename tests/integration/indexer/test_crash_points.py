"""Death and failure at every step of the publishing protocol, on a real broker; the next life has the topics alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from contracts.messages import Topics
from contracts.registry import Registry, load_registry
from indexer.adapters.kafka_topics import KafkaTopics, plans
from indexer.core.compose import KafkaTx, OutRecord
from indexer.core.state import Owner, owner_write
from indexer.errors import DependencyAway, PublishingRefused, Superseded
from indexer.ports import PublisherPort
from tests.integration.indexer.mortal import Fate, Mortal
from tests.integration.indexer.rig import ASSETS, REGISTRY
from tests.unit.indexer.core.test_compose import CURSOR
from tests.unit.indexer.following import ADDRESS

CALLS = (
    *("latest", "start", "begin_transaction", "commit_transaction", "read_at"),
    *("send to state", "acknowledgement of state", "send to events", "acknowledgement of events"),
    *("send to final", "acknowledgement of final"),
)
STEPS = {f"{when} {call}" for when in ("before", "within", "after") for call in CALLS} | {"before read", "after read"}


@pytest.fixture
async def mortal(kafka_bootstrap: str, kafka_prefix: str, tmp_path: Path) -> Mortal:
    """Topics of its own; no events in memory, so that every retraction and final is read again."""
    (tmp_path / "assets.yaml").write_text(ASSETS)
    (tmp_path / "till.yaml").write_text(REGISTRY.format(address=ADDRESS, start_block=0))
    registry: Registry = load_registry([tmp_path], chain_id=31337)
    topics = Topics(chain="local", prefix=kafka_prefix)
    await KafkaTopics(bootstrap_servers=kafka_bootstrap, replication_factor=1).ensure(plans(topics, partitions=2))
    return Mortal(registry, bootstrap=kafka_bootstrap, prefix=kafka_prefix, unfinalized_bytes_max=0)


async def test_killed_at_every_step_nothing_is_lost_doubled_or_reordered(mortal: Mortal) -> None:
    """Each life begins from the topics, publishes a reorg and finality, and dies one step later than the one before."""
    mortal.grow(4, name="first")
    killed: list[str] = []
    step = 0
    while True:
        step += 1
        mortal.grow(3, replacing=min(2, len(mortal.canonical)), name=f"life {step}")
        fate = Fate(dies_at=step)
        if await mortal.life(fate):
            break
        killed.append(fate.died_at)
        if step % 20 == 0:
            await mortal.life(Fate())
            await mortal.check()
    print(f"killed at {len(killed)} steps, {len(set(killed))} different ones")
    for name in sorted(STEPS - set(killed)):  # lives differ in length: a step may have been jumped over
        mortal.grow(3, replacing=2, name=name)
        assert not await mortal.life(Fate(dies_at=name)), name
    await mortal.life(Fate())
    await mortal.check()


async def test_killed_around_the_first_kafka_tx_of_all(mortal: Mortal) -> None:
    """Until it is committed there are no streams, only what was aborted; afterwards they are never begun again."""
    mortal.grow(4, name="first")
    for step in ("before any_records", "before begin_transaction", "after acknowledgement of events"):
        assert not await mortal.life(Fate(dies_at=step))
    assert not await mortal.life(Fate(dies_at="before commit_transaction"))
    assert await mortal.read(mortal.topics.events) == []
    assert not await mortal.life(Fate(dies_at="after commit_transaction"))
    assert len(await mortal.read(mortal.topics.events)) == 2, "a watermark for each partition"
    assert await mortal.life(Fate())
    await mortal.check()


@pytest.mark.parametrize(
    "failure",
    [
        *(
            "send to events",
            "send to state",
            "send to final",
        ),  # a batch that is never written, a commit that would pass
        *("instead of begin_transaction", "instead of commit_transaction"),
        "answer to commit_transaction",  # the outcome is unknown, and was a commit
        *("answer to send to events", "answer to acknowledgement of state"),
        *("commit_transaction hangs", "acknowledgement of events hangs", "begin_transaction hangs"),  # a wedge
        *("instead of read_at", "instead of abort_transaction"),
    ],
)
async def test_after_a_failure_the_indexer_goes_on_from_the_topics_by_itself(mortal: Mortal, failure: str) -> None:
    mortal.timeout_s = 3.0
    mortal.grow(4, name="first")
    fate = Fate()

    def fail(times: int, name: str) -> None:
        fate.fails = {failure: times}
        if "abort" in failure:  # there is something to abort when a send has failed
            fate.fails = {failure: 1, "send to events": 1}
        mortal.grow(4, replacing=2, name=name)

    await mortal.life(
        fate,
        lambda: fail(1, "once"),
        lambda: mortal.grow(2, name="between"),
        lambda: fail(2, "twice"),
        lambda: mortal.grow(2, name="last"),
    )
    assert not any(fate.fails.values()), fate.fails
    await mortal.check()


async def test_a_record_that_kafka_refuses_ends_with_a_sentence_and_commits_nothing(mortal: Mortal) -> None:
    mortal.grow(4, name="first")
    await mortal.life(Fate())
    publisher = mortal.real_publisher()
    await publisher.open()
    records = tuple(
        OutRecord(topic="events", partition=0, key=b"", value=b"x" * size, headers=[], timestamp_ms=1)
        for size in (10, 2_000_000)
    )
    with pytest.raises(PublishingRefused, match="refuses for good"):
        await publisher.publish(KafkaTx(cursor=CURSOR, records=records, state=()))
    await publisher.close()
    mortal.grow(2, name="next")
    await mortal.life(Fate())
    await mortal.check()


@asynccontextmanager
async def undecided(mortal: Mortal, topic: str) -> AsyncIterator[None]:
    """A kafka_tx of somebody else that stays open on a topic."""
    producer = AIOKafkaProducer(bootstrap_servers=mortal.bootstrap, transactional_id=f"{mortal.prefix}stray")
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(topic, b"{}", key=b"stray", partition=0)
    try:
        yield
    finally:
        await producer.abort_transaction()
        await producer.stop()


async def test_what_is_committed_behind_an_undecided_kafka_tx_is_waited_for(mortal: Mortal) -> None:
    """The start-up barrier: a read_committed reader does not see our last commits while somebody's kafka_tx is open."""
    mortal.grow(4, name="first")
    await mortal.life(Fate())
    mortal.grow(3, name="second")
    mortal.timeout_s = 1.0
    limits = mortal.limits
    async with undecided(mortal, mortal.topics.state):
        publisher = mortal.real_publisher()  # a life that began before, and commits behind the undecided one
        await publisher.open()
        late = Owner(instance_id="me", lease_until_ms=1, started_at_ms=0)
        await publisher.publish(KafkaTx(cursor=CURSOR, records=(), state=(owner_write(late),)))
        await publisher.close()
        mortal.limits = replace(limits, start_timeout_s=2)
        with pytest.raises(DependencyAway, match="cannot be read to its end"):
            await mortal.life(Fate())
    mortal.limits = limits
    await mortal.life(Fate())
    await mortal.check()


async def test_the_loser_of_a_race_for_the_chain_gives_way(mortal: Mortal) -> None:
    """Both saw no lease; the other one claimed the chain before our producer started and fenced it."""
    mortal.instance_id = "loser"
    mortal.grow(4, name="first")
    await mortal.life(Fate())
    rival = Owner(instance_id="rival", lease_until_ms=mortal.clock.ms + 10**6, started_at_ms=0)
    mine: list[PublisherPort] = []

    class Beaten:
        """A publisher that starts when the rival has just claimed the chain."""

        def __init__(self, inner: Any) -> None:
            self._inner = inner

        async def open(self) -> None:
            first = mortal.real_publisher()
            await first.open()
            await first.publish(KafkaTx(cursor=CURSOR, records=(), state=(owner_write(rival),)))
            await first.close()
            await self._inner.open()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    before = [(r.partition, r.offset) for r in await mortal.read(mortal.topics.events)]
    pipeline = mortal.pipeline()

    def beaten() -> PublisherPort:
        mine.append(Beaten(mortal.publisher()) if not mine else mortal.publisher())
        return mine[-1]

    pipeline._publisher = beaten
    mortal.pipeline = lambda: pipeline  # type: ignore[method-assign]
    stood_by: list[str] = []
    standby = mortal.observer.standby

    def seen(owner: str) -> None:
        stood_by.append(owner)
        standby(owner)
        if len(stood_by) > 2:
            raise Superseded("enough was seen")

    mortal.observer.standby = seen  # type: ignore[method-assign]
    with pytest.raises(Superseded):
        await mortal.life(Fate())
    assert set(stood_by) == {"rival"}
    assert len(mine) == 2, "one more try, which waits as standby and starts no producer"
    assert [(r.partition, r.offset) for r in await mortal.read(mortal.topics.events)] == before
