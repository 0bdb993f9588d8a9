"""Memory in a finality stall: ``python -m tests.bench.bench_stall [--blocks N] [--events N] [--bytes N]``.

Follows blocks that do not become final, starts again from the state topic, and lets all of them become final at once,
each in a process of its own with everything that the service imports, on a real Kafka. The node is made up as it is
asked. Prints time and peak RSS of each phase. Uses the services of the tests. Never a gate: it measures this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import structlog
from eth_abi import encode
from eth_hash.auto import keccak
from rich.console import Console
from rich.table import Table

from contracts.messages import Topics
from contracts.registry import load_registry
from deploy.runtime import telemetry
from indexer import app  # what the service has in memory is measured as well
from indexer.adapters.clock import SystemClock
from indexer.adapters.kafka_publisher import KafkaPublisher
from indexer.adapters.kafka_state import KafkaStateReader
from indexer.adapters.kafka_topics import KafkaTopics, plans
from indexer.core.assemble import Assembler, PlacedLog
from indexer.core.blocks import Header
from indexer.fetch import Fetcher
from indexer.observe import Observer
from indexer.pipeline import Limits, Pipeline
from indexer.ports import LogFilter
from indexer.session import ChainPlan, ContractStart
from indexer.settings import FollowSettings
from tests.fakes.chain_node import bloom_of
from tests.integration.indexer.rig import ASSETS, REGISTRY
from tests.services import Services

ADDRESS = "0x" + "11" * 20
NOTED = keccak(b"Paid(bytes32,uint256,uint64,string)")
PHASES = ("follow", "start again", "finalize")
MESSAGE_BYTES = 700  # of an event without its note
PARTITIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the made-up chain holds."""

    blocks: int
    events: int  # a block
    note_bytes: int


class MadeUpNode:
    """A NodePort that makes its answers as it is asked, so that it needs no memory."""

    name = "made up"
    count = 1

    def __init__(self, load: Load, *, finalized: int) -> None:
        self._load = load
        self._finalized = finalized
        self._data = encode(["uint256", "uint64", "string"], [5, 1, "n" * load.note_bytes])
        self._bloom = bloom_of([self._log(0, "0x" + "00" * 32, 0)]) if load.events else bytes(256)

    def _log(self, number: int, block_hash: str, index: int) -> PlacedLog:
        return PlacedLog(
            block_number=number,
            block_hash=block_hash,
            block_timestamp=1_700_000_000 + number,
            tx_hash="0x" + keccak(f"{number} {index}".encode()).hex(),
            tx_index=index,
            log_index=index,
            address=ADDRESS,
            topics=(NOTED, b"\x07" * 32),
            data=self._data,
        )

    def _hash(self, number: int) -> str:
        return f"0x{number:064x}"

    def _header(self, number: int) -> Header:
        return Header(
            number=number,
            hash=self._hash(number),
            parent_hash=self._hash(max(number - 1, 0)),
            timestamp=1_700_000_000 + number,
            logs_bloom=self._bloom,
        )

    def distrust(self) -> None:
        raise AssertionError("it never fails")

    async def hashes_at(self, number: int) -> list[str]:
        return [self._hash(number)]

    async def chain_id(self) -> int:
        return 31337

    async def genesis_hash(self) -> str:
        return self._hash(0)

    async def header_by_tag(self, tag: Literal["latest", "safe", "finalized"]) -> Header | None:
        return self._header(self._load.blocks if tag == "latest" else self._finalized)

    async def header_by_number(self, number: int) -> Header | None:
        return self._header(number)

    async def header_by_hash(self, block_hash: str) -> Header | None:
        return self._header(int(block_hash, 16))

    async def logs_of_block(self, header: Header, wanted: LogFilter) -> list[PlacedLog]:
        return [self._log(header.number, header.hash, i) for i in range(self._load.events)]

    async def logs_from_receipts(self, header: Header, wanted: LogFilter) -> list[PlacedLog]:
        raise AssertionError("not asked for")

    async def logs_of_range(self, from_block: int, to_block: int, wanted: LogFilter) -> list[PlacedLog]:
        raise AssertionError("not asked for")


class Reached(Exception):
    """The phase is over."""


class Looks:
    """The HeadsPort: looks again at once until the published chain is where the phase ends."""

    def __init__(self, observer: Observer, *, head: int, finalized: int) -> None:
        self._observer = observer
        self._goal = (head, finalized)

    async def wait(self, timeout_s: float) -> int | None:
        cursor = self._observer._cursor
        if cursor is not None and (cursor.head.number, cursor.finalized.number) >= self._goal:
            raise Reached
        return None


async def run_phase(phase: str, load: Load, *, bootstrap: str, prefix: str) -> None:
    """One life of an indexer; prints one JSON line."""
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )
    finalized = load.blocks if phase == "finalize" else 0
    topics = Topics(chain="local", prefix=prefix)
    with tempfile.TemporaryDirectory() as folder:
        registry_at = Path(folder)
        (registry_at / "assets.yaml").write_text(ASSETS)
        noted = REGISTRY.replace(
            "type: uint64, indexed: false}}",
            "type: uint64, indexed: false}}\n      - {{name: note, type: string, indexed: false}}",
        )
        (registry_at / "till.yaml").write_text(noted.format(address=ADDRESS, start_block=1))
        registry = load_registry([registry_at], chain_id=31337)
    own = FollowSettings()
    observer = Observer(
        telemetry.start(service="chainbooks-indexer", instance="bench", chain="local"), chain="local", head_lag_max_s=60
    )
    addresses, topic0s = registry.watched()
    pipeline = Pipeline(
        chain=ChainPlan(
            chain_id=31337,
            partitions=PARTITIONS,
            topics=topics,
            instance_id="bench",
            lease_ms=60_000,
            registry=registry.records(),
            starts=[ContractStart(contract="till", start_block=1)],
            unfinalized_bytes_max=own.unfinalized_bytes_max,
        ),
        limits=Limits(
            poll_s=1,
            range_blocks_max=own.range_blocks_max,
            kafka_tx_bytes_max=own.kafka_tx_bytes_max,
            window_blocks_max=max(own.window_blocks_max, load.blocks + 1),
            start_timeout_s=60,
            outage_max_s=60,
        ),
        fetcher=Fetcher(
            MadeUpNode(load, finalized=finalized),
            assembler=Assembler(chain_id=31337, dispatch=registry.dispatch, partition_of=app.partitioner(PARTITIONS)),
            addresses=addresses,
            topic0s=topic0s,
            finality="tags",
        ),
        state=KafkaStateReader(bootstrap_servers=bootstrap, timeout_s=60),
        publisher=lambda: KafkaPublisher(
            bootstrap_servers=bootstrap, transactional_id=f"{prefix}indexer-31337", topics=topics
        ),
        heads=Looks(observer, head=load.blocks, finalized=finalized),
        clock=SystemClock(),
        observer=observer,
    )
    base_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    try:
        await pipeline.run()
    except Reached:
        await pipeline.release()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": time.perf_counter() - began, "base_mb": base_mb, "peak_mb": peak_mb}))


def measure(load: Load, bootstrap: str) -> None:
    """Runs the phases one after the other and prints the table."""
    prefix = f"b{secrets.token_hex(6)}."
    topics = Topics(chain="local", prefix=prefix)
    admin = KafkaTopics(bootstrap_servers=bootstrap, replication_factor=1)
    asyncio.run(admin.ensure(plans(topics, partitions=PARTITIONS)))
    megabytes = load.blocks * load.events * (load.note_bytes + MESSAGE_BYTES) / 1e6
    table = Table(
        "phase",
        "time s",
        "before following MB",
        "peak RSS MB",
        title=f"finality stall: {load.blocks} blocks × {load.events} events, about {megabytes:.0f} MB of events",
    )
    for phase in PHASES:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.bench_stall", "--phase", phase, "--prefix", prefix,
             "--bootstrap", bootstrap, "--load", json.dumps(asdict(load))],
            check=True, capture_output=True, text=True, timeout=1_200,
        )  # fmt: skip
        measured = json.loads(done.stdout.splitlines()[-1])
        table.add_row(phase, *(f"{measured[k]:.1f}" for k in ("seconds", "base_mb", "peak_mb")))
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=1_000)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--bytes", type=int, default=1_000, help="of an event's message")
    for internal in ("--phase", "--prefix", "--bootstrap", "--load"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.phase:
        load = Load(**json.loads(given.load))
        asyncio.run(run_phase(given.phase, load, bootstrap=given.bootstrap, prefix=given.prefix))
        return
    services = Services()
    try:
        note = max(given.bytes - MESSAGE_BYTES, 0)
        measure(Load(blocks=given.blocks, events=given.events, note_bytes=note), services.kafka)
    finally:
        services.close()


if __name__ == "__main__":
    main()
