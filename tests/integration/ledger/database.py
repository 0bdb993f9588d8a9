"""A migrated database of a test's own, and a worker that folds records straight into it, without Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psycopg

from contracts.messages import Topics
from deploy.runtime import telemetry
from ledger.adapters import books, incident_store
from ledger.adapters.batch_store import BatchStore
from ledger.adapters.migrations import migrate
from ledger.adapters.promotion_store import PromotionStore
from ledger.observe import Observer
from ledger.ports import Claim, Partition, RegistryPort
from ledger.worker import Worker
from tests.unit.ledger.story import CHAIN, CHAIN_ID, Raw, rules

TOPICS = Topics(chain=CHAIN, prefix="test.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """DSNs by role."""

    name: str
    admin: str

    @property
    def writer(self) -> str:
        return with_user(self.admin, "chainbooks_writer")

    @property
    def reader(self) -> str:
        return with_user(self.admin, "chainbooks_reader")


def with_user(dsn: str, user: str) -> str:
    """The DSN for another user, who is trusted."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.hostname}:{parts.port}"))


def with_database(dsn: str, name: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


@contextlib.contextmanager
def migrated_template(admin_url: str) -> Iterator[str]:
    """A migrated database that others are copied from; its name."""
    name = f"ledger_template_{secrets.token_hex(4)}"
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        database = Database(name=name, admin=with_database(admin_url, name))
        migrate(database.admin, writer_dsn=database.writer, reader_dsn=database.reader)
        try:
            yield name
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.asynccontextmanager
async def copied(admin_url: str, template: str) -> AsyncIterator[Database]:
    """A database of its own, dropped in the end."""
    name = f"ledger_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(admin_url)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield Database(name=name, admin=with_database(admin_url, name))
        finally:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


class StaticRegistry(RegistryPort):
    """Rules that are known; refreshing finds nothing new."""

    def __init__(self) -> None:
        self.refreshed = 0

    @property
    def rules(self) -> Any:
        return rules()

    async def refresh(self) -> None:
        self.refreshed += 1


def make_observer() -> Observer:
    measures = telemetry.start(service="chainbooks-ledger", instance="test", chain=CHAIN)
    return Observer(measures, chain=CHAIN, lag_max_s=10)


class Books:
    """The books of one database: fold records into them, ask them."""

    def __init__(self, database: Database, *, partitions: int = 1, batch_records_max: int = 4_000) -> None:
        self.database = database
        self.partitions = partitions
        self.batch_records_max = batch_records_max
        self.observer = make_observer()
        self.registry = StaticRegistry()

    async def set_up(self) -> None:
        connection = await asyncpg.connect(self.database.writer)
        try:
            await books.add_chain(connection, chain_id=CHAIN_ID, name=CHAIN, topics=TOPICS, partitions=self.partitions)
        finally:
            await connection.close()

    async def worker(self, *, partition: int = 0, topic: str = TOPICS.events, store: Any = None) -> Worker:
        """A worker with a fresh claim."""
        store = store or await BatchStore.open(self.database.writer, chain_id=CHAIN_ID)
        claim: Claim = await store.claim(Partition(topic, partition), "test", held_before=False)
        return Worker(
            claim,
            chain_id=CHAIN_ID,
            store=store,
            registry=self.registry,
            observer=self.observer,
            batch_records_max=self.batch_records_max,
            finalized_moved=lambda: None,
        )

    async def fold(self, polls: Sequence[Sequence[Raw]], *, partition: int = 0, topic: str = TOPICS.events) -> Worker:
        """Feeds polls one by one, each committed before the next, and ends the worker."""
        worker = await self.worker(partition=partition, topic=topic)
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            for poll in polls:
                await worker.feed(poll)
                await worker.settled()
            await worker.close(timeout_s=10)
        return worker

    async def accept(self, *incidents: str) -> None:
        connection = await asyncpg.connect(self.database.writer)
        try:
            for incident in incidents:
                await incident_store.accept(
                    connection, CHAIN_ID, incident, by="an operator", reason="seen on the chain"
                )
        finally:
            await connection.close()

    async def promote(self, *, entries_max: int = 5_000) -> int:
        """Promotes all that can be; returns the number of steps."""
        promoter = await PromotionStore.open(self.database.writer, chain_id=CHAIN_ID, entries_max=entries_max)
        steps = 0
        try:
            while await promoter.step() is not None:
                steps += 1
        finally:
            await promoter.close()
        return steps

    async def rows(self, sql: str, *args: Any, dsn: str | None = None) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(dsn or self.database.admin)
        try:
            return [tuple(row) for row in await connection.fetch(sql, *args)]
        finally:
            await connection.close()

    async def balances(self, basis: str = "latest") -> dict[tuple[str, str], int]:
        """(account, asset code) → net in base units; zeros left out."""
        sql = "SELECT account, asset_code, net_base_units::TEXT FROM finance.balances WHERE basis = $1"
        return {(r[0], r[1]): int(r[2]) for r in await self.rows(sql, basis) if int(r[2])}

    async def digest(self) -> dict[str, Any]:
        """Everything that must not depend on batching: journal, balances, record chains."""
        return {
            "journal": await self.rows(JOURNAL),
            "latest": await self.balances(),
            "final": await self.balances("final"),
            "chains": await self.rows(
                "SELECT kind, partition, encode(record_chain, 'hex'), entries, stream_seq FROM ledger.stream"
                " ORDER BY kind, partition"
            ),
            "quarantine": await self.rows(
                "SELECT quarantine_id, code, closed_by FROM ledger.quarantine ORDER BY quarantine_id"
            ),
        }


JOURNAL = """
SELECT j.entry_id, j.line, j.action, j.event, j.debit_account, j.credit_account, j.asset_code,
    j.amount_base_units::TEXT, j.revision, j.late, j.event_id, j.accounting_date
FROM finance.journal AS j ORDER BY j.entry_id, j.line
"""
