"""Starts, kills and starts again; keeps how each process ended and how long each recovery took.

It does what a supervisor of containers does: a part that ends by itself for a reason that passes is started again after
a moment, and counted. Any other end is the end of the test.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.demo.failure import DemoFailure
from deploy.local.daemon import Daemon
from tests.e2e.chaos.parts import Part

LOOK_S: Final = 0.1
RESTART_PAUSE_S: Final = 0.5
READY_TIMEOUT_S: Final = 180.0
TAIL_LINES: Final = 25
KILLED: Final = -signal.SIGKILL
TRACES: Final = ("Traceback (most recent call last)", "was never retrieved", "PANIC:", "was never awaited")
"""What no log may hold: our own errors that escaped, and PostgreSQL's word for damage."""


@dataclass(slots=True, kw_only=True)
class Recovery:
    """From one kill on."""

    part: str
    killed_at_s: float  # monotonic
    ready_after_s: float | None = None  # of the part itself
    all_ready_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A process that ended by itself."""

    part: str
    exit_code: int | None


@dataclass(slots=True)
class _Kept:
    part: Part
    daemon: Daemon | None = None
    wanted: bool = False
    judged: bool = False  # its end is known already
    logs: list[Path] = field(default_factory=list)


class Supervisor:
    """All parts of one run; their logs are in ``folder``."""

    def __init__(self, parts: Iterable[Part], folder: Path) -> None:
        self.recoveries: list[Recovery] = []
        self.ended: list[Ended] = []
        self._kept = {part.name: _Kept(part) for part in parts}
        self._folder = folder

    def start(self, name: str) -> None:
        """Returns before it is ready."""
        kept = self._kept[name]
        kept.daemon = Daemon(name=f"{name}-{len(kept.logs) + 1:02d}", folder=self._folder, ephemeral=True)
        kept.logs.append(kept.daemon.log)
        kept.wanted, kept.judged = True, False
        kept.part.launch(kept.daemon)

    async def kill(self, name: str) -> None:
        """``kill -9``; returns when the process is gone."""
        kept = self._kept[name]
        assert kept.daemon is not None
        kept.wanted = False
        self.recoveries.append(Recovery(part=name, killed_at_s=time.monotonic()))
        await asyncio.to_thread(kept.daemon.stop, how=signal.SIGKILL)
        if kept.daemon.exit_code() != KILLED:
            self._judge_end(kept)  # it was faster

    async def watch(self) -> None:
        """Until cancelled. Raises DemoFailure when a process ends as it must not."""
        while True:
            for kept in self._kept.values():
                if kept.wanted and kept.daemon is not None and kept.daemon.pid() is None:
                    self._judge_end(kept)
                    await asyncio.sleep(RESTART_PAUSE_S)
                    if kept.wanted and kept.daemon.pid() is None:
                        self.start(kept.part.name)
            await asyncio.sleep(LOOK_S)

    async def until_ready(self, names: Iterable[str]) -> None:
        """Notes when each was ready, and when all were. Raises DemoFailure naming who is not."""
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._until_ready(self._kept[name]))

    async def until_all_ready(self) -> None:
        """As ``until_ready``, of every part at the same time."""
        await self.until_ready(self._kept)
        now = time.monotonic()
        for recovery in self.recoveries:
            if recovery.all_ready_after_s is None:
                recovery.all_ready_after_s = now - recovery.killed_at_s

    async def stop_services(self) -> dict[str, int | None]:
        """SIGTERM to both services; their exit codes."""
        codes = {}
        for name in ("indexer", "ledger"):
            kept = self._kept[name]
            assert kept.daemon is not None
            kept.wanted = False
            await asyncio.to_thread(kept.daemon.stop, how=signal.SIGTERM)
            codes[name] = kept.daemon.exit_code()
        return codes

    async def stop_all(self) -> None:
        """Ends whatever runs, services first."""
        for name in sorted(self._kept, key=lambda name: name not in ("indexer", "ledger")):
            kept = self._kept[name]
            kept.wanted = False
            if kept.daemon is not None:
                await asyncio.to_thread(kept.daemon.stop, how=signal.SIGKILL)

    def tails(self) -> str:
        """The end of the newest log of each part."""
        ends = [kept.daemon for kept in self._kept.values() if kept.daemon is not None]
        return "\n".join(f"--- {daemon.name}\n{daemon.tail(TAIL_LINES)}" for daemon in ends)

    def traces(self) -> list[str]:
        """Every line of every log that no log may have."""
        return [
            f"{log.name}:{number}: {line.strip()}"
            for kept in self._kept.values()
            for log in kept.logs
            if log.exists()
            for number, line in enumerate(log.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
            if any(words in line for words in TRACES)
        ]

    def starts(self, name: str) -> int:
        return len(self._kept[name].logs)

    async def _until_ready(self, kept: _Kept) -> None:
        reason: str | None = "never asked"
        deadline = time.monotonic() + READY_TIMEOUT_S
        while reason is not None:
            if time.monotonic() > deadline:
                raise DemoFailure(f"{kept.part.name} is not ready after {READY_TIMEOUT_S:.0f} s: {reason}")
            reason = await kept.part.probe()
            if reason is not None:
                await asyncio.sleep(LOOK_S)
        now = time.monotonic()
        for recovery in self.recoveries:
            if recovery.part == kept.part.name and recovery.ready_after_s is None:
                recovery.ready_after_s = now - recovery.killed_at_s

    def _judge_end(self, kept: _Kept) -> None:
        if kept.judged:
            return
        assert kept.daemon is not None
        kept.judged = True
        code = kept.daemon.exit_code()
        self.ended.append(Ended(part=kept.part.name, exit_code=code))
        tail = kept.daemon.tail(TAIL_LINES)
        if code is None or not kept.part.restartable(code, tail):
            raise DemoFailure(f"{kept.part.name} ended by itself with {code}:\n{tail}", look=str(kept.daemon.log))
