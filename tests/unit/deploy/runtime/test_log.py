"""Logs: one JSON object or one readable line an event, for our own loggers and for libraries'."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from deploy.runtime import log, telemetry


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, log.QUIET))}
    yield
    root.handlers[:] = handlers
    for logger, level in levels.items():
        logger.setLevel(level)
    structlog.reset_defaults()


def test_json_lines_have_the_fields_and_the_trace(capsys: pytest.CaptureFixture[str], tmp_path) -> None:  # type: ignore[no-untyped-def]
    log.configure("info", "json")
    running = telemetry.start(service="t", instance="a", chain="local", trace_file=tmp_path / "spans.jsonl")
    try:
        with running.tracer.start_as_current_span("block"), structlog.contextvars.bound_contextvars(chain="local"):
            structlog.get_logger("indexer.pipeline").info("published", block=7)
    finally:
        running.shutdown()
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["block"], line["chain"], line["level"]) == ("published", 7, "local", "info")
    assert line["logger"] == "indexer.pipeline"
    assert len(line["trace_id"]) == 32


def test_a_library_logs_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    logging.getLogger("some.library").warning("lost %s", "connection")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["logger"], line["level"]) == ("lost connection", "some.library", "warning")


def test_chatty_libraries_are_quiet_unless_debugging(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    logging.getLogger("aiokafka.consumer").info("subscribed")
    assert capsys.readouterr().err == ""
    log.configure("debug", "json")
    logging.getLogger("aiokafka.consumer").info("subscribed")
    assert "subscribed" in capsys.readouterr().err


async def test_a_broker_that_is_away_is_told_by_us_not_by_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    """Against the installed library: its lines are quiet, its errors come to us, at debug everything is heard."""

    async def ask() -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:9")
        with pytest.raises(KafkaError):
            await consumer.start()
        await consumer.stop()

    log.configure("info", "json")
    await ask()
    assert capsys.readouterr().err == ""
    log.configure("debug", "json")
    await ask()
    assert "Unable connect to" in capsys.readouterr().err


def test_an_error_of_a_library_that_nobody_else_tells_is_heard(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    logging.getLogger("aiokafka.consumer.group_coordinator").error("User provided listener %s failed", "x")
    logging.getLogger("some.library").error("Unable connect to %s", "y")
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_configuring_twice_does_not_log_twice(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "console")
    log.configure("info", "console")
    structlog.get_logger("x").info("once")
    assert capsys.readouterr().err.count("once") == 1


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_no_local_variable(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", log_format)

    def connect(url: str) -> None:
        raise ConnectionError("refused")

    try:
        connect("https://node.example/secret-key")
    except ConnectionError:
        logging.getLogger("aiokafka").exception("failed")
    shown = capsys.readouterr().err
    assert "ConnectionError" in shown
    assert "secret-key" not in shown.replace('connect("https://node.example/secret-key")', "")


@pytest.mark.parametrize(("failure", "lines"), [(KafkaError("fenced"), 0), (ValueError("ours"), 1)])
async def test_what_a_client_that_was_thrown_away_leaves_is_heard_at_debug_only(
    failure: Exception, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def forget_a_failed_future() -> None:
        asyncio.get_running_loop().create_future().set_exception(failure)
        gc.collect()

    log.configure("info", "json")
    await forget_a_failed_future()
    assert len(capsys.readouterr().err.splitlines()) == lines
    log.configure("debug", "json")
    await forget_a_failed_future()
    assert "never retrieved" in capsys.readouterr().err
