"""The whole path for a bench: stub node, ``chainbooks-indexer run``, Kafka, ``chainbooks-ledger run``, Postgres.

Also what a bench reads beside: CPU and memory of processes, and when a second connection sees a block in the books.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from aiokafka.admin import AIOKafkaAdminClient

from contracts.messages import Topics
from indexer.adapters.kafka_topics import KafkaTopics, plans
from tests.bench.stub_node import Rendered
from tests.fakes.rpc_node.chain import Log
from tests.integration.indexer.rig import ASSETS, PAID, REGISTRY, Rig
from tests.integration.ledger.database import copied, migrated_template
from tests.integration.ledger.service import Service
from tests.services import Services

TILL = "0x" + "cc" * 20
FEES = "income:till:fees:-:-"
SECOND = f"""\
      - {{debit: "liabilities:{{book}}:account:{{account}}:available", credit: "{FEES}", asset: native, amount: amount}}
"""
LOOK_EVERY_S = 0.002
DEADLINE_S = 60.0


def paid(account: int, amount: int, seq: int) -> Log:
    """A payment into an account; its description makes two transfers of it."""
    return Log(address=TILL, topics=("0x" + PAID.hex(), f"0x{account + 1:064x}"), data=f"0x{amount:064x}{seq:064x}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """Of one process: CPU seconds so far, memory now and at most, in megabytes."""

    cpu_s: float
    rss_mb: float
    peak_mb: float


def used(pid: int) -> Used:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    rss, peak = (int(status[name].split()[0]) / 1000 for name in ("VmRSS", "VmHWM"))
    return Used(cpu_s=(int(fields[11]) + int(fields[12])) / 100, rss_mb=rss, peak_mb=peak)


@dataclass(slots=True, kw_only=True)
class WholePath:
    """Everything that runs."""

    url: str
    http: aiohttp.ClientSession
    books: asyncpg.Connection
    database: str
    indexer: asyncio.subprocess.Process
    ledger: asyncio.subprocess.Process
    rig: Rig
    service: Service

    async def show(self, branch: int, height: int) -> float:
        """Makes a block the node's head and announces it; Unix seconds of the announcement."""
        async with self.http.post(f"{self.url}/show/{branch}/{height}") as answer:
            return float((await answer.json())["announced"])

    async def served(self) -> dict[str, Any]:
        async with self.http.get(f"{self.url}/served") as answer:
            told: dict[str, Any] = await answer.json()
            return told

    async def listening(self) -> None:
        """Until the indexer has subscribed to new heads."""

        async def holds() -> bool:
            return bool((await self.served())["listeners"])

        await self._until("the indexer listens", holds, every_s=0.05)

    async def booked(self, block_hash: str) -> float:
        """Unix seconds when this connection sees everything up to a block in the books."""
        wanted = bytes.fromhex(block_hash[2:])

        async def holds() -> bool:
            found = await self.books.fetchval("SELECT latest_hash FROM ledger.stream WHERE kind = 'events'")
            return bool(found == wanted)

        await self._until(f"block {block_hash} is in the books", holds, every_s=LOOK_EVERY_S)
        return time.time()

    async def _until(self, what: str, holds: Callable[[], Awaitable[bool]], *, every_s: float) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not await holds():
            if time.monotonic() > deadline or self.indexer.returncode or self.ledger.returncode:
                raise RuntimeError(f"never: {what}\n{self.rig.log()[-3000:]}\n{self.service.log()[-3000:]}")
            await asyncio.sleep(every_s)

    async def postgres_cpu_s(self) -> float:
        """CPU of the ledger's backends; 0 when they run elsewhere."""
        rows = await self.books.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'chainbooks-ledger%'",
            self.database,
        )
        found = 0.0
        for row in rows:
            with contextlib.suppress(OSError):
                found += used(row["pid"]).cpu_s
        return found


@contextlib.asynccontextmanager
async def whole_path(rendered: Rendered) -> AsyncIterator[WholePath]:
    """Starts it all on one partition; both services follow the stub's first branch from genesis."""
    services = Services()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(services.close)
        kafka = await asyncio.to_thread(lambda: services.kafka)
        admin_url = await asyncio.to_thread(lambda: services.postgres)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        topics = await stack.enter_async_context(_topics(kafka))
        url = await stack.enter_async_context(_stub(rendered, folder))
        template = stack.enter_context(migrated_template(admin_url))
        database = await stack.enter_async_context(copied(admin_url, template))
        rig = _rig(url, kafka, topics, folder)
        stack.push_async_callback(rig.stop_all)
        ledger = Service(database=database, kafka=kafka, prefix=topics.prefix, folder=folder)
        stack.push_async_callback(ledger.stop_all)
        books = await asyncpg.connect(database.admin)
        stack.push_async_callback(books.close)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield WholePath(
            url=url,
            http=http,
            books=books,
            database=database.name,
            indexer=await rig.start(),
            ledger=await ledger.start(LEDGER__LAG_MAX_S="600"),
            rig=rig,
            service=ledger,
        )


def _rig(url: str, kafka: str, topics: Topics, folder: Path) -> Rig:
    (folder / "registry").mkdir()
    (folder / "registry" / "assets.yaml").write_text(ASSETS)
    till_yaml = REGISTRY.format(address=TILL, start_block=1) + SECOND
    (folder / "registry" / "till.yaml").write_text(till_yaml)
    node: Any = _Urls(http_url=url, ws_url=url.replace("http", "ws"))
    till: Any = None
    rig = Rig(till=till, node=node, kafka=kafka, prefix=topics.prefix, folder=folder)
    rig.extra |= {"KAFKA__PARTITIONS": "1", "INDEXER__LEASE_S": "10", "INDEXER__POLL_S": "1"}
    return rig


@dataclass(frozen=True, slots=True, kw_only=True)
class _Urls:
    http_url: str
    ws_url: str


@contextlib.asynccontextmanager
async def _topics(kafka: str) -> AsyncIterator[Topics]:
    topics = Topics(chain="local", prefix=f"bench{secrets.token_hex(4)}.")
    wanted = plans(topics, partitions=1)
    await KafkaTopics(bootstrap_servers=kafka, replication_factor=1).ensure(wanted)
    try:
        yield topics
    finally:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        try:
            await admin.delete_topics([plan.name for plan in wanted])
        finally:
            await admin.close()


@contextlib.asynccontextmanager
async def _stub(rendered: Rendered, folder: Path) -> AsyncIterator[str]:
    file = folder / "rendered"
    file.write_bytes(pickle.dumps(rendered))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.stub_node", str(file), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(await asyncio.wait_for(process.stdout.readline(), DEADLINE_S))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()
