"""An event loop whose clock is virtual, and gates at which everything that touches the outside waits for its turn.

Time stands still while anything runs, also while PostgreSQL works on a statement. It moves only when the simulation
says so (``jump``), to the moment of the next timer. ``quiet`` returns when all that is left waits for a gate, for a
timer or for a lock of the database: so exactly one thing happens at a time, in an order that the seed decides.
"""

from __future__ import annotations

import asyncio
import selectors
import time as real_time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

STUCK_AFTER_S: Final = 0.01
"""Real seconds after which a statement that has not answered is suspected to wait for a lock."""
BEGIN_S: Final = 1_000_000.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """Real sockets, virtual time. ``busy`` counts what the real world owes us an answer for."""

    def __init__(self) -> None:
        self.now_s = BEGIN_S
        self.busy = 0
        self._idle: asyncio.Future[bool] | None = None
        super().__init__(selector=_Selector(self))

    def time(self) -> float:
        return self.now_s

    @contextmanager
    def real(self) -> Iterator[None]:
        """Around anything that waits for the real world."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    async def idle(self) -> bool:
        """Waits until nothing runs. False: something real does not answer."""
        self._idle = self.create_future()
        try:
            return await self._idle
        finally:
            self._idle = None

    def jump(self, at_most_s: float) -> bool:
        """Moves the clock to the next timer. False when there is none within ``at_most_s``."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]  # there is no public way
        when = min((timer.when() for timer in timers if not timer.cancelled()), default=None)
        if when is None or when > self.now_s + at_most_s:
            return False
        self.now_s = max(self.now_s, when)
        return True

    def begin(self) -> None:
        """A new history: the clock starts again, and no timer of an older one is left."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]  # there is no public way
        for timer in list(timers):
            timer.cancel()
        self.now_s = BEGIN_S

    def nothing_ready(self, timeout_s: float | None) -> None:
        """Called by the selector when no callback is ready and no socket has news."""
        idle = self._idle
        if idle is not None and not idle.done():
            idle.set_result(self.busy == 0)
        elif self.busy == 0 and timeout_s is not None:
            self.now_s += timeout_s  # nobody drives: outside of a simulation time just passes


class _Selector(selectors.DefaultSelector):
    """Tells the loop when it would have to wait."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if self._loop.busy:
            events = super().select(STUCK_AFTER_S)
        if not events:
            self._loop.nothing_ready(timeout)
        return events


class Killed(asyncio.CancelledError):
    """What a port of a killed process answers: nothing it does reaches the outside any more."""


class Gate:
    """Where the calls of one process to the outside wait until it is their turn."""

    def __init__(self) -> None:
        self.open = True  # False: the process was killed
        self.passed = 0
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    async def wait(self, what: str) -> None:
        """Returns when it is this call's turn. Raises Killed."""
        if not self.open:
            raise Killed(what)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((what, turn))
        await turn

    @property
    def waiting(self) -> list[str]:
        """What waits, oldest first."""
        self._waiting = [(what, turn) for what, turn in self._waiting if not turn.done()]
        return [what for what, _ in self._waiting]

    def release(self, index: int) -> None:
        """Lets one of ``waiting`` go on."""
        _, turn = self._waiting.pop(index)
        self.passed += 1
        turn.set_result(None)

    def kill(self) -> None:
        """From now on nothing passes."""
        self.open = False
        for what, turn in self._waiting:
            if not turn.done():
                turn.set_exception(Killed(what))
        self._waiting.clear()


class VirtualTime:
    """Stands in for the module ``time`` where the product reads a monotonic clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.now_s

    def time(self) -> float:
        return self._loop.now_s

    perf_counter = staticmethod(real_time.perf_counter)


class LoopClock:
    """The indexer's ClockPort on virtual time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now_ms(self) -> int:
        return int(self._loop.now_s * 1000)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def in_real_time(loop: VirtualLoop, call: Callable[[], Awaitable[Any]]) -> Any:
    """Awaits something real while the clock stands still."""
    with loop.real():
        return await call()
