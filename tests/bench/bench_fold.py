"""How fast the ledger folds: ``python -m tests.bench.bench_fold [--events N] [--accounts N]``.

Publishes payment events with two transfers each to a real Kafka, lets ``chainbooks-ledger run`` fold them into a real
Postgres with every constraint, trigger and index, promotes them, and prints events a second. Uses the services of the
tests (the same environment variables). Never a gate: it measures this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from contracts.messages import Topics
from tests.integration.ledger.database import Database, copied, migrated_template
from tests.integration.ledger.kafka import drop_topics, make_topics, publishing
from tests.integration.ledger.service import Service
from tests.services import Services
from tests.unit.ledger.story import CHAIN, Log, Story, captured

EVENTS_PER_BLOCK = 100
LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run."""

    events: int
    transfers: int
    batches: int
    fold_s: float
    promoted_s: float
    ledger_cpu_s: float
    postgres_cpu_s: float
    rss_mb: float
    journal_mb: float


def story_of(events: int, *, accounts: int) -> Story:
    """PaymentCaptured, one a tx: escrow → merchant and escrow → fees."""
    rng = random.Random(1)
    story = Story()
    for block in range(events // EVENTS_PER_BLOCK):
        txs: list[list[Log]] = []
        for place in range(EVENTS_PER_BLOCK):
            amount = 10_000 + rng.randrange(10**9)
            seq = block * EVENTS_PER_BLOCK + place + 1
            txs.append([captured(rng.randrange(accounts), rng.randrange(accounts), amount, 37, seq=seq)])
        story.block(*txs)
    story.mark(finalized=story.chain[-1].number)
    return story


async def measure(service: Service, story: Story) -> Measured:
    """From the first claim until everything is in the books, and until it is final."""
    connection = await asyncpg.connect(service.database.admin)
    seq = len(story.records)
    try:
        process = await service.start(LEDGER__LAG_MAX_S="600")
        began, _ = await _until(connection, "SELECT now() WHERE EXISTS (SELECT FROM ledger.batch)", None)
        start_up_cpu, _ = _usage(process.pid)
        first = await connection.fetchval("SELECT min(claimed_at) FROM ledger.stream WHERE kind = 'events'")
        begin = time.perf_counter() - (began - first).total_seconds()
        await _until(connection, "SELECT stream_seq FROM ledger.stream WHERE kind = 'events'", seq)
        folded = time.perf_counter()
        cpu, rss = _usage(process.pid)
        await _until(connection, "SELECT final_number FROM ledger.chain_head", story.chain[-1].number)
        promoted = time.perf_counter()
        postgres_cpu = await _postgres_cpu(connection, service.database)
        row = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM ledger.entry) AS events, (SELECT count(*) FROM ledger.transfer) AS transfers,"
            " (SELECT count(*) FROM ledger.batch) AS batches,"
            " (SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits) AS bytes"
        )
        await service.stop(process)
    finally:
        await connection.close()
    return Measured(
        events=row["events"],
        transfers=row["transfers"],
        batches=row["batches"],
        fold_s=folded - begin,
        promoted_s=promoted - begin,
        ledger_cpu_s=cpu - start_up_cpu,
        postgres_cpu_s=postgres_cpu,
        rss_mb=rss,
        journal_mb=float(row["bytes"]) / 1e6,
    )


async def _until(connection: asyncpg.Connection, sql: str, value: Any) -> tuple[Any, float]:
    async with asyncio.timeout(600):
        while True:
            found = await connection.fetchval(sql)
            if found == value if value is not None else found is not None:
                return found, time.perf_counter()
            await asyncio.sleep(LOOK_EVERY_S)


def _usage(pid: int) -> tuple[float, float]:
    """CPU seconds and resident megabytes of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / 100, int(peak.split()[1]) / 1000


async def _postgres_cpu(connection: asyncpg.Connection, database: Database) -> float:
    """CPU seconds of the backends that work for the ledger; 0 when they run elsewhere."""
    rows = await connection.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'chainbooks-ledger%'",
        database.name,
    )
    found = 0.0
    for row in rows:
        with contextlib.suppress(OSError):
            found += _usage(row["pid"])[0]
    return found


async def main(events: int, accounts: int) -> None:
    services = Services()
    out = Console()
    try:
        kafka = await asyncio.to_thread(lambda: services.kafka)  # starting a service runs an event loop of its own
        admin_url = await asyncio.to_thread(lambda: services.postgres)
        topics = Topics(chain=CHAIN, prefix=f"bench{secrets.token_hex(4)}.")
        story = story_of(events, accounts=accounts)
        await make_topics(kafka, topics, partitions=1)
        try:
            async with publishing(kafka, topics) as publisher:
                await publisher.descriptions()
                await publisher.publish(story)
            with migrated_template(admin_url) as template, tempfile.TemporaryDirectory() as folder:
                async with copied(admin_url, template) as database:
                    service = Service(database=database, kafka=kafka, prefix=topics.prefix, folder=Path(folder))
                    try:
                        found = await measure(service, story)
                    finally:
                        await service.stop_all()
        finally:
            await drop_topics(kafka, topics)
    finally:
        services.close()
    table = Table("what", "measured", title="ledger fold: one partition, two transfers an event, all constraints")
    for name, value in (
        ("events folded a second", f"{found.events / found.fold_s:,.0f}"),
        ("events, transfers, batches", f"{found.events:,}, {found.transfers:,}, {found.batches:,}"),
        ("folded after, promoted after", f"{found.fold_s:.2f} s, {found.promoted_s:.2f} s"),
        ("CPU of the ledger", f"{found.ledger_cpu_s / found.events * 1e6:.1f} µs an event after the first batch"),
        (
            "CPU of its Postgres backends",
            f"{found.postgres_cpu_s / found.events * 1e6:.1f} µs an event (promotion too)",
        ),
        ("peak memory of the ledger", f"{found.rss_mb:.0f} MB"),
        ("journal with indexes", f"{found.journal_mb:.0f} MB, {found.journal_mb * 1e6 / found.events:.0f} B an event"),
    ):
        table.add_row(name, value)
    out.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--accounts", type=int, default=2_000)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.events, arguments.accounts))
