"""Structured logging of both services: one line an event on stderr, for people (console) or machines (json).

Code logs with ``structlog.get_logger()`` and key-value pairs (chain, block, partition); the pairs of a task go into
``structlog.contextvars``. Lines of libraries come out in the same form. This module never opens a file.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

QUIET: Final = ("aiokafka", "kafka", "asyncio", "web3", "urllib3", "aiohttp.access")
"""Libraries that tell at INFO what our own events tell better: they are heard from WARNING on."""

OUTAGE: Final = (
    *("Unable connect to ", "Unable to request metadata from ", "Unable to update metadata from "),
    *("Failed fetch messages from ", "Failed fetch offsets from ", "Error sending ", "Cannot send ", "Could not send "),
    *("Heartbeat send request failed", "Marking the coordinator dead", "Group Coordinator Request failed"),
    "FindCoordinator Request failed",
)
"""How aiokafka's lines begin that tell, again and again, that a broker is away: our own event tells it once.

They are heard at debug. A line that is not listed is heard, above all an error in a rebalance listener.
"""

TRACEBACKS: Final = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
"""Frames without their local variables: those hold URLs with keys, and the content of records."""


def configure(level: str, log_format: str) -> None:
    """Sets up structlog and the standard library's root logger.

    May be called again. ``log_format``: console or json.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        structlog.processors.StackInfoRenderer(),
    ]
    rendered: list[Processor]
    if log_format == "json":
        rendered = [structlog.processors.ExceptionRenderer(TRACEBACKS), structlog.processors.JSONRenderer()]
    else:
        rendered = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), pad_event_to=32, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    if level.lower() != "debug":
        handler.addFilter(_tells_more_than_an_outage)
        handler.addFilter(_is_of_a_client_in_use)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.DEBUG if level.lower() == "debug" else logging.WARNING)


def _tells_more_than_an_outage(record: logging.LogRecord) -> bool:
    return not (record.name.startswith("aiokafka") and str(record.msg).startswith(OUTAGE))


def _is_of_a_client_in_use(record: logging.LogRecord) -> bool:
    """A Kafka client that was thrown away leaves futures and tasks; why it was thrown away, our own event tells."""
    if record.name != "asyncio":
        return True
    failure = record.exc_info[1] if record.exc_info else None
    text = record.getMessage()
    left = text.startswith("Task was destroyed but it is pending!") and "aiokafka" in text
    unread = text.startswith("Future exception was never retrieved") and type(failure).__module__ == "aiokafka.errors"
    return not (left or unread)


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The ids of the current span, where one is recorded."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid and context.trace_flags.sampled:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event
