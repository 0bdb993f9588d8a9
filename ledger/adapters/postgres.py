"""Connections to Postgres, and the one place where asyncpg's errors become ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import asyncpg

from deploy.runtime.settings import redacted
from ledger.adapters.rendering import LIVE, rendered
from ledger.errors import ConfigurationRefused, Contended, DatabaseRefused, DatabaseUnavailable

CONNECT_TIMEOUT_S: Final = 5.0
COMMAND_TIMEOUT_S: Final = 60.0

_AWAY: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalClientError,
    asyncpg.InterfaceError,
    asyncpg.InternalServerError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # the database does not accept connections just now
    asyncpg.ReadOnlySQLTransactionError,  # a standby, before it takes over
    OSError,
    TimeoutError,
    asyncio.IncompleteReadError,
)
_CONTENDED: Final = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)
_REFUSED: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
_MISFIT: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidSchemaNameError,
)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raises our errors for asyncpg's; ``doing`` says what could not be done."""
    try:
        yield
    except _CONTENDED as exc:
        raise Contended(f"{doing}: {_text(exc)}") from exc
    except _REFUSED as exc:
        raise DatabaseRefused(f"{doing}: {_text(exc)}", constraint=getattr(exc, "constraint_name", None)) from exc
    except _MISFIT as exc:
        raise ConfigurationRefused(
            f"{doing}: {_text(exc)}; check [postgres], and run: chainbooks-ledger migrate"
        ) from exc
    except _AWAY as exc:
        raise DatabaseUnavailable(f"{doing}: {_text(exc)}") from exc


@cache
def _speaking_of(schema: str) -> type[asyncpg.Connection]:
    """A connection class that renders whatever it sends: no statement can reach another schema's books."""

    class Rendering(asyncpg.Connection):  # type: ignore[misc]  # asyncpg publishes no types
        async def execute(self, query: str, *args: Any, **options: Any) -> Any:
            return await super().execute(rendered(query, schema), *args, **options)

        async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
            return await super().fetch(rendered(query, schema), *args, **options)

        async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
            return await super().fetchrow(rendered(query, schema), *args, **options)

        async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
            return await super().fetchval(rendered(query, schema), *args, **options)

        async def executemany(self, command: str, *args: Any, **options: Any) -> Any:
            return await super().executemany(rendered(command, schema), *args, **options)

        async def prepare(self, query: str, *args: Any, **options: Any) -> Any:
            return await super().prepare(rendered(query, schema), *args, **options)

        def cursor(self, query: str, *args: Any, **options: Any) -> Any:
            return super().cursor(rendered(query, schema), *args, **options)

    return Rendering


async def connect(
    dsn: str,
    *,
    name: str,
    schema: str = LIVE,
    command_timeout_s: float = COMMAND_TIMEOUT_S,
    setting: str = "dsn",
) -> asyncpg.Connection:
    """A connection of our own, never pooled: giving one back would reset it. Its statements speak of ``schema``.

    ``setting`` is where the DSN comes from. Raises DatabaseUnavailable, ConfigurationRefused.
    """
    with translated(f"Postgres cannot be reached at {redacted(dsn)} ([postgres] {setting})"):
        connection: asyncpg.Connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=command_timeout_s,
            connection_class=asyncpg.Connection if schema == LIVE else _speaking_of(schema),
            server_settings={"application_name": name, "timezone": "UTC", "jit": "off"},
        )
    return connection


async def close(connection: asyncpg.Connection) -> None:
    """Closes, or ends the connection when that does not work at once. Never raises."""
    try:
        await connection.close(timeout=1)
    except (*_AWAY, asyncpg.PostgresError):
        connection.terminate()


def _text(exc: BaseException) -> str:
    text = str(exc).strip().splitlines()
    return text[0] if text else type(exc).__name__
