"""The member of the consumer group, on aiokafka. Positions live in Postgres: nothing is committed to Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from ledger.core.records import Record
from ledger.errors import BrokerUnavailable
from ledger.ports import Lag, Listener, OffsetsLost, Partition

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 2.0
FETCH_WAIT_MS: Final = 500


class KafkaConsumer:
    """Implements ``ledger.ports.ConsumerPort``. Used once: a new membership makes a new one."""

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        group_id: str,
        topics: Sequence[str],
        client_id: str,
        instance_id: str | None,
        fetch_bytes_max: int,
        session_timeout_s: float,
    ) -> None:
        """``instance_id`` makes a static member: one that comes back within the session gets its partitions at once."""
        self._topics = tuple(topics)
        self._consumer: AIOKafkaConsumer | None = None
        self._settings: dict[str, Any] = {
            "bootstrap_servers": bootstrap_servers,
            "group_id": group_id,
            "client_id": client_id,
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "fetch_max_wait_ms": FETCH_WAIT_MS,  # how long the broker waits when there is nothing; data comes at once
            "fetch_min_bytes": 1,
            "max_partition_fetch_bytes": fetch_bytes_max,
            "group_instance_id": instance_id,
            "session_timeout_ms": int(session_timeout_s * 1000),
            "rebalance_timeout_ms": 60_000,
            "max_poll_interval_ms": 600_000,
            "heartbeat_interval_ms": min(3_000, int(session_timeout_s * 1000 / 4)),
            "partition_assignment_strategy": (RangePartitionAssignor,),  # partition n of both topics: one member
        }

    async def start(self, listener: Listener) -> None:
        """See ConsumerPort."""
        consumer = AIOKafkaConsumer(**self._settings)
        consumer.subscribe(self._topics, listener=_Relay(listener))
        self._consumer = consumer
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await consumer.start()
        except (KafkaError, TimeoutError, OSError) as exc:
            await self.stop()
            raise BrokerUnavailable(f"Kafka cannot be joined: {type(exc).__name__} {exc}") from exc
        except BaseException:
            await self.stop()
            raise

    async def poll(self, timeout_s: float) -> Mapping[Partition, Sequence[Record]]:
        """See ConsumerPort."""
        try:
            polled = await self._running().getmany(timeout_ms=int(timeout_s * 1000))
        except NoOffsetForPartitionError:
            return {}  # of a partition that is not sought yet: positions are not in Kafka, there is nothing to find
        except OffsetOutOfRangeError as exc:
            raise OffsetsLost(_offsets(exc)) from exc
        except KafkaError as exc:
            raise BrokerUnavailable(f"Kafka cannot be read: {type(exc).__name__} {exc}") from exc
        return {Partition(tp.topic, tp.partition): records for tp, records in polled.items()}

    def seek(self, partition: Partition, offset: int) -> bool:
        """See ConsumerPort."""
        consumer, tp = self._consumer, TopicPartition(*partition)
        if consumer is None or tp not in consumer.assignment():
            return False
        consumer.seek(tp, offset)
        consumer.resume(tp)
        return True

    def pause(self, partition: Partition) -> None:
        """See ConsumerPort."""
        consumer, tp = self._consumer, TopicPartition(*partition)
        if consumer is not None and tp in consumer.assignment():
            consumer.pause(tp)

    async def lag(self) -> Mapping[Partition, Lag]:
        """See ConsumerPort."""
        consumer = self._running()
        lags: dict[Partition, Lag] = {}
        for tp in consumer.assignment() - consumer.paused():
            try:
                end = consumer.last_stable_offset(tp)
                if end is None or end < 0:
                    continue
                async with asyncio.timeout(0.05):
                    position = await consumer.position(tp)
            except (IllegalStateError, KafkaError, TimeoutError, AssertionError):
                continue  # revoked meanwhile, or not positioned yet
            lags[Partition(tp.topic, tp.partition)] = Lag(records=max(end - position, 0), position=position)
        return lags

    async def stop(self) -> None:
        """Leaves the group; never waits for long, never raises."""
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await consumer.stop()
        except (KafkaError, TimeoutError, OSError):
            return

    def _running(self) -> AIOKafkaConsumer:
        assert self._consumer is not None, "the consumer was not started"
        return self._consumer


class _Relay(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka publishes no types
    """Passes rebalances on in our own words."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    async def on_partitions_revoked(self, revoked: Any) -> None:
        await self._listener.revoked([Partition(tp.topic, tp.partition) for tp in revoked])

    async def on_partitions_assigned(self, assigned: Any) -> None:
        await self._listener.assigned([Partition(tp.topic, tp.partition) for tp in assigned])


def _offsets(exc: KafkaError) -> dict[Partition, int]:
    """Which partitions the error speaks of: its argument is ``{partition: offset}``."""
    offsets: dict[TopicPartition, int] = exc.args[0]
    return {Partition(tp.topic, tp.partition): offset for tp, offset in offsets.items()}
