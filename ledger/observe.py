"""What the ledger tells about itself: metrics and spans per batch, and whether it is right. Never per event."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog

from deploy.runtime.health import Readiness
from deploy.runtime.telemetry import Telemetry, parent_context
from ledger.core.fold import Folded
from ledger.core.records import Item
from ledger.ports import Claim, Lag, Partition, Promotion

_log = structlog.get_logger(__name__)


class Observer:
    """Collects from workers, pipeline and promotion; the health server asks ``readiness``."""

    def __init__(self, telemetry: Telemetry, *, chain: str, lag_max_s: float) -> None:
        self._chain = {"chain": chain}
        self._lag_max_s = lag_max_s
        self._tracer = telemetry.tracer
        meter = telemetry.meter
        self._events = meter.create_counter("chainbooks_ledger_entries", description="entries posted, by op")
        self._refused = meter.create_counter("chainbooks_ledger_quarantined", description="records quarantined")
        self._duplicates = meter.create_counter("chainbooks_ledger_duplicates", description="records dropped as known")
        self._batch_records = meter.create_histogram(
            "chainbooks_ledger_batch_records", unit="1", description="records of a db_tx"
        )
        self._batch_seconds = meter.create_histogram(
            "chainbooks_ledger_batch_seconds", unit="s", description="time to fold and commit a batch"
        )
        self._latest = meter.create_gauge(
            "chainbooks_ledger_latest", description="block a partition is complete through"
        )
        self._finalized = meter.create_gauge(
            "chainbooks_ledger_finalized", description="finalized block of a partition"
        )
        self._promoted = meter.create_gauge("chainbooks_ledger_promoted", description="block final balances go through")
        self._lag = meter.create_gauge("chainbooks_ledger_lag_records", description="offsets not folded yet")
        self._stopped = meter.create_gauge("chainbooks_ledger_stopped", description="1 when a partition is stopped")
        self._claims = meter.create_counter("chainbooks_ledger_claims", description="partitions claimed")
        self._breaks = meter.create_counter("chainbooks_ledger_breaks", description="clearing breaks, by change")
        self._assigned: frozenset[Partition] | None = None
        self._claimed: set[Partition] = set()
        self._stops: dict[Partition, str] = {}
        self._behind_since: dict[Partition, float] = {}
        self._partition_finalized: dict[Partition, int] = {}
        self._promoted_number = -1
        self._promotion_behind_since: float | None = None
        self._waiting: dict[str, str] = {}

    def waiting(self, stage: str, reason: str) -> None:
        self._waiting[stage] = reason

    def recovered(self, stage: str) -> None:
        self._waiting.pop(stage, None)

    def assigned(self, partitions: frozenset[Partition]) -> None:
        self._assigned = partitions
        for gone in [p for p in self._behind_since if p not in partitions]:
            del self._behind_since[gone]
        for gone in [p for p in self._partition_finalized if p not in partitions]:
            del self._partition_finalized[gone]

    def claimed(self, claim: Claim) -> None:
        """A partition is ours; why it had stopped is forgotten until it stops again."""
        self._claimed.add(claim.partition)
        self._stops.pop(claim.partition, None)
        self._claims.add(1, self._labels(claim.partition))
        self._stopped.set(0, self._labels(claim.partition))
        if claim.kind == "events" and claim.state.finalized is not None:
            self._partition_finalized[claim.partition] = claim.state.finalized

    def released(self, partition: Partition) -> None:
        self._claimed.discard(partition)

    def stopped(self, claim: Claim, reason: str) -> None:
        self._stops[claim.partition] = reason
        self._stopped.set(1, self._labels(claim.partition))
        _log.error("partition stopped", topic=claim.partition.topic, partition=claim.partition.number, reason=reason)

    @contextmanager
    def batch(self, claim: Claim, items: Sequence[Item], traceparent: bytes | None) -> Iterator[None]:
        """A span around one batch, in the trace of its newest record."""
        began = time.perf_counter()
        header = traceparent.decode("ascii", "replace") if traceparent else None
        attributes: dict[str, str | int] = {
            "chain": self._chain["chain"],
            "partition": claim.partition.number,
            "records": len(items),
            "first_seq": items[0].seq,
        }
        with self._tracer.start_as_current_span("fold", context=parent_context(header), attributes=attributes):
            yield
        self._batch_seconds.record(time.perf_counter() - began, self._chain)

    def committed(self, claim: Claim, folded: Folded) -> None:
        labels = self._labels(claim.partition)
        self._batch_records.record(folded.after.position.stream_seq - folded.before.position.stream_seq, self._chain)
        reversals = sum(1 for entry in folded.entries if entry.change.retracts)
        for op, count in (("post", len(folded.entries) - reversals), ("reverse", reversals)):
            if count:
                self._events.add(count, self._chain | {"op": op})
        if folded.refused:
            self._refused.add(len(folded.refused), self._chain)
            first = folded.refused[0]
            _log.warning(
                "records quarantined", partition=claim.partition.number, count=len(folded.refused), reason=first.reason
            )
        if folded.duplicates:
            self._duplicates.add(folded.duplicates, self._chain)
        if folded.mark is not None:
            self._latest.set(folded.mark.watermark.latest.number, labels)
            self._finalized.set(folded.mark.watermark.finalized.number, labels)
            self._partition_finalized[claim.partition] = folded.mark.watermark.finalized.number

    def promoted(self, step: Promotion) -> None:
        self._promoted_number = step.number
        self._promoted.set(step.number, self._chain)
        for change, count in (("opened", step.breaks_opened), ("resolved", step.breaks_resolved)):
            if count:
                self._breaks.add(count, self._chain | {"change": change})
                _log.warning("clearing breaks", change=change, count=count, block=step.number)

    def promotion_settled(self) -> None:
        """There is nothing left to promote just now."""
        self._promotion_behind_since = None

    def promotion_pending(self) -> None:
        if self._promotion_behind_since is None:
            self._promotion_behind_since = time.monotonic()

    def lag(self, lags: Mapping[Partition, Lag]) -> None:
        now = time.monotonic()
        for partition, lag in lags.items():
            self._lag.set(lag.records, self._labels(partition))
            if lag.records <= 0:
                self._behind_since.pop(partition, None)
            else:
                self._behind_since.setdefault(partition, now)

    def readiness(self) -> Readiness:
        """Ready: joined, every partition of ours claimed, none stopped, none behind for too long, promoted."""
        now = time.monotonic()
        reasons = [f"{p.topic}/{p.number} stopped: {reason}" for p, reason in sorted(self._stops.items())]
        reasons += [f"waiting for {stage}: {reason}" for stage, reason in self._waiting.items()]
        if self._assigned is None:
            reasons.append("not a member of the consumer group yet")
        else:
            missing = self._assigned - self._claimed - self._stops.keys()
            reasons += [f"{p.topic}/{p.number} is not claimed" for p in sorted(missing)]
        for partition, since in sorted(self._behind_since.items()):
            if now - since > self._lag_max_s and partition not in self._stops:
                reasons.append(f"{partition.topic}/{partition.number} is behind for {now - since:.0f} s")
        pending = self._promotion_behind_since
        if pending is not None and now - pending > self._lag_max_s:
            reasons.append(f"promotion is behind for {now - pending:.0f} s, at block {self._promoted_number}")
        return Readiness(ready=not reasons, reasons=reasons)

    def _labels(self, partition: Partition) -> dict[str, str]:
        return self._chain | {"topic": partition.topic, "partition": str(partition.number)}
