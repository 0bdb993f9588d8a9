"""The schema that a rebuild folds into: made with the same migrations, marked as a rebuild's, dropped again.

A schema that does not bear the mark is never touched. The mark is the schema's comment: which chain, which migrations.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Final, Literal

import asyncpg
import msgspec

from ledger.adapters.migrations import available
from ledger.adapters.postgres import close, connect, translated
from ledger.adapters.rendering import checked_schema, views_of
from ledger.adapters.statements import statements
from ledger.errors import ConfigurationRefused

REBUILD: Final = statements("rebuild")
PREFIX: Final = "chainbooks rebuild "
MAKE_TIMEOUT_S: Final = 600.0

Begun = Literal["new", "resumed", "replaced"]


class _Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What the schema's comment says."""

    chain_id: int
    migrations: list[str]


class RebuiltSchema:
    """The owner's hand on one schema; nobody else rebuilds into it meanwhile."""

    def __init__(self, connection: asyncpg.Connection, schema: str, *, chain_id: int) -> None:
        self._connection = connection
        self._names = (schema, views_of(schema))
        self._mark = _Mark(chain_id=chain_id, migrations=available())

    async def begin(self, *, replace: bool) -> Begun:
        """Makes the schema, or takes up the one that an earlier rebuild left, or replaces that one.

        Raises ConfigurationRefused when the name is taken, or what is there was begun otherwise.
        """
        schema = self._names[0]
        with translated(f"schema {schema} cannot be made"):
            if not await self._connection.fetchval(REBUILD["is_plain"], schema):
                raise ConfigurationRefused(f"--into {schema}: a reserved word; choose another name")
            await self._lock(schema)
            rows = await self._connection.fetch(REBUILD["schemas"], list(self._names))
            if not rows:
                await self._make()
                return "new"
            marks = [_read(row["mark"]) for row in rows]
            if None in marks:
                taken = ", ".join(row["name"] for row in rows)
                raise ConfigurationRefused(f"{taken} exists and is not a rebuild's: choose another name")
            if replace:
                await self.drop()
                await self._make()
                return "replaced"
            if marks != [self._mark, self._mark]:
                raise ConfigurationRefused(
                    f"schema {schema} was rebuilt for another chain or by another version: repeat with --replace"
                )
            return "resumed"

    async def _lock(self, schema: str) -> None:
        await self._connection.execute(REBUILD["patience"])
        try:
            await self._connection.fetchval(REBUILD["lock"])
        except asyncpg.LockNotAvailableError as exc:
            raise ConfigurationRefused(f"another rebuild works on schema {schema}") from exc

    async def drop(self) -> None:
        """Drops the schema and its views."""
        with translated(f"schema {self._names[0]} cannot be dropped"):
            await self._connection.execute(await self._connection.fetchval(REBUILD["dropping"], *self._names))

    async def _make(self) -> None:
        """Schema, mark and every migration in one db_tx: what was not finished is not there."""
        try:
            await self._make_all(PREFIX + msgspec.json.encode(self._mark).decode())
        except asyncpg.InsufficientPrivilegeError as exc:
            raise ConfigurationRefused(
                f"[postgres] owner_dsn: its role may not do this: {exc}; it has to be the one of migrate"
            ) from exc

    async def _make_all(self, mark: str) -> None:
        async with self._connection.transaction():
            for name in self._names:
                await self._connection.execute(await self._connection.fetchval(REBUILD["making"], name))
            await self._connection.execute(REBUILD["become_owner"])
            folder = files("ledger") / "sql" / "migrations"
            for name in self._mark.migrations:
                await self._connection.execute((folder / f"{name}.sql").read_text(encoding="utf-8"))
            for name in self._names:  # last: a migration may comment on its schema, too
                await self._connection.execute(await self._connection.fetchval(REBUILD["marking"], name, mark))


@asynccontextmanager
async def rebuilt_schema(owner_dsn: str, schema: str, *, chain_id: int) -> AsyncIterator[RebuiltSchema]:
    """Connects as the owner. Raises DatabaseUnavailable, ConfigurationRefused."""
    checked_schema(schema)
    connection = await connect(
        owner_dsn,
        name="chainbooks-ledger rebuild",
        schema=schema,
        command_timeout_s=MAKE_TIMEOUT_S,
        setting="owner_dsn",
    )
    try:
        yield RebuiltSchema(connection, schema, chain_id=chain_id)
    finally:
        await close(connection)


def _read(comment: Any) -> _Mark | None:
    if not isinstance(comment, str) or not comment.startswith(PREFIX):
        return None
    try:
        return msgspec.json.decode(comment.removeprefix(PREFIX), type=_Mark)
    except msgspec.MsgspecError:
        return None
