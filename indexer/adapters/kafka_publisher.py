"""The producer side of the publishing protocol: one kafka_tx per call, all or nothing.

aiokafka's ``commit_transaction`` succeeds after a failed send, its calls can wait for ever, and after a fatal error
they raise AssertionError. So every send is awaited before the commit, every call has a deadline, and after any failure
the publisher is dead: the caller closes it, builds a new one and reloads from the state topic. It never carries on from
memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from itertools import groupby
from typing import Any, Final, TypeVar, cast

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.structs import TopicPartition

from contracts.messages import Headers, Topics, encode
from indexer.core.compose import KafkaTx
from indexer.core.state import StreamKind
from indexer.errors import BrokerUnavailable, Fenced, PublisherLost, PublishingRefused

BATCH_BYTES_MAX: Final = 512_000
REQUEST_BYTES_MAX: Final = 1_048_576
PERMANENT: Final = (
    ClusterAuthorizationFailedError,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
STOP_S: Final = 0.8  # deadline of each step of an orderly stop; all of them stay under five seconds

_T = TypeVar("_T")
_Row = tuple[bytes, bytes | None, Headers, int]
_log = structlog.get_logger(__name__)


class KafkaPublisher:
    """A transactional producer for one chain. Not reusable after an exception."""

    def __init__(
        self, *, bootstrap_servers: str, transactional_id: str, topics: Topics, timeout_s: float = 15.0
    ) -> None:
        self._topics = topics
        self._timeout_s = timeout_s
        self._open = False
        self._names: dict[StreamKind, str] = {
            "events": topics.events,
            "final": topics.final,
            "rejected": topics.rejected,
        }
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers,
            client_id=transactional_id,
            transactional_id=transactional_id,
            enable_idempotence=True,
            acks="all",
            linger_ms=0,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=REQUEST_BYTES_MAX,
            request_timeout_ms=int(timeout_s * 1000),
            transaction_timeout_ms=int(2 * timeout_s * 1000),
        )

    async def open(self) -> None:
        """Starts the producer: fences older ones and ends their open kafka_tx. Raises BrokerUnavailable."""
        try:
            await self._within(self._producer.start())
        except (KafkaError, TimeoutError, AssertionError, OSError) as exc:
            raise BrokerUnavailable(f"the producer does not start: {_said(exc)}") from exc

    async def publish(self, tx: KafkaTx) -> list[int]:
        """Sends everything and commits; the offsets of the state writes. Raises Fenced, or PublisherLost when the

        outcome is a failure or unknown.

        A cancellation waits for the kafka_tx to finish, for STOP_S at most, so that an orderly stop leaves none open.
        """
        sending = asyncio.ensure_future(self._publish(tx))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.wait({sending}, timeout=STOP_S)
            if not sending.done():
                sending.cancel()
            elif not sending.cancelled() and (failure := sending.exception()) is not None:
                _log.warning("a kafka_tx failed during the stop", reason=_said(failure))
            raise

    async def _publish(self, tx: KafkaTx) -> list[int]:
        try:
            self._open = True
            await self._within(self._producer.begin_transaction())
            offsets = await self._within(self._send_all(tx))
            await self._within(self._producer.commit_transaction())
            self._open = False
            return offsets
        except ProducerFenced as exc:
            raise Fenced(_said(exc)) from exc
        except PERMANENT as exc:
            raise PublishingRefused(f"Kafka refuses for good: {_said(exc)}") from exc
        except (KafkaError, TimeoutError, AssertionError, OSError, ValueError) as exc:
            raise PublisherLost(f"a kafka_tx failed or its outcome is unknown: {_said(exc)}") from exc

    async def close(self) -> None:
        """Aborts an open kafka_tx and stops the producer, each within a deadline. What is left open times out."""
        if self._open:
            try:
                await asyncio.wait_for(self._producer.abort_transaction(), timeout=STOP_S)
            except (KafkaError, TimeoutError, AssertionError, OSError) as exc:
                _log.debug("an open kafka_tx was not aborted", reason=_said(exc))
        try:
            await asyncio.wait_for(self._producer.stop(), timeout=STOP_S)
        except (KafkaError, TimeoutError, AssertionError, OSError) as exc:
            _log.warning("producer did not stop cleanly", reason=_said(exc))

    async def _within(self, call: Awaitable[_T]) -> _T:
        return await asyncio.wait_for(call, timeout=self._timeout_s)

    async def _send_all(self, tx: KafkaTx) -> list[int]:
        """Sends every record and awaits every acknowledgement; the offsets of the state writes."""
        by_partition: dict[TopicPartition, list[_Row]] = {}
        for record in tx.registry:
            row: _Row = (record.version.encode(), encode(record), [], 0)
            by_partition.setdefault(TopicPartition(self._topics.registry, 0), []).append(row)
        ordered = sorted(tx.records, key=lambda r: (r.topic, r.partition))  # stable: keeps each partition's order
        for (topic, partition), records in groupby(ordered, key=lambda r: (r.topic, r.partition)):
            target = TopicPartition(self._names[topic], partition)
            by_partition[target] = [(r.key, r.value, r.headers, r.timestamp_ms) for r in records]
        by_partition[TopicPartition(self._topics.state, 0)] = [(k.encode(), v, [], 0) for k, v in tx.state]
        sending = [self._send_partition(target, rows) for target, rows in by_partition.items()]
        outcomes = await asyncio.gather(*sending, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:
            raise next((f for f in failures if isinstance(f, ProducerFenced)), failures[0])
        return cast("list[int]", outcomes[-1])  # the state topic was put in last

    async def _send_partition(self, target: TopicPartition, rows: Iterable[_Row]) -> list[int]:
        """Sends the rows of one partition in order, one batch in flight, and awaits every acknowledgement."""
        offsets: list[int] = []
        batch = self._producer.create_batch()
        for key, value, headers, timestamp_ms in rows:
            fields = {"key": key, "value": value, "headers": headers, "timestamp": timestamp_ms or None}
            if batch.append(**fields) is None:
                offsets += await self._send_batch(batch, target)
                batch = self._producer.create_batch()
                if batch.append(**fields) is None:
                    raise PublisherLost(f"a record of {len(value or b'')} bytes does not fit into a batch")
        offsets += await self._send_batch(batch, target)
        return offsets

    async def _send_batch(self, batch: Any, target: TopicPartition) -> Iterable[int]:
        """The offsets of its records; −1 where the broker does not tell them (a batch that it had already)."""
        batch.close()
        if not batch.record_count():
            return ()
        acknowledged = await (await self._producer.send_batch(batch, target.topic, partition=target.partition))
        first = int(acknowledged.offset)
        return range(first, first + batch.record_count()) if first >= 0 else [-1] * batch.record_count()


def _said(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
