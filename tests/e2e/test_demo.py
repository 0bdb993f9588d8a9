"""`make demo` as a user runs it: the whole way from blocks to balances, with every difference looked for."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.demo.business import MONEY_EVENTS_MIN, make_plan
from deploy.demo.judge import MONEY_EVENTS
from deploy.demo.stage import drop_database, remove_topics
from deploy.local.daemon import Daemon

DEADLINE_S = 120.0
PROCESSES = ("anvil", "indexer", "ledger")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """How to start it on the test's services."""

    name: str
    folder: Path
    kafka: str
    postgres: str
    anvil: str

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "deploy.demo", "--name", self.name, "--folder", str(self.folder)),
            *("--kafka", self.kafka, "--postgres", self.postgres, "--anvil", self.anvil),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"COLUMNS": "100"},
        )

    def running(self) -> list[str]:
        """Which of its processes are alive."""
        return [name for name in PROCESSES if Daemon(name=name, folder=self.folder).pid() is not None]


@pytest.fixture
async def demo(kafka_bootstrap: str, postgres_admin_url: str, anvil_path: str, tmp_path: Path) -> AsyncIterator[Demo]:
    name = f"t{secrets.token_hex(4)}"
    yield Demo(name=name, folder=tmp_path, kafka=kafka_bootstrap, postgres=postgres_admin_url, anvil=anvil_path)
    await remove_topics(kafka_bootstrap, name)
    await drop_database(postgres_admin_url, name)


async def test_every_balance_equals_the_chain_and_only_the_silent_withdrawal_is_found(demo: Demo) -> None:
    process = await demo.start("--seed", "5", "--json", "--block-ms", "60")
    out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    report = err.decode()
    assert process.returncode == 0, report
    summary = json.loads(out)
    assert json.loads((demo.folder / "summary.json").read_text()) == summary

    assert summary["ok"]
    assert summary["problems"] == []
    money = {name: summary["events"][f"payment-gateway.{name}"] for name in MONEY_EVENTS}
    assert sum(money.values()) == summary["check"]["money_events"] >= MONEY_EVENTS_MIN
    assert summary["check"]["differences"] == []
    assert summary["check"]["receipts_events"] == summary["check"]["sql_events"] == sum(summary["events"].values())

    reorg = summary["reorg"]
    assert reorg["depth"] == 3
    assert reorg["moved_to_block"] > reorg["moved_from_block"]
    assert summary["published"]["retracted"] == summary["journal"]["reversed"] > 3

    (silent,) = [row for row in summary["breaks"] if row["kind"] == "clearing"]
    assert silent["began_in_block"] == summary["silent_withdrawal"]["block"]
    assert abs(int(silent["difference_base_units"])) == make_plan(5).silent.args[2]
    assert summary["latency_ms"]["blocks"] > 0  # on a loaded machine several blocks come into one look
    assert 0 < summary["latency_ms"]["p50_ms"] <= summary["latency_ms"]["p99_ms"]

    assert "\x1b" not in report
    assert max(map(len, report[report.index("Trial balance") :].splitlines())) <= 100
    for heading in ("Trial balance", "Largest accounts", "Reconciliation", "Reorg", "Latency", "Where to look next"):
        assert heading in report
    assert demo.running() == []


async def test_ctrl_c_stops_everything_that_it_started(demo: Demo) -> None:
    process = await demo.start("--seed", "6")
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        async for line in process.stdout:
            if b"indexer and ledger start" in line:
                break
    assert "anvil" in demo.running()
    second = await demo.start()
    refused, _ = await asyncio.wait_for(second.communicate(), DEADLINE_S)
    assert second.returncode == 3
    assert b"another run" in refused
    assert "anvil" in demo.running()
    process.send_signal(signal.SIGINT)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 130
    assert b"Traceback" not in out
    assert demo.running() == []


async def test_a_service_that_dies_ends_the_run_with_its_name(demo: Demo) -> None:
    process = await demo.start("--seed", "7")
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        async for line in process.stdout:
            if line.strip().endswith(b"business"):
                break
    pid = Daemon(name="ledger", folder=demo.folder).pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert process.returncode == 3
    assert b"chainbooks-ledger has ended by itself" in out
    assert b"Traceback" not in out + err
    assert demo.running() == []


async def test_a_service_that_is_away_is_named_in_a_sentence(demo: Demo) -> None:
    process = await demo.start("--postgres", "postgresql://nobody@127.0.0.1:1/none")
    out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert process.returncode == 3
    assert b"PostgreSQL does not answer" in out
    assert b"Traceback" not in out + err
    assert demo.running() == []
