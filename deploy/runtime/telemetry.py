"""OpenTelemetry for both services: meter with a Prometheus text exposition, tracer, ``traceparent`` across Kafka.

A counter costs about 7 µs and a recorded span 24 µs, so both are used per block and per batch, never per event.
Nothing here is global: ``start`` makes providers of its own and the caller hands them on. This module never talks to
the network; the health server serves the exposition, and spans go to a file or nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import Span, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from typing import TextIO

SECONDS_BUCKETS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.15,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
"""Bucket borders of every histogram with unit "s"; 0.15 s is the latency budget from header to balance."""

COUNT_BUCKETS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5)
"""Bucket borders of every histogram with unit "1": sizes of batches."""

_propagator: Final = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What a service measures with. Histograms take their buckets from their unit: "s" or "1"."""

    meter: Meter
    tracer: Tracer
    meter_provider: MeterProvider
    tracer_provider: TracerProvider
    registry: CollectorRegistry
    trace_stream: TextIO | None

    def exposition(self) -> tuple[bytes, str]:
        """The metrics now, in Prometheus' text format, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def shutdown(self) -> None:
        """Writes out the spans that wait, and ends both providers. May be called once."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()
        if self.trace_stream is not None:
            self.trace_stream.close()


def start(*, service: str, instance: str, chain: str, trace_file: Path | None = None) -> Telemetry:
    """Meter and tracer of one process.

    ``service`` is "chainbooks-indexer" or "chainbooks-ledger"; ``instance`` tells processes of one service apart.
    With a ``trace_file`` every span is recorded and appended to it as one JSON line; without one, spans only pass on
    the context. Raises OSError when the trace file cannot be written.
    """
    resource = Resource.create({"service.name": service, "service.instance.id": instance, "chainbooks.chain": chain})
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)  # resident memory, processor time, open files
    PlatformCollector(registry=registry)
    reader = PrometheusMetricReader(registry=registry, scope_info_enabled=False)
    meter_provider = MeterProvider(metric_readers=[reader], resource=resource, views=_views(), shutdown_on_exit=False)

    tracer_provider = TracerProvider(
        resource=resource, sampler=ParentBased(ALWAYS_ON if trace_file else ALWAYS_OFF), shutdown_on_exit=False
    )
    stream: TextIO | None = None
    if trace_file is not None:
        trace_file.parent.mkdir(parents=True, exist_ok=True)
        stream = trace_file.open("a", encoding="utf-8")
        exporter = ConsoleSpanExporter(out=stream, formatter=_json_line)
        tracer_provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    return Telemetry(
        meter=meter_provider.get_meter(service),
        tracer=tracer_provider.get_tracer(service),
        meter_provider=meter_provider,
        tracer_provider=tracer_provider,
        registry=registry,
        trace_stream=stream,
    )


def traceparent(span: Span) -> str | None:
    """W3C ``traceparent`` of a span, for a Kafka header; None when the span is not part of a trace."""
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def parent_context(header: str | None) -> Context:
    """The context to start a span in, from a ``traceparent`` header; a missing or malformed one starts a new trace."""
    return _propagator.extract({"traceparent": header} if header else {}, context=Context())


def _views() -> list[View]:
    return [
        View(
            instrument_type=Histogram,
            instrument_unit=unit,
            instrument_name="*",
            aggregation=ExplicitBucketHistogramAggregation(boundaries=buckets),
        )
        for unit, buckets in (("s", SECONDS_BUCKETS), ("1", COUNT_BUCKETS))
    ]


def _json_line(span: ReadableSpan) -> str:
    return str(span.to_json(indent=None)) + "\n"
