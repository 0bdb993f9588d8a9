"""Listens to the run's events topic as any backend service would, and keeps what the report needs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from contracts.messages import PaymentEvent, decode_event, decode_watermark

POLL_MS: Final = 200


@dataclass(slots=True)
class Heard:
    """What came over the topic so far."""

    head: int = 0
    finalized: int = 0
    ops: Counter[str] = field(default_factory=Counter)  # applied, retracted
    kinds: Counter[str] = field(default_factory=Counter)  # contract.event, of events that stand
    standing: dict[str, PaymentEvent] = field(default_factory=dict)  # by event id
    retracted: list[PaymentEvent] = field(default_factory=list)
    received_ms: dict[tuple[int, str], int] = field(default_factory=dict)  # (number, hash) → Unix ms of the header
    partition_of: dict[str, int] = field(default_factory=dict)  # book → partition


class Tap:
    """A consumer without a group, from the beginning, read_committed. Call ``run`` as a task."""

    def __init__(self, *, bootstrap_servers: str, topic: str, partitions: int) -> None:
        self.heard = Heard()
        self._assigned = [TopicPartition(topic, number) for number in range(partitions)]
        self._bootstrap_servers = bootstrap_servers

    async def run(self) -> None:
        """Reads until cancelled."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            consumer.assign(self._assigned)
            while True:
                batches = await consumer.getmany(timeout_ms=POLL_MS)
                for records in batches.values():
                    for record in records:
                        self._take(record)
        finally:
            await consumer.stop()

    def _take(self, record: ConsumerRecord[bytes, bytes]) -> None:
        headers = dict(record.headers)
        heard = self.heard
        if headers.get("op") == b"watermark":
            mark = decode_watermark(record.value or b"")
            heard.head = max(heard.head, mark.latest.number)
            heard.finalized = max(heard.finalized, mark.finalized.number)
            if "received_ms" in headers:
                heard.received_ms.setdefault((mark.latest.number, mark.latest.hash), int(headers["received_ms"]))
            return
        event = decode_event(record.value or b"")
        heard.ops[event.op] += 1
        heard.partition_of[event.book] = record.partition
        kind = f"{event.contract}.{event.event}"
        if event.op == "retracted":
            heard.retracted.append(event)
            if heard.standing.pop(event.event_id, None) is not None:
                heard.kinds[kind] -= 1
        elif event.op == "applied":
            heard.standing[event.event_id] = event
            heard.kinds[kind] += 1
