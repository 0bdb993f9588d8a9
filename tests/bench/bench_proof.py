"""How long verify and rebuild take: ``python -m tests.bench.bench_proof [--events N] [--partitions P]``.

Publishes payment events with two transfers each to a real Kafka, lets ``chainbooks-ledger run`` fold and promote them
into a real Postgres, ends it, and runs ``chainbooks-ledger verify`` and ``chainbooks-ledger rebuild`` as a user would.
Uses the services of the tests (the same environment variables). Never a gate: it measures this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import secrets
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from contracts.messages import Topics
from tests.integration.ledger.database import copied, migrated_template
from tests.integration.ledger.kafka import Publisher, drop_topics, make_topics, publishing
from tests.integration.ledger.service import Service
from tests.services import Services
from tests.unit.ledger.story import CHAIN, TOKEN, Log, Story, captured, vault_deposited

EVENTS_PER_BLOCK = 100
EVENTS_PER_PUBLISH = 10_000
LOOK_EVERY_S = 0.1
PROMOTED = """
    SELECT final_number = (SELECT min(finalized_number) FROM ledger.stream WHERE kind = 'events') FROM ledger.chain_head
"""


async def publish(publisher: Publisher, story: Story, *, events: int, accounts: int) -> int:
    """Most of it in one book, as payments are, a tenth in another one; returns the number of records."""
    rng = random.Random(1)
    records = 0
    for block in range(events // EVENTS_PER_BLOCK):
        txs: list[list[Log]] = []
        for place in range(EVENTS_PER_BLOCK):
            seq = block * EVENTS_PER_BLOCK + place + 1
            if rng.random() < 0.1:
                txs.append([vault_deposited(f"0x{rng.randrange(accounts):040x}", rng.randrange(1, 10**9))])
            else:
                merchant, payment = rng.randrange(accounts), rng.randrange(accounts)
                txs.append([captured(payment, merchant, 10_000 + rng.randrange(10**9), 37, asset=TOKEN, seq=seq)])
        story.block(*txs)
        if len(story.records) >= EVENTS_PER_PUBLISH:
            records += await _flush(publisher, story)
    story.mark(finalized=story.chain[-1].number)
    return records + await _flush(publisher, story)


async def _flush(publisher: Publisher, story: Story) -> int:
    """Sends what was told, and forgets it: a bench's memory is not what is measured."""
    count = len(story.records)
    await publisher.publish(story)
    story.records.clear()
    del story.chain[:-1]
    publisher.sent = 0
    return count


async def fold(service: Service, *, records: int) -> dict[str, int]:
    """The live books; returns what is in them."""
    connection = await asyncpg.connect(service.database.admin)
    try:
        process = await service.start(LEDGER__LAG_MAX_S="600")
        await _until(connection, f"SELECT sum(stream_seq) = {records} FROM ledger.stream WHERE kind = 'events'")
        await _until(connection, PROMOTED)
        await service.stop(process)
        row = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM ledger.entry) AS entries,"
            " (SELECT count(*) FROM ledger.transfer) AS transfers, (SELECT count(*) FROM ledger.account) AS accounts"
        )
    finally:
        await connection.close()
    return dict(row)


async def _until(connection: asyncpg.Connection, sql: str) -> None:
    async with asyncio.timeout(1_200):
        while not await connection.fetchval(sql):  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(LOOK_EVERY_S)


async def command(service: Service, *arguments: str) -> tuple[float, dict[str, Any]]:
    """Seconds and the document that it printed."""
    began = time.perf_counter()
    code, out, err = await service.command(*arguments, "--json")
    if code:
        raise SystemExit(f"{arguments[0]} ended with {code}:\n{out}\n{err}")
    return time.perf_counter() - began, json.loads(out)


async def main(events: int, accounts: int, partitions: int) -> None:
    services = Services()
    out = Console()
    try:
        kafka = await asyncio.to_thread(lambda: services.kafka)  # starting a service runs an event loop of its own
        admin_url = await asyncio.to_thread(lambda: services.postgres)
        topics = Topics(chain=CHAIN, prefix=f"bench{secrets.token_hex(4)}.")
        await make_topics(kafka, topics, partitions=partitions)
        try:
            async with publishing(kafka, topics) as publisher:
                await publisher.descriptions()
                story = Story(partitions=partitions, partition_of={"vault": partitions - 1})
                records = await publish(publisher, story, events=events, accounts=accounts)
            with migrated_template(admin_url) as template, tempfile.TemporaryDirectory() as folder:
                async with copied(admin_url, template) as database:
                    service = Service(
                        database=database,
                        kafka=kafka,
                        prefix=topics.prefix,
                        folder=Path(folder),
                        partitions=partitions,
                        deadline_s=1_200,
                    )
                    try:
                        books = await fold(service, records=records)
                        await _measure(out, service, books)
                    finally:
                        await service.stop_all()
        finally:
            await drop_topics(kafka, topics)
    finally:
        services.close()


async def _measure(out: Console, service: Service, books: dict[str, int]) -> None:
    verified_s, verified = await command(service, "verify")
    rebuilt_s, rebuilt = await command(service, "rebuild", "--into", "bench_rebuilt", "--keep")
    compared_s, compared = await command(service, "rebuild", "--into", "bench_rebuilt")
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    assert verified["passed"]
    assert rebuilt["equal"]
    assert compared["records_folded"] == 0
    entries = books["entries"]
    title = f"{entries:,} entries, {books['transfers']:,} transfers, {books['accounts']:,} accounts"
    table = Table("what", "measured", title=title)
    for name, value in (
        ("verify", f"{verified_s:.1f} s, {verified_s / entries * 1e6:.0f} µs an entry"),
        ("rebuild: fold, promote, compare", f"{rebuilt_s:.1f} s, {entries / rebuilt_s:,.0f} entries/s"),
        ("of it compare (and drop)", f"{compared_s:.1f} s"),
        ("peak memory of any ledger process", f"{peak_mb:.0f} MB"),
    ):
        table.add_row(name, value)
    out.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--accounts", type=int, default=2_000)
    parser.add_argument("--partitions", type=int, default=2)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.events, arguments.accounts, arguments.partitions))
