"""PostgreSQL for the simulation: real statements on pooled connections, one at a time, with real faults.

A simulated process holds ``Session``s, which look like asyncpg connections. Each statement waits at the process's gate.
When a process is killed its db_tx is rolled back, as the server does when a socket closes; the physical connection then
serves the next one. Connections are dropped with pg_terminate_backend; a deadlock is made by another session that locks
rows in the opposite order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from ledger.adapters.statements import statements
from ledger.errors import DatabaseUnavailable
from tests.simulation.faults import Faults
from tests.simulation.loop import Gate, VirtualLoop

NAMES: Final = {sql: name for file in ("batch", "streams", "promotion") for name, sql in statements(file).items()}
SETTINGS: Final = {"application_name": "simulation", "timezone": "UTC", "jit": "off"}
ADD_TO_BALANCES: Final = statements("batch")["add_to_balances"]
ONCE_A_TX: Final = frozenset(
    ("claim", "advance", "add_assets", "add_accounts", "add_balances", "add_to_balances", "promote", "lock_head")
)
"""Statements that wait for rows, and that a db_tx has behind it when it holds those rows."""


@dataclass(eq=False, slots=True)
class Physical:
    """A real connection."""

    connection: asyncpg.Connection
    pid: int
    running: asyncio.Task[Any] | None = None
    blocked: bool = False  # the running statement waits for a lock
    waited: bool = False  # it did: its answer has to wait for its turn
    in_tx: bool = False
    statement: str = ""  # name of what runs
    dead: bool = False  # its server process was ended; asyncpg may not know yet


async def _connect(dsn: str, **settings: str) -> asyncpg.Connection:
    """Without timers of its own: they would fire in virtual time."""
    connected: asyncpg.Connection = await asyncpg.connect(
        dsn, server_settings=SETTINGS | settings, max_cached_statement_lifetime=0
    )
    return connected


class Database:
    """The pool, and the session of a superuser who looks and makes trouble. Lives longer than one simulation."""

    def __init__(self, loop: VirtualLoop, *, writer: str, admin: str) -> None:
        self.loop = loop
        self._writer_dsn = writer
        self._admin_dsn = admin
        self._free: list[Physical] = []
        self._used: list[Physical] = []
        self._asking = asyncio.Lock()
        self._released = False  # something has ended since somebody looked who waits
        self._admin: asyncpg.Connection
        self.rival: Rival

    async def open(self) -> None:
        with self.loop.real():
            self._admin = await _connect(self._admin_dsn)
            self.rival = Rival(self, await _connect(self._admin_dsn, deadlock_timeout="1min"))

    async def close(self) -> None:
        with self.loop.real():
            for connection in (self._admin, self.rival.connection, *(p.connection for p in self._free + self._used)):
                await connection.close()

    async def ask(self, how: str, sql: str, *args: Any) -> Any:
        """A statement of the superuser's session, in no time."""
        async with self._asking:
            with self.loop.real():
                return await getattr(self._admin, how)(sql, *args)

    async def take(self) -> Physical:
        """A connection of the writer's role."""
        if self._free:
            physical = self._free.pop()
        else:
            with self.loop.real():
                connection = await _connect(self._writer_dsn)
                physical = Physical(connection, connection.get_server_pid())
        self._used.append(physical)
        return physical

    async def give(self, physical: Physical) -> None:
        """Back, as new; what it was doing never happened."""
        if physical not in self._used:
            return
        self._used.remove(physical)
        physical.waited = False
        if physical.running is not None:
            await self.terminate(physical)
            return
        if physical.dead or physical.connection.is_closed():
            physical.connection.terminate()
            return
        if physical.in_tx:
            await self.settled(physical.connection.execute("ROLLBACK"))
            physical.in_tx = False
        self._free.append(physical)

    async def reclaim(self) -> None:
        """At the end of a simulation: what its processes still held."""
        for physical in list(self._used):
            await self.give(physical)

    async def terminate(self, physical: Physical) -> None:
        """Ends the server's process behind a connection, and waits until it is gone."""
        physical.dead = True
        await self.settled(self._terminate(physical.pid))
        if physical.running is not None:
            self._resume(physical)

    async def _terminate(self, pid: int) -> None:
        gone = not await self.ask("fetchval", "SELECT pg_terminate_backend($1)", pid)
        while not gone:
            gone = not await self.ask("fetchval", "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid)

    def alone(self, physical: Physical) -> bool:
        """Whether no other db_tx is under way."""
        others = (p for p in self._used if p is not physical and not p.dead)
        return not any(p.in_tx or p.running is not None for p in others)

    async def run(self, physical: Physical, call: Callable[[], Awaitable[Any]]) -> Any:
        """One statement. While it waits for a lock others go on."""
        self.loop.busy += 1
        physical.running = task = asyncio.ensure_future(call())
        task.add_done_callback(lambda task: self._answered(physical, task))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():  # as asyncpg does: the server is told, and the connection is of use afterwards
                self._resume(physical)
                await self.settled(self.ask("execute", "SELECT pg_cancel_backend($1)", physical.pid))
                await asyncio.wait({task})
            raise
        finally:
            self._released = True  # any statement may: one that waited for a row and did not want it lets the next go

    async def describe(self) -> list[Any]:
        """What the server thinks our sessions do, for a failure's message."""
        asked = "SELECT pid, state, wait_event_type, pg_blocking_pids(pid), left(query, 90) FROM pg_stat_activity"
        rows = await self.ask(
            "fetch", f"{asked} WHERE datname = current_database() AND application_name = 'simulation'"
        )
        ours = [(p.pid, p.running is not None, p.blocked, p.in_tx) for p in self._used]
        return [self.loop.busy, ours, *(tuple(row) for row in rows)]

    @property
    def blocked(self) -> set[str]:
        """Names of statements that wait for a lock. Among two of one name PostgreSQL would choose who goes first."""
        return {physical.statement for physical in self._used if physical.blocked} & ONCE_A_TX

    async def still_waiting(self) -> bool:
        """Locks were given back since the last look: whoever got one is waited for again. False when somebody did."""
        if not self._released:
            return True
        self._released = False
        blocked = [p for p in self._used if p.blocked]
        if not blocked:
            return True
        asked = "SELECT p FROM unnest($1::INTEGER[]) AS p WHERE cardinality(pg_blocking_pids(p)) = 0"
        free = {row["p"] for row in await self.ask("fetch", asked, [p.pid for p in blocked])}
        for physical in blocked:
            if physical.pid in free:
                self._resume(physical)
        return not free

    async def look_for_locks(self, faults: Faults) -> None:
        """Something does not answer: if it waits for a lock it is no longer waited for."""
        running = [p for p in self._used if p.running is not None and not p.blocked]
        asked = "SELECT pid FROM pg_stat_activity WHERE pid = ANY($1) AND wait_event_type = 'Lock' AND state = 'active'"
        rows = await self.ask("fetch", asked, [p.pid for p in running])
        waiting = {row["pid"] for row in rows}
        for physical in running:
            if physical.pid in waiting and physical.running is not None:
                physical.blocked = True
                self.loop.busy -= 1
                if not physical.waited:
                    physical.waited = True
                    faults.count("postgres: waits for a lock")

    def _answered(self, physical: Physical, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # whoever asked may be dead
        if not physical.blocked:
            self.loop.busy -= 1
        physical.running, physical.blocked = None, False

    def _resume(self, physical: Physical) -> None:
        if physical.blocked:
            physical.blocked = False
            self.loop.busy += 1

    async def settled(self, call: Awaitable[Any]) -> None:
        try:
            with self.loop.real():
                await call
        finally:
            self._released = True


@dataclass(slots=True)
class Trouble:
    """What a session is to meet at its next write of balances."""

    kind: str = ""


@dataclass(eq=False)
class Session:
    """What a store of a simulated process takes for an asyncpg connection."""

    database: Database
    physical: Physical
    gate: Gate
    faults: Faults
    pick: random.Random
    trouble: Trouble
    number: int  # within its process
    closed: bool = False

    @classmethod
    async def open(
        cls, database: Database, gate: Gate, faults: Faults, pick: random.Random, trouble: Trouble, number: int
    ) -> Any:
        await gate.wait("pg connect")
        if faults.happens("postgres: connection refused"):
            raise DatabaseUnavailable("Postgres cannot be reached")
        return cls(database, await database.take(), gate, faults, pick, trouble, number)

    async def execute(self, sql: str, *args: Any) -> Any:
        return await self._run(sql, lambda: self.physical.connection.execute(sql, *args))

    async def fetch(self, sql: str, *args: Any) -> Any:
        return await self._run(sql, lambda: self.physical.connection.fetch(sql, *args))

    async def fetchrow(self, sql: str, *args: Any) -> Any:
        return await self._run(sql, lambda: self.physical.connection.fetchrow(sql, *args))

    async def fetchval(self, sql: str, *args: Any) -> Any:
        return await self._run(sql, lambda: self.physical.connection.fetchval(sql, *args))

    async def copy_records_to_table(self, table: str, **values: Any) -> Any:
        return await self._run(f"copy {table}", lambda: self.physical.connection.copy_records_to_table(table, **values))

    async def copy_to_table(self, table: str, **values: Any) -> Any:
        return await self._run(f"copy {table}", lambda: self.physical.connection.copy_to_table(table, **values))

    def transaction(self, **_: Any) -> AbstractAsyncContextManager[None]:
        return _DbTx(self)

    async def close(self, timeout: float | None = None) -> None:
        if not self.closed and self.gate.open:
            self.closed = True
            await self.database.give(self.physical)

    def terminate(self) -> None:
        """The close did not work: it is closed by now."""

    async def bury(self) -> None:
        """The process was killed."""
        if not self.closed:
            self.closed = True
            await self.database.give(self.physical)

    async def _run(self, sql: str, call: Callable[[], Awaitable[Any]]) -> Any:
        name = NAMES.get(sql, sql)
        await self.gate.wait(f"pg{self.number} {name}")
        self.physical.statement = name
        if self.closed:
            raise asyncpg.InterfaceError("connection is closed")
        if self.faults.happens("postgres: connection dropped"):
            await self.database.terminate(self.physical)
        troubled = sql == ADD_TO_BALANCES and self.physical.in_tx and self.trouble.kind and self.faults.on
        if troubled and self.database.alone(self.physical):
            return await self._in_trouble(call)
        try:
            result = await self.database.run(self.physical, call)
        finally:
            if self.physical.waited:
                self.physical.waited = False
                await self.gate.wait(f"pg{self.number} gets its lock")
        if sql == "COMMIT":
            self.physical.in_tx = False
            if self.faults.happens("postgres: connection dropped after the commit"):
                await self.database.terminate(self.physical)
                raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return result

    async def _in_trouble(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Another session locks a balance, then what this db_tx holds: a deadlock; or changes it: a conflict."""
        database, kind = self.database, self.trouble.kind
        self.trouble.kind = ""
        with database.loop.real():
            stage = await self.physical.connection.fetchrow(
                "SELECT debit_account_id AS account, entry_id >> 44 AS stream FROM stage_transfer LIMIT 1"
            )
            rival = database.rival if await database.rival.prepare(kind, stage) else None
        try:
            with database.loop.real():  # nobody else holds a lock: it ends by itself
                return await call()
        except asyncpg.DeadlockDetectedError:
            self.faults.count("postgres: deadlock")
            raise
        except asyncpg.SerializationError:
            self.faults.count("postgres: serialisation failure")
            raise
        finally:
            if rival is not None:
                await database.settled(rival.rest())


class Rival:
    """A session that takes locks in the wrong order. One trouble at a time."""

    def __init__(self, database: Database, connection: asyncpg.Connection) -> None:
        self._database = database
        self.connection = connection
        self._pid = connection.get_server_pid()
        self._waiting: asyncio.Future[Any] | None = None

    async def prepare(self, kind: str, stage: Any) -> bool:
        """False when there is nothing to make trouble with. Never waits for a lock itself, but for what it is made."""
        if stage is None or self.connection.is_in_transaction():
            return False
        await self.connection.execute("BEGIN")
        asked = "SELECT 1 FROM ledger.balance WHERE account_id = $1 FOR UPDATE SKIP LOCKED"
        if await self.connection.fetchrow(asked, stage["account"]) is None:
            await self.connection.execute("ROLLBACK")
            return False
        if kind == "serialisation":
            await self.connection.execute(
                "UPDATE ledger.balance SET debits = debits WHERE account_id = $1", stage["account"]
            )
            await self.connection.execute("COMMIT")
            return True
        asked = "SELECT 1 FROM ledger.stream WHERE stream_no = $1 FOR UPDATE"
        self._waiting = asyncio.ensure_future(self.connection.execute(asked, int(stage["stream"])))
        watched = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1"
        while not await self._database.ask("fetchval", watched, self._pid):
            if self._waiting.done():
                break
        return True

    async def rest(self) -> None:
        """Gives up what it waits for and what it holds."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            await self._database.ask("execute", "SELECT pg_cancel_backend($1)", self._pid)
            await asyncio.wait({waiting})
            waiting.exception()
        if self.connection.is_in_transaction():
            await self.connection.execute("ROLLBACK")


class _DbTx(AbstractAsyncContextManager[None]):
    """``connection.transaction()``, statement by statement."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def __aenter__(self) -> None:
        session = self._session
        level = " ISOLATION LEVEL REPEATABLE READ" if session.trouble.kind == "serialisation" else ""
        await session.execute(f"BEGIN{level}")
        session.physical.in_tx = True

    async def __aexit__(self, kind: Any, exc: Any, trace: Any) -> None:
        session = self._session
        if exc is None:
            await session.execute("COMMIT")
            return
        if session.gate.open and not session.physical.dead and session.physical.in_tx:
            await session.execute("ROLLBACK")
            session.physical.in_tx = False
