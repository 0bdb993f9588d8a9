"""What the terminal shows while the demo runs: a live panel, or plain lines when nobody watches a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deploy.demo.sight import Seen
from deploy.demo.tap import Heard

WIDTH: Final = 100
REFRESH_S: Final = 0.25
PLAIN_PERIOD_S: Final = 5.0


@dataclass(slots=True)
class Phase:
    """One stretch of the run."""

    title: str
    began: float  # monotonic seconds
    ended: float | None = None
    note: str = ""


@dataclass(slots=True, kw_only=True)
class Progress:
    """Where the run is. The parts of the run write it, the view reads it."""

    seed: int
    began: float = field(default_factory=time.monotonic)
    phases: list[Phase] = field(default_factory=list)
    block: int = 0
    calls: int = 0
    heard: Heard = field(default_factory=Heard)
    seen: Seen = field(default_factory=Seen)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began

    def status(self) -> str:
        """One line."""
        ops = self.heard.ops
        return (
            f"chain {self.block} · published {self.heard.head}, final {self.heard.finalized}, "
            f"{ops['applied']} applied, {ops['retracted']} retracted · "
            f"ledger {max(self.seen.through, 0)}, final {max(self.seen.final, 0)}"
        )

    def durations(self) -> dict[str, float]:
        """Seconds of each phase that has ended."""
        return {phase.title: phase.ended - phase.began for phase in self.phases if phase.ended is not None}


class View(Protocol):
    """Both views."""

    @contextlib.contextmanager
    def phase(self, title: str) -> Iterator[Phase]:
        """Shows that a phase runs, and how long it took; its ``note`` may be set inside."""

    async def refresh(self) -> None:
        """Keeps what is shown up to date until cancelled."""

    def say(self, line: str) -> None:
        """A line beside the phases."""


class _Phases(ABC):
    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    @contextlib.contextmanager
    def phase(self, title: str) -> Iterator[Phase]:
        phase = Phase(title=title, began=time.monotonic())
        self.progress.phases.append(phase)
        self._show(phase)
        yield phase
        phase.ended = time.monotonic()
        self._show(phase)

    @abstractmethod
    def _show(self, phase: Phase) -> None:
        """Shows that a phase has begun or ended."""


class PlainView(_Phases):
    """Lines for logs and pipes, to standard error or where the console writes."""

    def __init__(self, progress: Progress, console: Console) -> None:
        super().__init__(progress)
        self._console = console

    async def refresh(self) -> None:
        while True:
            await asyncio.sleep(PLAIN_PERIOD_S)
            self.say(self.progress.status())

    def say(self, line: str) -> None:
        self._console.print(f"{self.progress.elapsed_s:6.1f} s  {line}", markup=False, highlight=False, soft_wrap=True)

    def _show(self, phase: Phase) -> None:
        if phase.ended is None:
            self.say(phase.title)
        elif phase.note:
            self.say(f"  {phase.note}")


class LiveView(_Phases):
    """A panel that stays in place. ``live`` must be running."""

    def __init__(self, progress: Progress, live: Live) -> None:
        super().__init__(progress)
        self._live = live
        self._lines: list[str] = []

    async def refresh(self) -> None:
        while True:
            self._live.update(render(self.progress), refresh=True)
            await asyncio.sleep(REFRESH_S)

    def say(self, line: str) -> None:
        self._live.console.print(line, markup=False, highlight=False)

    def _show(self, phase: Phase) -> None:
        self._live.update(render(self.progress), refresh=True)


@contextlib.contextmanager
def open_view(progress: Progress, console: Console) -> Iterator[View]:
    """The view that fits the console. The panel is gone afterwards; the report follows."""
    if not console.is_terminal:
        yield PlainView(progress, console)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield LiveView(progress, live)


def render(progress: Progress) -> Panel:
    """The panel: phases above, numbers below."""
    phases = Table.grid(padding=(0, 2))
    for phase in progress.phases:
        seconds = (phase.ended or time.monotonic()) - phase.began
        done = phase.ended is not None
        phases.add_row(
            Text("✔" if done else "▸", style="green" if done else "yellow"),
            Text(phase.title, style="" if done else "bold"),
            Text(f"{seconds:5.1f} s", style="dim"),
            Text(phase.note, style="dim", no_wrap=True, overflow="ellipsis"),
        )
    ops = progress.heard.ops
    numbers = Table.grid(padding=(0, 2))
    numbers.add_column(style="dim")
    numbers.add_row("chain", f"block {progress.block}", f"{progress.calls} calls", "")
    numbers.add_row(
        "Kafka",
        f"head {progress.heard.head}",
        f"final {progress.heard.finalized}",
        f"{ops['applied']} applied, {ops['retracted']} retracted",
    )
    numbers.add_row("ledger", f"latest {max(progress.seen.through, 0)}", f"final {max(progress.seen.final, 0)}", "")
    return Panel(
        Group(phases, Text(), numbers),
        title=f"chainbooks demo · seed {progress.seed}",
        subtitle=f"{progress.elapsed_s:.1f} s",
        title_align="left",
        subtitle_align="right",
        width=WIDTH,
    )
