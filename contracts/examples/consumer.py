"""A correct consumer of chainbooks topics: class ``Consumer``, about twenty lines that need nothing of this project.

    python contracts/examples/consumer.py contracts/examples/reorg.ndjson
    python contracts/examples/consumer.py --kafka HOST:PORT payments.local.events.v1 payments.local.final.v1

Prints the state that it ends in as JSON, in the form that check.py judges: from the fixture, or from what live topics
hold (aiokafka, read_committed). It stops at the end of what was there when it started, and commits no offsets.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

CONFIRMATIONS = 3
OPERATIONS = ("applied", "retracted", "finalized", "revoked", "watermark")


class Consumer:
    """The consumer of one topic. In a service its fields are tables, written in one db_tx with what ``act`` does."""

    def __init__(self, confirmations: int) -> None:
        self.confirmations = confirmations  # 0: act on a record as soon as it comes, right for the final topic
        self.stream: dict[int, str] = {}  # partition → stream_id
        self.seq: Counter[int] = Counter()  # partition → stream_seq of the last record taken
        self.newest: dict[str, Any] = {}  # event_id → its newest revision
        self.waiting: dict[str, int] = {}  # event_id of what counts and was not acted on → partition
        self.complete_through: dict[int, Any] = {}  # partition → block
        self.actions: list[dict[str, Any]] = []

    def take(self, partition: int, headers: dict[str, str], value: bytes) -> None:
        """One record, in the order of its partition. Records that come again change nothing."""
        seq, op = int(headers["stream_seq"]), headers["op"]
        same_stream = self.stream.setdefault(partition, headers["stream_id"]) == headers["stream_id"]
        if same_stream and seq <= self.seq[partition]:
            return  # delivered again, after a crash or a rebalance
        if not same_stream or seq != self.seq[partition] + 1 or op not in OPERATIONS:
            raise SystemExit(f"partition {partition}: {op} {seq} after {self.seq[partition]}: stop, commit nothing")
        record = json.loads(value)
        if op == "watermark":
            self.complete_through[partition] = record["latest"]
            for event_id in [key for key, home in self.waiting.items() if home == partition]:
                if record["latest"]["number"] - self.newest[event_id]["block_number"] >= self.confirmations:
                    self.act(event_id, seq)
        elif record["revision"] > self.newest.get(record["event_id"], {"revision": 0})["revision"]:
            self.newest[record["event_id"]] = record
            if record["revision"] % 2 == 1:
                self.waiting[record["event_id"]] = partition
                if self.confirmations == 0:
                    self.act(record["event_id"], seq)
            elif self.waiting.pop(record["event_id"], None) is None:
                self.note("take back", record["event_id"], seq)
        self.seq[partition] = seq

    def act(self, event_id: str, seq: int) -> None:
        """Ship, credit, send the mail. Under the key (event_id, revision), so that a second time does nothing."""
        del self.waiting[event_id]
        self.note("act", event_id, seq)

    def note(self, did: str, event_id: str, seq: int) -> None:
        """Write down what was done at which record of the partition."""
        revision = self.newest[event_id]["revision"]
        self.actions.append({"did": did, "event_id": event_id, "revision": revision, "stream_seq": seq})

    def state(self) -> dict[str, Any]:
        """What the consumer believes now, JSON-ready."""
        counted = {key: event for key, event in self.newest.items() if event["revision"] % 2 == 1}
        paid: Counter[str] = Counter()
        for event in counted.values():
            if event["event"] == "InvoicePaid":
                paid[event["correlation"]["invoice"]] += int(event["args"]["gross"])
        return {
            "counted": {key: event["revision"] for key, event in counted.items()},
            "paid": {invoice: str(gross) for invoice, gross in paid.items()},
            "revoked": {key: e["incident_id"] for key, e in self.newest.items() if e["op"] == "revoked"},
            "actions": self.actions,
            "complete_through": {str(partition): block for partition, block in self.complete_through.items()},
        }


class Consumers:
    """One consumer a topic: on the events topic it waits for confirmations, on the final topic it acts at once."""

    def __init__(self, kind: type[Consumer] = Consumer) -> None:
        self.of = {"events": kind(CONFIRMATIONS), "final": kind(0)}

    def take(self, topic: str, partition: int, headers: dict[str, str], value: bytes) -> None:
        """``topic`` is ``[prefix.]payments.<chain>.<events|final>.v1``."""
        self.of[topic.split(".")[-2]].take(partition, headers, value)

    def state(self) -> dict[str, Any]:
        """The document that check.py judges."""
        return {name: consumer.state() for name, consumer in self.of.items()}


def from_file(path: Path, consumers: Consumers) -> None:
    """The fixture, as a broker would deliver it."""
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        value = json.dumps(record["value"], separators=(",", ":"), ensure_ascii=False).encode()
        consumers.take(record["topic"], record["partition"], record["headers"], value)


async def from_kafka(servers: str, topics: list[str], consumers: Consumers, isolation: str = "read_committed") -> None:
    """What the topics hold now."""
    from aiokafka import AIOKafkaConsumer

    client = AIOKafkaConsumer(
        *topics,  # without a group: all partitions
        bootstrap_servers=servers,
        isolation_level=isolation,  # the default, read_uncommitted, shows records that were aborted
        auto_offset_reset="earliest",  # with positions of your own: "none", and seek
        enable_auto_commit=False,
    )
    await client.start()
    try:
        ends = await client.end_offsets(client.assignment())
        while any([await client.position(partition) < end for partition, end in ends.items()]):
            for partition, records in (await client.getmany(timeout_ms=500)).items():
                for record in records:
                    headers = {name: raw.decode() for name, raw in record.headers}
                    consumers.take(partition.topic, partition.partition, headers, record.value)
    finally:
        await client.stop()


def main(arguments: list[str]) -> int:
    """Reads a file or topics; prints the state."""
    consumers = Consumers()
    match arguments:
        case ["--kafka", servers, *topics] if topics:
            asyncio.run(from_kafka(servers, topics, consumers))
        case [path] if not path.startswith("-"):
            from_file(Path(path), consumers)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    print(json.dumps(consumers.state(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
