"""How long a deep reorg takes: ``python -m tests.bench.bench_reorg [--depth N] [--events N] [--rounds N]``.

From the moment when the node announces the new branch's head to the moment when a second connection to Postgres sees
all of it in the books: retractions and new events, two transfers each, through the real indexer, Kafka, ledger and
Postgres. Every round swaps the branch for one that was never seen. The node is a stub with ready answers, so that it
is not what is measured. Uses the services of the tests. Never a gate: it measures this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.stub_node import Rendered
from tests.bench.whole_path import FEES, Used, WholePath, paid, used, whole_path
from tests.fakes.rpc_node.chain import Chain

COMMON = 4  # empty blocks below the fork
ACCOUNTS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One reorg; times in seconds since the announcement."""

    linked_s: float
    fetched_s: float
    first_batch_s: float
    booked_s: float
    batches: int
    stub_cpu_s: float
    indexer_cpu_s: float
    ledger_cpu_s: float
    postgres_cpu_s: float

    @property
    def idle_machine_s(self) -> float:
        """What our part alone needs when every core works on it all the time."""
        return (self.indexer_cpu_s + self.ledger_cpu_s + self.postgres_cpu_s) / (os.cpu_count() or 1)


def branches(*, depth: int, events: int, count: int) -> Rendered:
    """Branches of equal height that part above ``COMMON``, each with other payments."""
    chain = Chain(finalized_depth=10_000, safe_depth=10_000)
    chain.mine_empty(COMMON)
    rendered = Rendered()
    seq = 0
    for branch in range(count):
        chain.fork(at=COMMON)
        seq = 0
        for _ in range(depth):
            logs = []
            for _ in range(events):
                seq += 1
                logs.append([paid((seq * 7919 + branch) % ACCOUNTS, 1_000 + seq, seq)])
            chain.mine(*logs)
        rendered.add(chain.branch)
    return rendered


async def reorg(path: WholePath, rendered: Rendered, branch: int) -> Round:
    head = len(rendered.branches[branch]) - 1
    before = await cpu(path)
    batches = "SELECT count(*), extract(epoch FROM min(recorded_at)) FROM ledger.batch WHERE recorded_at > $1"
    began = await path.books.fetchval("SELECT clock_timestamp()")
    announced = await path.show(branch, head)
    booked = await path.booked(rendered.branches[branch][head])
    after = await cpu(path)
    served: dict[str, Any] = (await path.served())["served"]
    made = await path.books.fetchrow(batches, began)
    return Round(
        linked_s=max(served[name][1] for name in served if name == "eth_getBlockByHash") - announced,
        fetched_s=served["eth_getLogs"][1] - announced,
        first_batch_s=float(made[1]) - announced,
        booked_s=booked - announced,
        batches=made[0],
        **{f"{name}_cpu_s": after[name] - before[name] for name in before},
    )


async def cpu(path: WholePath) -> dict[str, float]:
    return {
        "stub": float((await path.served())["cpu_s"]),
        "indexer": used(path.indexer.pid).cpu_s,
        "ledger": used(path.ledger.pid).cpu_s,
        "postgres": await path.postgres_cpu_s(),
    }


async def check(path: WholePath, *, depth: int, events: int, rounds: int) -> None:
    """The books hold exactly the last branch: every payment once, everything before it reversed."""
    entries = await path.books.fetchval("SELECT count(*) FROM ledger.entry")
    assert entries == depth * events * (2 * rounds + 1), entries
    income = await path.books.fetchval(
        "SELECT net_base_units FROM finance.balances WHERE account = $1 AND basis = 'latest'", FEES
    )
    expected = sum(1_000 + seq for seq in range(1, depth * events + 1))
    assert abs(income) == expected, (income, expected)


def table_of(found: list[Round], memory: dict[str, tuple[Used, Used]], *, depth: int, events: int) -> Table:
    table = Table(
        "what",
        *(f"round {i + 1}" for i in range(len(found))),
        title=f"{depth}-block reorg, {events} events a block: {2 * depth * events:,} records, two transfers each",
        caption=f"{os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}; seconds since the new head was announced",
    )
    rows: list[tuple[str, str, str]] = [
        ("branch linked", "linked_s", "s"),
        ("logs fetched", "fetched_s", "s"),
        ("first batch begun", "first_batch_s", "s"),
        ("all in the books", "booked_s", "s"),
        ("CPU of the indexer", "indexer_cpu_s", "s"),
        ("CPU of the ledger", "ledger_cpu_s", "s"),
        ("CPU of its Postgres backends", "postgres_cpu_s", "s"),
        ("these three, spread over all cores", "idle_machine_s", "s"),
        ("CPU of the stub node", "stub_cpu_s", "s"),
        ("batches of the ledger", "batches", ""),
    ]
    for label, name, unit in rows:
        values = [getattr(each, name) for each in found]
        table.add_row(label, *(f"{value:.3f} {unit}" if unit else f"{value}" for value in values))
    for name, (before, after) in memory.items():
        grown = f"{before.rss_mb:.0f} MB before, {after.rss_mb:.0f} after, peak {after.peak_mb:.0f}"
        table.add_row(f"memory of the {name}", grown)
    return table


async def main(depth: int, events: int, rounds: int) -> None:
    rendered = branches(depth=depth, events=events, count=rounds + 1)
    async with whole_path(rendered) as path:
        await path.show(0, 0)
        head = COMMON + depth
        await path.listening()
        began = time.time()
        await path.show(0, head)
        await path.booked(rendered.branches[0][head])
        caught_up = time.time() - began
        before = {"indexer": used(path.indexer.pid), "ledger": used(path.ledger.pid)}
        found = [await reorg(path, rendered, branch) for branch in range(1, rounds + 1)]
        memory = {
            "indexer": (before["indexer"], used(path.indexer.pid)),
            "ledger": (before["ledger"], used(path.ledger.pid)),
        }
        await check(path, depth=depth, events=events, rounds=rounds)
    out = Console()
    out.print(table_of(found, memory, depth=depth, events=events))
    out.print(f"first branch in the books {caught_up:.2f} s after its head was announced (services still starting)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=64)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.depth, arguments.events, arguments.rounds))
