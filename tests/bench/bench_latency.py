"""From a header to a balance: ``python -m tests.bench.bench_latency [--seconds N]``.

A stub node announces blocks at a steady pace; for each the time is taken until a second connection to Postgres sees it
in the books, through the real indexer, Kafka and ledger. Prints p50, p99 and the slowest at 1, 50 and 500 events a
second. Uses the services of the tests. Never a gate: it measures this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.bench.stub_node import Rendered
from tests.bench.whole_path import WholePath, paid, used, whole_path
from tests.fakes.rpc_node.chain import Chain

ACCOUNTS = 2_000
SETTLE_BLOCKS = 5  # not measured: the services are warm after them


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How blocks come."""

    events_a_second: int
    blocks_a_second: int

    @property
    def events_a_block(self) -> int:
        return self.events_a_second // self.blocks_a_second


PACES = (
    Pace(events_a_second=1, blocks_a_second=1),
    Pace(events_a_second=50, blocks_a_second=5),
    Pace(events_a_second=500, blocks_a_second=5),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One pace, in milliseconds from the announcement; CPU as a share of one core."""

    pace: Pace
    latencies_ms: list[float]
    indexer_cpu: float
    ledger_cpu: float

    def quantile(self, percent: int) -> float:
        return statistics.quantiles(self.latencies_ms, n=100, method="inclusive")[percent - 1]


def chain_of(seconds: int) -> tuple[Rendered, list[int]]:
    """One branch that holds the blocks of every pace, and the height at which each pace begins."""
    chain = Chain(finalized_depth=100_000, safe_depth=100_000)
    starts = []
    seq = 0
    for pace in PACES:
        starts.append(chain.head.number + 1)
        for _ in range(SETTLE_BLOCKS + pace.blocks_a_second * seconds):
            logs = []
            for _ in range(pace.events_a_block):
                seq += 1
                logs.append([paid(seq * 7919 % ACCOUNTS, 1_000 + seq, seq)])
            chain.mine(*logs)
    rendered = Rendered()
    rendered.add(chain.branch)
    return rendered, [*starts, chain.head.number + 1]


async def measure(path: WholePath, rendered: Rendered, pace: Pace, heights: range) -> Measured:
    """Announces the blocks one after another at their time; a block that is late delays the next announcement."""
    latencies: list[float] = []
    began, cpu = time.monotonic(), (0.0, 0.0)
    for i, height in enumerate(heights):
        if i == SETTLE_BLOCKS:
            cpu = (used(path.indexer.pid).cpu_s, used(path.ledger.pid).cpu_s)
            settled_at = time.monotonic()
        await asyncio.sleep(max(began + i / pace.blocks_a_second - time.monotonic(), 0))
        announced = await path.show(0, height)
        booked = await path.booked(rendered.branches[0][height])
        if i >= SETTLE_BLOCKS:
            latencies.append(1000 * (booked - announced))
    took_s = time.monotonic() - settled_at
    return Measured(
        pace=pace,
        latencies_ms=latencies,
        indexer_cpu=(used(path.indexer.pid).cpu_s - cpu[0]) / took_s,
        ledger_cpu=(used(path.ledger.pid).cpu_s - cpu[1]) / took_s,
    )


async def main(seconds: int) -> None:
    rendered, starts = chain_of(seconds)
    found = []
    async with whole_path(rendered) as path:
        await path.listening()
        for pace, begin, end in zip(PACES, starts, starts[1:], strict=False):
            found.append(await measure(path, rendered, pace, range(begin, end)))
    table = Table(
        *("events a second", "blocks", "p50 ms", "p99 ms", "slowest ms", "indexer CPU", "ledger CPU"),
        title="from the announced header to the balance on a second connection",
        caption=f"{os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}; looked every 2 ms",
    )
    for each in found:
        table.add_row(
            str(each.pace.events_a_second),
            f"{len(each.latencies_ms)} of {each.pace.events_a_block}",
            f"{each.quantile(50):.0f}",
            f"{each.quantile(99):.0f}",
            f"{max(each.latencies_ms):.0f}",
            f"{each.indexer_cpu:.0%}",
            f"{each.ledger_cpu:.0%}",
        )
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    asyncio.run(main(parser.parse_args().seconds))
