"""What commands, and the start of ``run``, ask of the database: its schema, the chain's rows, how things are."""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from contracts.messages import Topics
from ledger.adapters.migrations import available
from ledger.adapters.postgres import translated
from ledger.adapters.statements import statements
from ledger.errors import ConfigurationRefused

STREAMS: Final = statements("streams")
REPORTS: Final = statements("reports")


async def check_schema(connection: asyncpg.Connection) -> None:
    """Every migration of this version was applied. Raises ConfigurationRefused, DatabaseUnavailable."""
    with translated("the schema cannot be looked at"):
        exists = await connection.fetchval(REPORTS["has_schema"])
        rows = await connection.fetch(REPORTS["applied_migrations"]) if exists else []
    missing = [name for name in available() if name not in {row["migration_id"] for row in rows}]
    if missing:
        raise ConfigurationRefused(f"the schema lacks {', '.join(missing)}; run: chainbooks-ledger migrate")


async def add_chain(
    connection: asyncpg.Connection, *, chain_id: int, name: str, topics: Topics, partitions: int
) -> None:
    """Rows for the chain and all P partitions of its topics; what is there must be the same.

    Raises ConfigurationRefused, DatabaseUnavailable.
    """
    with translated("the chain cannot be set up"):
        async with connection.transaction():
            await connection.execute(STREAMS["add_chain"], chain_id, name, partitions)
            rows = await connection.fetch(STREAMS["chain"], chain_id, name)
            _check_chain(rows, chain_id=chain_id, name=name, partitions=partitions)
            await connection.execute(STREAMS["add_chain_head"], chain_id)
            for kind, topic in (("events", topics.events), ("rejected", topics.rejected)):
                await connection.execute(STREAMS["add_streams"], chain_id, kind, topic, partitions)
            streams = await connection.fetch(STREAMS["streams"], chain_id)
    expected = {"events": topics.events, "rejected": topics.rejected}
    others = sorted({row["topic"] for row in streams if row["topic"] != expected[row["kind"]]})
    if others:
        raise ConfigurationRefused(
            f"this database holds the books of chain {name} folded from {', '.join(others)}; another [kafka] "
            "topic_prefix needs another database"
        )


def _check_chain(rows: list[Any], *, chain_id: int, name: str, partitions: int) -> None:
    for row in rows:
        if (row["chain_id"], row["name"]) != (chain_id, name):
            raise ConfigurationRefused(
                f"this database knows chain {row['chain_id']} as {row['name']!r}, [chain] says {chain_id} and {name!r}"
            )
        if row["partitions"] != partitions:
            raise ConfigurationRefused(
                f"the books of chain {name} were begun with {row['partitions']} partitions, [kafka] partitions says "
                f"{partitions}: P is pinned; another P is another topic version"
            )


async def read_status(connection: asyncpg.Connection, *, chain_id: int) -> dict[str, Any]:
    """Streams, promotion and counts, JSON-ready but for times. Raises DatabaseUnavailable."""
    with translated("the status cannot be read"):
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            streams = [dict(row) for row in await connection.fetch(STREAMS["streams"], chain_id)]
            counts = await connection.fetchrow(REPORTS["counts"], chain_id)
    return {"streams": streams, **(dict(counts) if counts else {})}


async def read_balances(
    connection: asyncpg.Connection,
    *,
    chain: str,
    basis: str,
    book: str | None,
    like: str | None,
    zeros: bool,
    limit: int,
) -> list[dict[str, Any]]:
    """Rows of finance.balances with amounts as text. Raises DatabaseUnavailable, ConfigurationRefused."""
    with translated("balances cannot be read"):
        rows = await connection.fetch(REPORTS["balances"], chain, basis, book, like, zeros, limit)
    return [dict(row) for row in rows]


async def read_book_names(connection: asyncpg.Connection, *, chain: str) -> list[str]:
    """The books that have accounts. Raises DatabaseUnavailable, ConfigurationRefused."""
    with translated("the books cannot be read"):
        return [row["book"] for row in await connection.fetch(REPORTS["books"], chain)]
