"""A connection that is lost at the n-th statement: just before it is sent, or just after it was done."""

from __future__ import annotations

from typing import Any, Literal

import asyncpg

from ledger.adapters.batch_store import BATCH, BatchStore
from tests.unit.ledger.story import CHAIN_ID


class Fuse:
    """Counts statements; burns once, at the one that is asked for."""

    def __init__(self, *, at: int, when: Literal["before", "after"]) -> None:
        self.left = at
        self.when = when
        self.burnt: str | None = None
        self.seen: list[str] = []

    async def around(self, connection: asyncpg.Connection, statement: str, call: Any) -> Any:
        self.seen.append(statement.strip().splitlines()[0])
        if self.burnt is not None:
            return await call()
        self.left -= 1
        if self.left >= 0:
            return await call()
        self.burnt = f"{self.when} {statement.strip().splitlines()[0]}"
        if self.when == "after":
            await call()
        connection.terminate()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


def flaky_class(fuse: Fuse) -> type[asyncpg.Connection]:
    """A connection class whose every statement passes the fuse, BEGIN and COMMIT too."""

    class Flaky(asyncpg.Connection):  # type: ignore[misc]
        async def execute(self, query: str, *args: Any, **kwargs: Any) -> Any:
            parent = super().execute
            return await fuse.around(self, query, lambda: parent(query, *args, **kwargs))

        async def fetch(self, query: str, *args: Any, **kwargs: Any) -> Any:
            parent = super().fetch
            return await fuse.around(self, query, lambda: parent(query, *args, **kwargs))

        async def fetchrow(self, query: str, *args: Any, **kwargs: Any) -> Any:
            parent = super().fetchrow
            return await fuse.around(self, query, lambda: parent(query, *args, **kwargs))

        async def fetchval(self, query: str, *args: Any, **kwargs: Any) -> Any:
            parent = super().fetchval
            return await fuse.around(self, query, lambda: parent(query, *args, **kwargs))

        async def copy_records_to_table(self, name: str, **kwargs: Any) -> Any:
            parent = super().copy_records_to_table
            return await fuse.around(self, f"COPY {name}", lambda: parent(name, **kwargs))

        async def copy_to_table(self, name: str, **kwargs: Any) -> Any:
            parent = super().copy_to_table
            return await fuse.around(self, f"COPY {name}", lambda: parent(name, **kwargs))

    return Flaky


async def flaky_store(dsn: str, fuse: Fuse) -> BatchStore:
    """A store on such a connection. The stage is made through it, too."""
    connection = await asyncpg.connect(dsn, connection_class=flaky_class(fuse))
    plain = asyncpg.Connection.execute
    await plain(connection, BATCH["make_stage_entry"])
    await plain(connection, BATCH["make_stage_transfer"])
    return BatchStore(connection, chain_id=CHAIN_ID)
