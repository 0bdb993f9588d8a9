"""The second connection: polls, as the reader's role, for the newest block whose balances can be seen.

A process of its own, so that nothing else delays it. Prints one JSON line whenever what it sees changes; ends when its
parent is gone or it is stopped.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Final

import asyncpg

PERIOD_S: Final = 0.001  # between two looks; a look itself takes about as long
"""Half of it is the error that polling adds on average."""


async def watch(dsn: str, query: str) -> None:
    """Prints ``{"seen": […], "at_ms": …}`` with the rows of the query, each time that they are others."""
    connection = await asyncpg.connect(dsn)
    parent = os.getppid()
    try:
        statement = await connection.prepare(query)
        last: list[list[object]] = []
        while os.getppid() == parent:
            seen = [list(row) for row in await statement.fetch()]
            if seen != last:
                at_ms = time.time_ns() / 1_000_000
                sys.stdout.write(json.dumps({"seen": seen, "at_ms": at_ms}, default=str) + "\n")
                sys.stdout.flush()
                last = seen
            await asyncio.sleep(PERIOD_S)
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(watch(sys.argv[1], sys.argv[2]))
