"""Consumers with one typical mistake each. The conformance fixture must catch every one of them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from contracts.examples.consumer import Consumer


class ConfirmsWithAnOldWatermark(Consumer):
    """Dedupes events by revision, but takes watermarks that come again after a crash for news.

    All the others build on it and change one decision more.
    """

    def take(self, partition: int, headers: dict[str, str], value: bytes) -> None:
        record, seq = json.loads(value), int(headers["stream_seq"])
        if record["op"] == "watermark":
            self.complete_through[partition] = record["latest"]
            for event_id in [key for key, home in self.waiting.items() if self.confirms(partition, home)]:
                if record["latest"]["number"] - self.newest[event_id]["block_number"] >= self.confirmations:
                    self.act(event_id, seq)
        elif self.is_news(record):
            self.newest[record["event_id"]] = record
            if record["revision"] % 2 == 1:
                self.waiting[record["event_id"]] = partition
                if self.confirmations == 0:
                    self.act(record["event_id"], seq)
            elif self.waiting.pop(record["event_id"], None) is None:
                self.note("take back", record["event_id"], seq)

    def confirms(self, partition: int, home: int) -> bool:
        return partition == home

    def is_news(self, record: dict[str, Any]) -> bool:
        known = self.newest.get(record["event_id"])
        return known is None or bool(record["revision"] > known["revision"])


class IgnoresRetractions(ConfirmsWithAnOldWatermark):
    def is_news(self, record: dict[str, Any]) -> bool:
        return record["op"] in ("applied", "finalized") and super().is_news(record)


class DedupesByEventIdOnly(ConfirmsWithAnOldWatermark):
    def is_news(self, record: dict[str, Any]) -> bool:
        return record["event_id"] not in self.newest


class DedupesByTxHash(ConfirmsWithAnOldWatermark):
    def is_news(self, record: dict[str, Any]) -> bool:
        others = (event for key, event in self.newest.items() if key != record["event_id"])
        return super().is_news(record) and all(event["tx_hash"] != record["tx_hash"] for event in others)


class TreatsLatestAsFinal(ConfirmsWithAnOldWatermark):
    def __init__(self, confirmations: int) -> None:
        super().__init__(0)


class IgnoresTheOrderOfRevisions(ConfirmsWithAnOldWatermark):
    def is_news(self, record: dict[str, Any]) -> bool:
        return True


class IgnoresRevoked(ConfirmsWithAnOldWatermark):
    def is_news(self, record: dict[str, Any]) -> bool:
        return record["op"] != "revoked" and super().is_news(record)


class DropsLateEvents(ConfirmsWithAnOldWatermark):
    def is_news(self, record: dict[str, Any]) -> bool:
        heights = [block["number"] for block in self.complete_through.values()]
        old = bool(heights) and record["block_number"] < max(heights) - 5
        return not old and super().is_news(record)


class ConfirmsWithAnyPartitionsWatermark(ConfirmsWithAnOldWatermark):
    def confirms(self, partition: int, home: int) -> bool:
        return True


class NeverTakesBack(ConfirmsWithAnOldWatermark):
    def note(self, did: str, event_id: str, seq: int) -> None:
        if did == "act":
            super().note(did, event_id, seq)


class AddsAndSubtracts(ConfirmsWithAnOldWatermark):
    """Keeps a running total and no revisions."""

    def __init__(self, confirmations: int) -> None:
        super().__init__(confirmations)
        self.totals: Counter[str] = Counter()

    def is_news(self, record: dict[str, Any]) -> bool:
        if record["event"] == "InvoicePaid":
            sign = 1 if record["revision"] % 2 else -1
            self.totals[record["correlation"]["invoice"]] += sign * int(record["args"]["gross"])
        return super().is_news(record)

    def state(self) -> dict[str, Any]:
        return super().state() | {"paid": {invoice: str(total) for invoice, total in self.totals.items() if total}}


MISTAKES: dict[type[Consumer], set[str]] = {
    ConfirmsWithAnOldWatermark: {"events.actions"},
    IgnoresRetractions: {"events.counted", "events.paid", "final.counted"},
    DedupesByEventIdOnly: {"events.counted", "events.actions", "final.actions"},
    DedupesByTxHash: {"events.counted", "events.paid", "final.paid"},
    TreatsLatestAsFinal: {"events.actions"},
    IgnoresTheOrderOfRevisions: {"events.actions", "final.actions"},
    IgnoresRevoked: {"events.revoked", "events.counted", "final.revoked", "final.actions"},
    DropsLateEvents: {"events.counted", "events.paid"},
    ConfirmsWithAnyPartitionsWatermark: {"events.actions"},
    NeverTakesBack: {"events.actions", "final.actions"},
    AddsAndSubtracts: {"events.paid", "final.paid"},
}
"""What each of them must get wrong, at least: ``<topic>.<part of the state>``."""
