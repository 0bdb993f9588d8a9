"""Telemetry: one trace goes on across processes, spans are recorded only when asked for, buckets fit the unit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.runtime import telemetry
from deploy.runtime.telemetry import Telemetry


@contextmanager
def started(trace_file: Path | None = None) -> Iterator[Telemetry]:
    running = telemetry.start(service="chainbooks-test", instance="a", chain="local", trace_file=trace_file)
    try:
        yield running
    finally:
        running.shutdown()


def test_a_trace_goes_on_through_the_header(tmp_path: Path) -> None:
    path = tmp_path / "traces" / "spans.jsonl"
    with started(path) as running:
        with running.tracer.start_as_current_span("block") as block:
            header = telemetry.traceparent(block)
        with running.tracer.start_as_current_span("batch", context=telemetry.parent_context(header)):
            pass
    block_span, batch_span = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    assert (block_span["name"], batch_span["name"]) == ("block", "batch")
    assert batch_span["context"]["trace_id"] == block_span["context"]["trace_id"]
    assert batch_span["parent_id"] == block_span["context"]["span_id"]


@pytest.mark.parametrize("header", [None, "", "00-nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_missing_or_malformed_header_starts_a_new_trace(tmp_path: Path, header: str | None) -> None:
    path = tmp_path / "spans.jsonl"
    with (
        started(path) as running,
        running.tracer.start_as_current_span("batch", context=telemetry.parent_context(header)),
    ):
        pass
    assert json.loads(path.read_text(encoding="utf-8"))["parent_id"] is None


def test_without_a_trace_file_nothing_is_recorded_but_the_context_is_passed_on() -> None:
    upstream = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-00"
    with started() as running:
        span = running.tracer.start_span("block", context=telemetry.parent_context(upstream))
        assert not span.is_recording()
        assert not running.tracer.start_span("a trace of its own").is_recording()
        header = telemetry.traceparent(span)
    assert header is not None
    assert header.startswith("00-" + "ab" * 16)


def test_the_latency_budget_is_a_bucket_border() -> None:
    with started() as running:
        running.meter.create_histogram("chainbooks_test_latency", unit="s").record(0.15)
        running.meter.create_histogram("chainbooks_test_batch", unit="1").record(400)
        text = running.exposition()[0].decode()
    assert 'chainbooks_test_latency_seconds_bucket{le="0.15"} 1.0' in text
    assert 'le="500.0"} 1.0' in text


def test_two_services_in_one_process_do_not_share_metrics() -> None:
    with started() as one, started() as other:
        one.meter.create_counter("chainbooks_test_only_here").add(1)
        assert b"chainbooks_test_only_here" in one.exposition()[0]
        assert b"chainbooks_test_only_here" not in other.exposition()[0]
