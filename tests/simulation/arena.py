"""What many simulations share: the loop, a migrated database with a pool of connections, the product's settings.

Every simulation has a chain id and topics of its own, so that nothing need be removed in between. The database is made
new after DATABASE_SEEDS of them: stream numbers are small integers, and tables should stay small.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import itertools
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import asyncpg
import psycopg
import structlog

import indexer.adapters.failover
import indexer.observe
import indexer.session
import ledger.observe
import ledger.pipeline
import ledger.worker
from contracts.messages import Topics
from contracts.registry import Registry, load_registry
from deploy.runtime import telemetry
from ledger.adapters import books
from ledger.adapters.migrations import migrate
from tests.integration.ledger.database import Database as Dsns
from tests.integration.ledger.database import with_database
from tests.simulation.chain import PARTITIONS
from tests.simulation.database import Database
from tests.simulation.loop import VirtualLoop, VirtualTime
from tests.simulation.settle import settle_twice
from tests.simulation.world import Say, World
from tests.unit.ledger.story import BEGIN, DEPLOYMENT, SHIPPED

DATABASE_SEEDS: Final = 400
FIRST_CHAIN_ID: Final = 700_000
MODULES_WITH_TIME: Final = (
    indexer.adapters.failover,
    indexer.observe,
    ledger.observe,
    ledger.pipeline,
    ledger.worker,
)


class Arena:
    """Runs simulations one after the other."""

    def __init__(self, admin_url: str) -> None:
        self._admin_url = admin_url
        self._loop = VirtualLoop()
        self._loop.set_exception_handler(self._unseen)
        self._stack = contextlib.ExitStack()
        self._chain_ids = itertools.count(FIRST_CHAIN_ID)
        self._telemetry = telemetry.start(service="simulation", instance="simulation", chain="sim")
        self._database: Database | None = None
        self._used = 0
        self._world: World | None = None
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Arena:
        self._stack.enter_context(self._product_in_virtual_time())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._loop.close()

    def run(self, seed: int, steps: int, say: Say | None = None) -> World:
        """One simulation; raises what it finds. The world, at rest."""
        if self._database is None or self._used >= DATABASE_SEEDS:
            self._new_database()
        self._used += 1
        self._loop.begin()
        task = self._loop.create_task(self._simulate(seed, steps, say))
        try:
            return self._loop.run_until_complete(task)
        finally:
            self._clear()

    async def _simulate(self, seed: int, steps: int, say: Say | None) -> World:
        assert self._database is not None
        chain_id = next(self._chain_ids)
        topics = Topics(chain="sim", prefix=f"c{chain_id}.")
        registry = registry_of(chain_id)
        self._world = world = World(
            seed,
            loop=self._loop,
            database=self._database,
            registry=registry,
            topics=topics,
            telemetry=self._telemetry,
            say=say,
        )
        physical = await self._database.take()
        with self._loop.real():
            await books.add_chain(
                physical.connection, chain_id=chain_id, name=f"sim{chain_id}", topics=topics, partitions=PARTITIONS
            )
        await self._database.give(physical)
        try:
            for _ in range(steps):
                await world.step()
            await settle_twice(world)
        finally:
            self.counts.update(world.faults.counts)
            for process in list(world.processes):
                await process.kill()
        return world

    def _unseen(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error that nobody has asked for. Those of dropped connections and of killed processes are meant."""
        exc = context.get("exception")
        if isinstance(exc, asyncpg.PostgresError | asyncpg.InterfaceError | asyncio.CancelledError | OSError):
            return
        if self._world is not None:
            self._world.faults.unexpected.append(f"{context.get('message')}: {exc!r}")

    def _clear(self) -> None:
        """Ends what a simulation left behind."""
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left, timeout=60))
        if self._database is not None:
            self._loop.run_until_complete(self._database.reclaim())

    def _new_database(self) -> None:
        if self._database is not None:
            self._loop.run_until_complete(self._database.close())
            self._database_stack.close()
        self._database_stack = contextlib.ExitStack()
        dsns = self._database_stack.enter_context(migrated(self._admin_url))
        self._stack.callback(self._database_stack.close)
        self._database = Database(self._loop, writer=dsns.writer, admin=dsns.admin)
        self._loop.run_until_complete(self._database.open())
        self._stack.callback(lambda database=self._database: self._close(database))
        self._used = 0

    def _close(self, database: Database) -> None:
        if database is self._database:
            self._loop.run_until_complete(database.close())
            self._database = None

    @contextlib.contextmanager
    def _product_in_virtual_time(self) -> Iterator[None]:
        """The product's clocks show the loop's time, its ids come from a counter, its log is silent."""
        clock = VirtualTime(self._loop)
        numbers = itertools.count(1)
        before: list[tuple[Any, str, Any]] = [(module, "time", module.time) for module in MODULES_WITH_TIME]
        before.append((indexer.session, "uuid", indexer.session.uuid))
        log = structlog.get_config()
        for module in MODULES_WITH_TIME:
            module.time = clock  # type: ignore[attr-defined]
        indexer.session.uuid = SimpleNamespace(uuid4=lambda: uuid.UUID(int=next(numbers)))  # type: ignore[assignment]
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        try:
            yield
        finally:
            structlog.configure(**log)
            for module, name, value in before:
                setattr(module, name, value)


def registry_of(chain_id: int) -> Registry:
    """The shipped descriptions on a chain of this id."""
    with tempfile.TemporaryDirectory() as folder:
        overlay = Path(folder) / "deployment.yaml"
        native = "native: {symbol: ETH, decimals: 18, source: events}\n"
        overlay.write_text(DEPLOYMENT.replace("31337", str(chain_id)) + native)
        return load_registry([SHIPPED, overlay], chain_id=chain_id)


@contextlib.contextmanager
def migrated(admin_url: str) -> Iterator[Dsns]:
    """A database with the schema and all months that simulations need; deadlocks are found at once."""
    name = f"simulation_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        dsns = Dsns(name=name, admin=with_database(admin_url, name))
        try:
            migrate(dsns.admin, writer_dsn=dsns.writer, reader_dsn=dsns.reader)
            connection.execute(f"ALTER ROLE chainbooks_writer IN DATABASE {name} SET deadlock_timeout = '5ms'")
            first = datetime.datetime.fromtimestamp(BEGIN, datetime.UTC).date().replace(day=1)
            months = [(first + datetime.timedelta(days=32 * i)).replace(day=1) for i in range(4)]
            with psycopg.connect(dsns.admin, autocommit=True) as database:
                database.execute("SELECT ledger.ensure_partitions(%s)", (months,))
            yield dsns
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
