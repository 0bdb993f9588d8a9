"""One run from beginning to end: chain, processes, business, finality, comparing, cleaning up."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from deploy.demo import stage as staging
from deploy.demo.actors import ASSETS, KINDS, VAULT
from deploy.demo.beside import beside
from deploy.demo.books import read_books
from deploy.demo.business import DEPLOYED_IN_BLOCK, make_plan
from deploy.demo.chain import OPTIONS, Chain, DoneReorg
from deploy.demo.failure import DemoFailure
from deploy.demo.latency import pair, summarise
from deploy.demo.outcome import Outcome, SilentWithdrawal, Verdict
from deploy.demo.performance import Performance
from deploy.demo.plan import Plan, Ref
from deploy.demo.processes import Service, command, command_result, module_result
from deploy.demo.sight import Sight
from deploy.demo.stage import Services, Stage
from deploy.demo.tap import Tap
from deploy.demo.view import Progress, View
from deploy.local.daemon import Daemon
from deploy.local.native import server
from deploy.local.native.anvil import Anvil
from deploy.local.ports import LOOPBACK, free_ports
from deploy.runtime import exit_codes

ANVIL_TIMEOUT_S: Final = 20.0
BOOKED_TIMEOUT_S: Final = 30.0
WATCH_PERIOD_S: Final = 0.3
POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the caller wants."""

    seed: int
    name: str
    folder: Path
    block_period_s: float


class Run:
    """One run; ``perform`` it once."""

    def __init__(self, options: Options, services: Services, view: View, progress: Progress) -> None:
        node_port, indexer_port, ledger_port = free_ports(3)
        self._options = options
        self._view = view
        self._progress = progress
        self._plan: Plan = make_plan(options.seed)
        self._stage = Stage(
            services=services,
            name=options.name,
            folder=options.folder,
            topic_prefix=staging.new_prefix(options.name),
            node_url=f"http://{LOOPBACK}:{node_port}",
            indexer_port=indexer_port,
            ledger_port=ledger_port,
        )
        stage = self._stage
        self._anvil = Anvil(
            daemon=Daemon(name="anvil", folder=stage.folder, ephemeral=True),
            binary=services.anvil,
            port=node_port,
            options=OPTIONS,
        )
        self._indexer = Service(module="indexer", folder=stage.folder, config=stage.config, port=indexer_port)
        self._ledger = Service(module="ledger", folder=stage.folder, config=stage.config, port=ledger_port)
        self._tables_made = asyncio.Event()
        self._started_services = asyncio.Event()
        self._tap = Tap(bootstrap_servers=services.kafka, topic=stage.topics.events, partitions=staging.PARTITIONS)
        self._sight = Sight(stage.reader_dsn)
        progress.heard = self._tap.heard
        progress.seen = self._sight.seen

    async def perform(self) -> Outcome:
        """Raises DemoFailure when something that has to work does not; differences are for the judge."""
        self._options.folder.mkdir(parents=True, exist_ok=True)
        chain = Chain(self._stage.node_url)
        performance = Performance(self._plan, chain, self._progress, block_period_s=self._options.block_period_s)
        async with chain, self._processes():
            await self._prepare(chain, performance)
            first = chain.head.number + 1
            async with beside(self._listen(), self._look(), self._guard()):
                await self._start()
                reorg = await performance.do_business(self._view, self._booked)
                with self._view.phase("finality") as phase:
                    last = await performance.settle()
                    await self._final(last)
                    await self._booked(chain.head.number)
                    phase.note = f"all {last} blocks with business are final in the ledger"
                return await self._compare(chain, reorg, blocks=range(first, last + 1))

    @contextlib.asynccontextmanager
    async def _processes(self) -> AsyncIterator[None]:
        """Whatever was started is stopped, services first, all by pid; before it, what a killed run left."""
        with (self._options.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                raise DemoFailure(f"another run named {self._options.name!r} is going on", look="--name") from exc
            await self._stop()
            try:
                yield
            finally:
                await self._stop()

    async def _stop(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(each.stop) for each in (self._indexer, self._ledger)))
        self._anvil.stop()

    async def _prepare(self, chain: Chain, performance: Performance) -> None:
        with self._view.phase("chain and contracts") as phase:
            self._anvil.launch()
            deadline = time.monotonic() + ANVIL_TIMEOUT_S
            await asyncio.gather(
                staging.make_database(self._stage),
                staging.remove_topics(self._stage.services.kafka, self._stage.name),
                asyncio.to_thread(server.await_ready, self._anvil, deadline=deadline),
            )
            await performance.set_up()
            staging.write_deployment(self._stage, chain.addresses)
            staging.write_settings(self._stage)
            staging.write_psql(self._stage)
            phase.note = f"4 contracts, {len(KINDS)} accounts, blocks {DEPLOYED_IN_BLOCK} to {chain.head.number}"

    async def _start(self) -> None:
        """Topics and tables, then both services and their observers."""
        with self._view.phase("indexer and ledger start"):
            await asyncio.gather(
                command("indexer", "topics", "ensure", config=self._stage.config),
                command("ledger", "migrate", config=self._stage.config),
            )
            self._tables_made.set()
            self._indexer.start()
            self._ledger.start()
            async with aiohttp.ClientSession() as http:
                await asyncio.gather(self._indexer.await_ready(http), self._ledger.await_ready(http))
            self._started_services.set()

    async def _listen(self) -> None:
        await self._tables_made.wait()
        await self._tap.run()

    async def _look(self) -> None:
        await self._tables_made.wait()
        await self._sight.run()

    async def _guard(self) -> None:
        await self._started_services.wait()
        while True:
            self._indexer.require_alive()
            self._ledger.require_alive()
            await asyncio.sleep(WATCH_PERIOD_S)

    async def _booked(self, block: int) -> None:
        """Until every partition of the ledger shows the block."""
        await self._until(f"block {block} in the ledger", lambda: self._sight.seen.through >= block)

    async def _final(self, block: int) -> None:
        """Until the ledger's final cut, and what we heard, contain the block."""
        await self._until(
            f"block {block} final in the ledger",
            lambda: self._sight.seen.final >= block and self._tap.heard.finalized >= block,
        )

    async def _until(self, what: str, holds: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(BOOKED_TIMEOUT_S):
                while not holds():  # noqa: ASYNC110 - two observers write what is waited for
                    await asyncio.sleep(POLL_S)
        except TimeoutError as exc:
            raise DemoFailure(
                f"not within {BOOKED_TIMEOUT_S:.0f} s: {what} ({self._progress.status()})",
                look=f"{self._indexer.daemon.log} and {self._ledger.daemon.log}",
            ) from exc

    async def _compare(self, chain: Chain, reorg: DoneReorg, *, blocks: range) -> Outcome:
        with self._view.phase("reconciliation and independent check"):
            reconciled, checked = await asyncio.gather(self._reconcile(), self._check())
            books = await read_books(self._stage.reader_dsn)
        partition = self._tap.heard.partition_of.get("gateway", 0)
        samples = pair(self._tap.heard.received_ms, self._sight.seen.visible_ms.get(partition, {}), blocks=blocks)
        return Outcome(
            plan=self._plan,
            stage=self._stage,
            heard=self._tap.heard,
            reorg=reorg,
            silent=self._silent(chain),
            books=books,
            reconciled=reconciled,
            checked=checked,
            latency=summarise(samples),
            calls=self._progress.calls,
            head=chain.head.number,
            head_hash=chain.head.hash,
            final=self._sight.seen.final,
            elapsed_s=self._progress.elapsed_s,
            phases=self._progress.durations(),
        )

    async def _reconcile(self) -> Verdict:
        code, out, err = await command_result("ledger", "reconcile", "--json", config=self._stage.config)
        return _verdict("chainbooks-ledger reconcile", code, out, err)

    async def _check(self) -> Verdict:
        arguments = ("--rpc", self._stage.node_url, "--dsn", self._stage.reader_dsn)
        code, out, err = await module_result(
            "deploy.demo.check", *arguments, "--deployment", str(self._stage.deployment)
        )
        return _verdict("deploy.demo.check", code, out, err)

    def _silent(self, chain: Chain) -> SilentWithdrawal:
        call = self._plan.silent
        asset_ref, _, amount = call.args
        assert isinstance(asset_ref, Ref)
        asset = next(asset for asset in ASSETS if asset.symbol == asset_ref.name)
        return SilentWithdrawal(
            block=chain.block_of(call),
            book=VAULT,
            asset=asset.symbol,
            decimals=asset.decimals,
            amount=amount,
            owner=chain.addresses[call.sender],
        )


def _verdict(what: str, code: int, out: str, err: str) -> Verdict:
    if code not in (exit_codes.OK, exit_codes.DIFFERENCE):
        raise DemoFailure(f"{what} ended with {code}: {(err or out).strip()[-1000:]}")
    try:
        return Verdict(exit_code=code, document=json.loads(out))
    except ValueError as exc:
        raise DemoFailure(f"{what} printed no JSON: {(err or out).strip()[-500:]}") from exc
