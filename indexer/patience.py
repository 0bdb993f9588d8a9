"""Calling something that may be away until it answers: jitter, a limit from the first failure on, few log lines."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from indexer.errors import DependencyAway, RetryableError
from indexer.observe import Observer
from indexer.ports import ClockPort

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)
FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 5.0


class Patience:
    """One log line when a stage begins to fail, one when it recovers. ``progressed`` says that the outage is over."""

    def __init__(self, *, clock: ClockPort, observer: Observer, chain: str) -> None:
        self._clock = clock
        self._observer = observer
        self._chain = chain
        self._failing_since_ms: dict[str, int] = {}

    def progressed(self) -> None:
        """Something was achieved (a kafka_tx committed, a standby's look): limits count anew from the next failure."""
        for stage in self._failing_since_ms:
            self._observer.recovered(stage)
        self._failing_since_ms.clear()

    async def pause(self, stage: str, reason: str, *, limit_s: float) -> None:
        """Waits with jitter, longer each time without progress. Raises DependencyAway after ``limit_s``."""
        began_ms = self._failing_since_ms.setdefault(stage, self._clock.now_ms())
        failing_s = (self._clock.now_ms() - began_ms) / 1000
        if failing_s >= limit_s:
            raise DependencyAway(f"{stage}: {reason}")
        self._observer.waiting(stage, reason)
        longest_s = min(FIRST_WAIT_S + failing_s, LONGEST_WAIT_S)
        await self._clock.sleep(random.uniform(longest_s / 2, longest_s))  # noqa: S311  # jitter is no secret

    async def until(
        self,
        stage: str,
        call: Callable[[], Awaitable[_T]],
        *,
        limit_s: float,
        sleep: Callable[[float], Awaitable[None]] | None = None,
        on: tuple[type[RetryableError], ...] = (RetryableError,),
        failed: Callable[[], None] = lambda: None,
    ) -> _T:
        """Calls until it succeeds; ``failed`` hears of each failure. Raises DependencyAway after ``limit_s``."""

        def stop(attempt: RetryCallState) -> bool:
            began_ms = self._failing_since_ms.setdefault(stage, self._clock.now_ms())
            return self._clock.now_ms() - began_ms >= 1000 * limit_s

        def failing(attempt: RetryCallState) -> None:
            reason = str(attempt.outcome.exception()) if attempt.outcome else ""
            self._observer.waiting(stage, reason)
            failed()
            if attempt.attempt_number == 1:
                _log.warning("waiting", stage=stage, chain=self._chain, reason=reason)

        async def attempted() -> _T:  # tenacity awaits only what it sees to be a coroutine function
            return await call()

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(on),
            wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
            stop=stop,
            before_sleep=failing,
            sleep=sleep or self._clock.sleep,
            reraise=True,
        )
        try:
            result: _T = await retrying(attempted)
        except on as exc:
            raise DependencyAway(f"{stage}: {exc}") from exc
        attempts = retrying.statistics.get("attempt_number", 1)
        if attempts > 1:
            _log.info("recovered", stage=stage, chain=self._chain, tries=attempts)
        self._failing_since_ms.pop(stage, None)
        self._observer.recovered(stage)
        return result
