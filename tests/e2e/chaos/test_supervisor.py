"""The chaos test's supervisor, on processes of one line: it tells the ends that pass from those that must not be."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from deploy.demo.beside import beside
from deploy.demo.failure import DemoFailure
from deploy.local.daemon import Daemon
from deploy.runtime import exit_codes
from tests.e2e.chaos.parts import Part
from tests.e2e.chaos.supervisor import Supervisor

LIVES = "import signal; print('lives', flush=True); signal.pause()"
DEADLINE_S = 30.0


def part(script: Callable[[Daemon], str]) -> Part:
    """A service whose script may depend on which start it is; ready once it has said something."""
    daemons: list[Daemon] = []

    def launch(daemon: Daemon) -> None:
        daemons.append(daemon)
        daemon.start([sys.executable, "-c", script(daemon)], cwd=daemon.folder.parent)

    async def probe() -> str | None:
        return None if daemons[-1].pid() is not None and "lives" in daemons[-1].tail() else "silent"

    return Part(
        name="service", launch=launch, probe=probe, restartable=lambda code, tail: code == exit_codes.DEPENDENCY
    )


@contextlib.asynccontextmanager
async def supervised(folder: Path, script: Callable[[Daemon], str]) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor([part(script)], folder / "logs")
    try:
        async with asyncio.timeout(DEADLINE_S), beside(supervisor.watch()):
            supervisor.start("service")
            await supervisor.until_all_ready()
            yield supervisor
    finally:
        await supervisor.stop_all()


async def test_a_killed_part_is_no_end_of_its_own_and_its_recovery_is_timed(tmp_path: Path) -> None:
    async with supervised(tmp_path, lambda daemon: LIVES) as supervisor:
        await supervisor.kill("service")
        supervisor.start("service")
        await supervisor.until_all_ready()
        (recovery,) = supervisor.recoveries
        assert recovery.ready_after_s is not None
        assert recovery.all_ready_after_s is not None
        assert 0 < recovery.ready_after_s <= recovery.all_ready_after_s
        assert supervisor.ended == []
        assert supervisor.traces() == []


async def test_who_ends_because_a_dependency_is_away_is_started_again_and_counted(tmp_path: Path) -> None:
    def gives_up_once(daemon: Daemon) -> str:
        return "raise SystemExit(3)" if daemon.name.endswith("-01") else LIVES

    async with supervised(tmp_path, gives_up_once) as supervisor:
        assert [(ended.part, ended.exit_code) for ended in supervisor.ended] == [("service", 3)]


@pytest.mark.parametrize("script", ["raise SystemExit(2)", "raise SystemExit(0)", "raise ValueError('a bug')"])
async def test_any_other_end_fails_with_the_end_of_its_log(tmp_path: Path, script: str) -> None:
    with pytest.raises(DemoFailure, match="service ended by itself"):
        async with supervised(tmp_path, lambda daemon: script):
            pass


async def test_a_traceback_in_any_log_is_found(tmp_path: Path) -> None:
    caught = "import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    traceback.print_exc()\n"
    async with supervised(tmp_path, lambda daemon: caught + LIVES) as supervisor:
        await supervisor.kill("service")
        supervisor.start("service")
        await supervisor.until_all_ready()
        assert [line.partition(":")[0] for line in supervisor.traces()] == ["service-01.log", "service-02.log"]
