"""The indexer's side of the simulated Kafka: a transactional producer, and a reader of the state topic.

They do to the simulated broker what indexer.adapters.kafka_publisher and kafka_state do to a real one, and fail as
those fail. Every request waits at the process's gate: a process can be killed before and after each.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from typing import ClassVar, Final

from contracts.messages import Topics, encode
from indexer.core.compose import KafkaTx
from indexer.errors import BrokerUnavailable, Fenced, PublisherLost
from indexer.ports import StateRecord
from tests.simulation.faults import Faults
from tests.simulation.kafka import Broker, Headers, Log, Tx, committed
from tests.simulation.loop import Gate

Row = tuple[bytes | None, bytes | None, Headers]
STOP_S: Final = 0.8
BARRIER_LOOKS: Final = 40
BARRIER_WAIT_S: Final = 0.25


class SimPublisher:
    """Implements indexer.ports.PublisherPort."""

    awaits_sends: ClassVar[bool] = True
    """False makes the mistake that the protocol forbids: to commit though a send has failed."""

    def __init__(
        self, broker: Broker, *, transactional_id: str, topics: Topics, gate: Gate, faults: Faults, pick: random.Random
    ) -> None:
        self._broker = broker
        self._coordinator = broker.coordinator(transactional_id)
        self._topics = topics
        self._gate = gate
        self._faults = faults
        self._pick = pick
        self._epoch = 0
        self._tx: Tx | None = None
        self._over = False

    async def open(self) -> None:
        await self._gate.wait("producer open")
        if self._faults.happens("kafka: producer cannot be opened"):
            if self._pick.random() < 0.5:
                self._coordinator.init()  # it was heard, only the answer was lost
            raise BrokerUnavailable("the producer does not start")
        self._epoch = self._coordinator.init()
        await self._gate.wait("producer opened")

    async def publish(self, tx: KafkaTx) -> Sequence[int]:
        """A cancellation waits for the kafka_tx to finish, for STOP_S at most."""
        sending = asyncio.ensure_future(self._attempt(tx))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.wait({sending}, timeout=STOP_S)
            if not sending.done():
                sending.cancel()
            elif not sending.cancelled():
                sending.exception()
            raise

    async def _attempt(self, tx: KafkaTx) -> Sequence[int]:
        try:
            if self._tx is not None:
                raise PublisherLost("the last kafka_tx is still open")
            if self._over or self._faults.happens("kafka: producer is wedged"):
                await self._gate.wait("send, wedged")
                raise PublisherLost("the producer is wedged")
            return await self._publish(tx)
        except (PublisherLost, Fenced):
            self._over = True
            raise

    async def close(self) -> None:
        if not self._gate.open:
            return
        await self._gate.wait("producer close")
        if self._tx is not None and self._pick.random() < 0.7:  # an abort that fails leaves the kafka_tx to time out
            self._coordinator.abort(self._tx)

    async def _publish(self, tx: KafkaTx) -> Sequence[int]:
        state = self._broker.log(self._topics.state)
        offsets: Sequence[int] = ()
        targets = list(self._rows(tx).items())
        self._pick.shuffle(targets)
        for log, rows in targets:
            await self._gate.wait(f"send {log.topic.split('.')[-2]}/{log.partition}")
            self._check()
            if self._tx is None:
                self._tx = self._coordinator.begin(self._epoch)
            if self._faults.happens("kafka: a send fails before the commit"):
                if self.awaits_sends:
                    raise PublisherLost("a send failed")
                continue
            if log is state:
                offsets = range(log.end, log.end + len(rows))
            for key, value, headers in rows:
                log.append(self._tx, key, value, headers)
        await self._gate.wait("commit")
        self._check()
        self._commit()
        await self._gate.wait("committed")
        self._tx = None
        return offsets

    def _commit(self) -> None:
        coordinator, tx = self._coordinator, self._tx
        assert tx is not None
        if self._faults.happens("kafka: kafka_tx times out and surfaces as fenced"):
            coordinator.expire()
            raise Fenced("ProducerFenced, for nothing but a timeout")
        if self._faults.happens("kafka: commit refused, kafka_tx left open"):
            raise PublisherLost("the commit was refused")
        if self._faults.happens("kafka: commit is delayed beyond the client's timeout"):
            coordinator.delayed = tx
            raise PublisherLost("the commit timed out")
        coordinator.commit(tx)
        if self._faults.happens("kafka: commit times out after it committed"):
            raise PublisherLost("the commit timed out")

    def _check(self) -> None:
        try:
            self._coordinator.check(self._epoch)
        except Fenced:
            self._faults.count("kafka: zombie producer fenced")
            raise

    def _rows(self, tx: KafkaTx) -> dict[Log, list[Row]]:
        rows: dict[Log, list[Row]] = {}
        names = {"events": self._topics.events, "final": self._topics.final, "rejected": self._topics.rejected}
        for record in tx.registry:
            log = self._broker.log(self._topics.registry)
            rows.setdefault(log, []).append((record.version.encode(), encode(record), []))
        for out in tx.records:
            log = self._broker.log(names[out.topic], out.partition)
            rows.setdefault(log, []).append((out.key, out.value, out.headers))
        rows[self._broker.log(self._topics.state)] = [(key.encode(), value, []) for key, value in tx.state]
        return rows


class SimStateReader:
    """Implements indexer.ports.StatePort."""

    def __init__(self, broker: Broker, *, gate: Gate, faults: Faults, pick: random.Random) -> None:
        self._broker = broker
        self._gate = gate
        self._faults = faults
        self._pick = pick

    async def read(self, topic: str, *, to_the_very_end: bool) -> AsyncGenerator[StateRecord, None]:
        log = await self._asked(topic, "read state")
        below = await self._barrier(log) if to_the_very_end else self._visible_end(log)
        for entry in log.read(0, log.end, below=below)[0]:
            yield entry.offset, (entry.key or b"").decode(), entry.value

    async def read_at(self, topic: str, offsets: Sequence[int]) -> list[StateRecord]:
        log = await self._asked(topic, "read parts")
        entries = (log.entries[offset] for offset in offsets if offset < log.stable)
        return [(entry.offset, (entry.key or b"").decode(), entry.value) for entry in entries if entry.readable]

    async def latest(self, topic: str, key: str) -> bytes | None:
        log = await self._asked(topic, "read owner")
        found = log.read(0, log.end, below=self._visible_end(log))[0]
        return next((entry.value for entry in reversed(found) if entry.key == key.encode()), None)

    async def _asked(self, topic: str, what: str) -> Log:
        await self._gate.wait(what)
        if self._faults.happens("kafka: broker away for a reader"):
            raise BrokerUnavailable(f"{topic} cannot be read")
        return self._broker.log(topic)

    async def any_records(self, topic: str, partitions: int) -> bool:
        await self._gate.wait("read streams")
        return any(True for p in range(partitions) for _ in committed(self._broker.log(topic, p)))

    async def _barrier(self, log: Log) -> int:
        """The end as read_uncommitted sees it; waits until all below is decided."""
        end = log.end
        for _ in range(BARRIER_LOOKS):
            if log.stable >= end:
                return end
            await asyncio.sleep(BARRIER_WAIT_S)
            await self._gate.wait("read state, waiting")
        raise BrokerUnavailable(f"{log.topic} cannot be read to its end")

    def _visible_end(self, log: Log) -> int:
        """The last stable offset, or an older one that a slow replica still names: whole kafka_txs in any case."""
        ends = [entry.offset + 1 for entry in log.entries[: log.stable] if entry.marker][-4:]
        if len(ends) > 1 and self._faults.happens("kafka: last stable offset is stale for a reader"):
            return self._pick.choice(ends[:-1])
        return log.stable
