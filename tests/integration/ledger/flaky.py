"""Connections to which something happens at the n-th statement: killed by the server, an answer lost, an intruder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import asyncpg
import pytest

Trouble = Literal["killed before", "answer lost after"]
Between = Callable[[asyncpg.Connection], Awaitable[None]]


class Fuse:
    """Counts statements of all its connections, BEGIN and COMMIT too; burns once, at the one that is asked for."""

    def __init__(
        self, dsn: str, *, at: int | None = None, trouble: Trouble = "killed before", between: Between | None = None
    ) -> None:
        self.dsn = dsn  # of somebody who may kill
        self.at = at
        self.trouble: Trouble = trouble
        self.between = between  # happens before the statement, instead of trouble
        self.burnt: str | None = None
        self.seen: list[str] = []

    async def around(self, connection: asyncpg.Connection, statement: str, call: Callable[[], Awaitable[Any]]) -> Any:
        name = statement.strip().splitlines()[0]
        number = len(self.seen)
        self.seen.append(name)
        if number != self.at:
            return await call()
        self.burnt = name
        if self.between is not None:
            await self.between(connection)
            return await call()
        if self.trouble == "killed before":
            await self._kill(connection)
            return await call()
        await call()
        connection.terminate()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    async def _kill(self, connection: asyncpg.Connection) -> None:
        """From the server's side; returns when the backend is gone."""
        other = await asyncpg.connect(self.dsn)
        try:
            assert await other.fetchval("SELECT pg_terminate_backend($1, 5000)", connection.get_server_pid())
        finally:
            await other.close()

    def plug_in(self, monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
        """From now on stores and promoters work on connections that pass this fuse."""
        plugged = _fused(self)

        async def connect(*_: Any, **__: Any) -> asyncpg.Connection:
            return await asyncpg.connect(dsn, connection_class=plugged, server_settings={"timezone": "UTC"})

        for adapter in ("batch_store", "promotion_store"):
            monkeypatch.setattr(f"ledger.adapters.{adapter}.connect", connect)


def _fused(fuse: Fuse) -> type[asyncpg.Connection]:
    """A connection class whose every statement passes the fuse."""

    class Fused(asyncpg.Connection):  # type: ignore[misc]  # asyncpg publishes no types
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

        async def executemany(self, query: str, *args: Any, **kwargs: Any) -> Any:
            parent = super().executemany
            return await fuse.around(self, query, lambda: parent(query, *args, **kwargs))

        async def copy_records_to_table(self, name: str, **kwargs: Any) -> Any:
            parent = super().copy_records_to_table
            return await fuse.around(self, f"COPY {name}", lambda: parent(name, **kwargs))

        async def copy_to_table(self, name: str, **kwargs: Any) -> Any:
            parent = super().copy_to_table
            return await fuse.around(self, f"COPY {name}", lambda: parent(name, **kwargs))

    return Fused
