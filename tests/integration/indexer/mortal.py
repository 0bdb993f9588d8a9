"""An indexer on a real broker whose process can die at every step of the publishing protocol, as under kill -9.

The node is the scripted one; producer and readers are the real ones behind proxies that know every call. Whoever dies
leaves the connections to the operating system: nothing is aborted, flushed or stopped.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka.errors import KafkaTimeoutError
from aiokafka.structs import TopicPartition

from contracts.messages import Topics
from indexer.adapters.kafka_publisher import KafkaPublisher
from indexer.adapters.kafka_state import KafkaStateReader
from indexer.core.blocks import Header
from indexer.errors import BrokerUnavailable
from indexer.pipeline import Pipeline
from indexer.ports import PublisherPort, StatePort, StateRecord
from tests.integration.indexer.rig import consumer, header
from tests.unit.indexer.core.branches import GENESIS
from tests.unit.indexer.following import Followed


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Fate:
    """What happens at a step of the protocol: death at the ``dies_at``-th or at its name, or an error at a name."""

    dies_at: int | str | None = None
    fails: dict[str, int] = field(default_factory=dict)  # step → how many times it still fails
    passed: list[str] = field(default_factory=list)
    died_at: str = ""

    def step(self, name: str) -> None:
        if self.died_at:
            raise Killed
        self.passed.append(name)
        if self.dies_at in (len(self.passed), name):
            self.died_at = name
            raise Killed

    def fails_now(self, name: str) -> bool:
        if not self.fails.get(name):
            return False
        self.fails[name] -= 1
        return True

    async def call(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Before, in the middle of, and after a call are three different places to die."""
        self.step(f"before {name}")
        if self.fails_now(f"instead of {name}"):
            raise KafkaTimeoutError(f"{name} did not happen")
        if self.fails_now(f"{name} hangs"):
            await asyncio.Event().wait()
        running = asyncio.ensure_future(call())
        await asyncio.sleep(0)
        try:
            self.step(f"within {name}")
        except Killed:
            running.cancel()
            raise
        result = await running
        self.step(f"after {name}")
        if self.fails_now(f"answer to {name}"):
            raise KafkaTimeoutError(f"{name} happened, the answer was lost")
        return result


class MortalProducer:
    """An AIOKafkaProducer that may die."""

    def __init__(self, producer: Any, fate: Fate) -> None:
        self._producer = producer
        self._fate = fate

    def create_batch(self) -> Any:
        return self._producer.create_batch()

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Awaitable[Any]:
        kind = topic.split(".")[-2]
        if self._fate.fails_now(f"send to {kind}"):
            lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            lost.set_exception(KafkaTimeoutError("this batch was never written"))
            return lost
        acknowledged = await self._fate.call(
            f"send to {kind}", lambda: self._producer.send_batch(batch, topic, partition=partition)
        )
        return self._fate.call(f"acknowledgement of {kind}", lambda: _waited(acknowledged))

    def __getattr__(self, name: str) -> Callable[[], Awaitable[Any]]:
        return lambda: self._fate.call(name, getattr(self._producer, name))

    async def vanish(self) -> None:
        """What the operating system does for a killed process: connections end, nothing is said."""
        producer = self._producer
        producer._closed = True
        task = producer._sender._sender_task
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        await producer.client.close()


async def _waited(future: Awaitable[Any]) -> Any:
    return await future


class MortalReader:
    """A StatePort that may die around each question."""

    def __init__(self, reader: KafkaStateReader, fate: Fate) -> None:
        self._reader = reader
        self._fate = fate

    async def read(self, topic: str, *, to_the_very_end: bool) -> AsyncGenerator[StateRecord, None]:
        self._fate.step("before read")
        async for record in self._reader.read(topic, to_the_very_end=to_the_very_end):
            yield record
        self._fate.step("after read")

    async def read_at(self, topic: str, offsets: Sequence[int]) -> list[StateRecord]:
        try:
            found: list[StateRecord] = await self._fate.call("read_at", lambda: self._reader.read_at(topic, offsets))
        except KafkaTimeoutError as exc:
            raise BrokerUnavailable(str(exc)) from exc
        return found

    async def latest(self, topic: str, key: str) -> bytes | None:
        value: bytes | None = await self._fate.call("latest", lambda: self._reader.latest(topic, key))
        return value

    async def any_records(self, topic: str, partitions: int) -> bool:
        found: bool = await self._fate.call("any_records", lambda: self._reader.any_records(topic, partitions))
        return found


@dataclass
class Mortal(Followed):
    """The scripted chain and node, real topics, and one life of an indexer after the other."""

    bootstrap: str = ""
    prefix: str = ""
    timeout_s: float = 10.0
    instance_id: str = "me"
    fate: Fate = field(default_factory=Fate)
    canonical: list[Header] = field(default_factory=list)
    producers: list[MortalProducer] = field(default_factory=list)

    @property
    def topics(self) -> Topics:
        return Topics(chain="local", prefix=self.prefix)

    def real_publisher(self) -> KafkaPublisher:
        return KafkaPublisher(
            bootstrap_servers=self.bootstrap,
            transactional_id=f"{self.prefix}indexer-31337",
            topics=self.topics,
            timeout_s=self.timeout_s,
        )

    def publisher(self) -> PublisherPort:
        publisher = self.real_publisher()
        mortal = MortalProducer(publisher._producer, self.fate)
        publisher._producer = mortal
        self.producers.append(mortal)
        return publisher

    def pipeline(self) -> Pipeline:
        reader = KafkaStateReader(bootstrap_servers=self.bootstrap, timeout_s=self.timeout_s)
        port: StatePort = MortalReader(reader, self.fate)
        pipeline = super().pipeline()
        pipeline._state = port
        pipeline._publisher = self.publisher
        pipeline._chain = replace(pipeline._chain, topics=self.topics, instance_id=self.instance_id)
        return pipeline

    async def life(self, fate: Fate, *steps: Callable[[], None]) -> bool:
        """From a start to the end of the script; False when it was killed on the way."""
        self.fate = fate
        try:
            await self.run(*steps)
        except Killed:
            return False
        finally:
            for producer in self.producers:
                await producer.vanish()
            self.producers.clear()
        return True

    def grow(self, count: int, *, replacing: int = 0, name: str, final_lag: int = 6) -> None:
        """Replaces the newest blocks and mines more; finality follows the head."""
        kept = self.canonical[: len(self.canonical) - replacing]
        self.canonical = [*kept, *self.mined(kept[-1] if kept else GENESIS, name, count)]
        self.show(self.canonical, finalized=max(len(self.canonical) - final_lag, 0))

    async def read(self, topic: str) -> list[Any]:
        """What a read_committed consumer sees now, in order per partition."""
        async with consumer(self.bootstrap, "read_committed") as reader:
            targets = [TopicPartition(topic, p) for p in range(2)]
            reader.assign(targets)
            ends = await reader.end_offsets(targets)
            records: list[Any] = []
            for target in targets:
                reader.seek(target, 0)
                while await reader.position(target) < ends[target]:
                    records += [r for batch in (await reader.getmany(target, timeout_ms=200)).values() for r in batch]
            return records

    async def check(self) -> None:
        """Nothing lost, doubled or reordered: numbers, revisions, what stands, what is final."""
        bodies: dict[str, list[dict[str, Any]]] = {}
        for topic in (self.topics.events, self.topics.final):
            seqs: dict[int, int] = {}
            for record in await self.read(topic):
                seqs[record.partition] = seqs.get(record.partition, 0) + 1
                assert int(header(record, "stream_seq")) == seqs[record.partition], (topic, record.offset)
                if header(record, "op") != "watermark":
                    bodies.setdefault(topic, []).append(json.loads(record.value))
        revisions: dict[str, int] = {}
        standing: dict[str, tuple[int, str]] = {}
        for body in bodies.get(self.topics.events, []):
            assert body["revision"] == revisions.get(body["event_id"], 0) + 1
            revisions[body["event_id"]] = body["revision"]
            if body["op"] == "applied":
                assert all(number <= body["block_number"] for number, _ in standing.values()), "out of chain order"
                standing[body["event_id"]] = (body["block_number"], body["block_hash"])
            else:
                assert standing.pop(body["event_id"])[0] >= max([n for n, _ in standing.values()], default=0)
        assert sorted(standing.values()) == [(b.number, b.hash) for b in self.canonical]
        finals = [body["block_hash"] for body in bodies.get(self.topics.final, [])]
        assert finals == [block.hash for block in self.canonical[: self.node.finalized]]
