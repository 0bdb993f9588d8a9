"""Work that goes on beside a body of code, and ends with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any


@contextlib.asynccontextmanager
async def beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs the coroutines until the body ends, then cancels them.

    What one of them raises ends the body and is raised here, as it is and not in a group.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as failures:
        raise _first(failures) from None


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first failure that is not a mere cancellation."""
    for each in failures.exceptions:
        if isinstance(each, BaseExceptionGroup):
            return _first(each)
        if not isinstance(each, asyncio.CancelledError):
            return each
    return failures.exceptions[0]
