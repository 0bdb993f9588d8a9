"""One run from beginning to end: a stack of its own, load and blows, settling, the verdict, the report."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from deploy.demo import stage as staging
from deploy.demo.beside import beside
from deploy.demo.chain import OPTIONS, Chain
from deploy.demo.processes import command
from deploy.demo.stage import Services, Stage
from deploy.local.daemon import Daemon
from deploy.local.native import server
from deploy.local.native.anvil import Anvil
from deploy.local.native.kafka import Kafka
from deploy.local.native.postgres import Postgres
from deploy.local.paths import layout
from deploy.local.ports import LOOPBACK, free_ports
from tests.e2e.chaos.load import FINALITY_BLOCKS, Load
from tests.e2e.chaos.parts import PROBE_TIMEOUT_S, kafka_part, postgres_part, service_part
from tests.e2e.chaos.plan import ROUND, Blow, blows, service_settings
from tests.e2e.chaos.report import Report
from tests.e2e.chaos.settle import settled
from tests.e2e.chaos.supervisor import Supervisor
from tests.e2e.chaos.verdict import judge

EVENTS_PER_S_MIN: Final = 50.0
ANVIL_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the caller wants."""

    seed: int
    seconds: float  # of load
    folder: Path  # for data and logs; another system user must get through
    anvil: Path  # the binary


class Ordeal:
    """One run; ``perform`` it once."""

    def __init__(self, options: Options) -> None:
        node, kafka, controller, postgres, indexer, ledger = free_ports(6)
        self._options = options
        self._logs = options.folder / "logs"
        never = Daemon(name="never-started", folder=self._logs)
        self._anvil = Anvil(
            daemon=Daemon(name="anvil", folder=self._logs, ephemeral=True),
            binary=options.anvil,
            port=node,
            options=OPTIONS,
        )
        self._kafka = Kafka(
            daemon=never,
            folder=options.folder / "kafka",
            jars=layout().kafka_jars,
            port=kafka,
            controller_port=controller,
            session_timeout_ms=4_000,  # else each of its recoveries takes nine seconds of waiting
        )
        self._postgres = Postgres(
            daemon=never,
            home=options.folder / "postgres",
            port=postgres,
            password=secrets.token_hex(8),
            durable=True,
        )
        self._stage = Stage(
            services=Services(
                kafka=self._kafka.endpoint, postgres=self._postgres.admin_url, anvil=options.anvil, from_stack=False
            ),
            name="chaos",
            folder=options.folder,
            topic_prefix="chaos.",
            node_url=f"http://{LOOPBACK}:{node}",
            indexer_port=indexer,
            ledger_port=ledger,
        )
        self._reorgs_while_down = 0

    async def perform(self) -> Report:
        """Raises DemoFailure when something that has to work does not; differences are in the report's verdict."""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)) as http,
            self._node() as chain,
            self._parts(http) as supervisor,
        ):
            load = Load(chain, self._options.seed)
            async with beside(supervisor.watch()):
                await self._prepare(load, supervisor)
                await supervisor.until_all_ready()
                await self._under_fire(load, supervisor)
                last = chain.head.number
                await load.make_final()
                settled_after_s = await settled(self._stage, head=chain.head.number, final=last)
                verdict = await judge(self._stage, head=chain.head.number, final=chain.head.number - FINALITY_BLOCKS)
            stopped_with = await supervisor.stop_services()
            return Report(
                seed=self._options.seed,
                seconds=load.seconds,
                events_per_s=verdict.standing / load.seconds,
                calls_failed=chain.failed,
                reorgs=load.reorgs,
                reorgs_while_down=self._reorgs_while_down,
                recoveries=supervisor.recoveries,
                ended=supervisor.ended,
                stopped_with=stopped_with,
                traces=supervisor.traces(),
                settled_after_s=settled_after_s,
                verdict=verdict,
            )

    def forget(self) -> None:
        """Removes the data; the logs stay."""
        for data in (self._options.folder / "kafka", (self._options.folder / "postgres").resolve()):
            shutil.rmtree(data, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def _node(self) -> AsyncIterator[Chain]:
        self._anvil.launch()
        try:
            await asyncio.to_thread(server.await_ready, self._anvil, deadline=time.monotonic() + ANVIL_TIMEOUT_S)
            async with Chain(self._stage.node_url, calls_may_fail=True) as chain:
                yield chain
        finally:
            self._anvil.stop()

    @contextlib.asynccontextmanager
    async def _parts(self, http: aiohttp.ClientSession) -> AsyncIterator[Supervisor]:
        """Whatever was started is stopped; a failure gets the ends of the logs."""
        stage, settings = self._stage, service_settings(self._options.seed)
        ports = {"indexer": stage.indexer_port, "ledger": stage.ledger_port}
        services = [
            service_part(name, config=stage.config, port=port, settings=settings, http=http)
            for name, port in ports.items()
        ]
        supervisor = Supervisor([kafka_part(self._kafka), postgres_part(self._postgres), *services], folder=self._logs)
        try:
            yield supervisor
        except Exception as exc:
            exc.add_note(supervisor.tails())
            raise
        finally:
            await supervisor.stop_all()

    async def _prepare(self, load: Load, supervisor: Supervisor) -> None:
        """Servers first, then chain, topics and tables, then the services."""
        for name in ("kafka", "postgres"):
            supervisor.start(name)
        await load.set_up()
        await supervisor.until_ready(("kafka", "postgres"))
        staging.write_deployment(self._stage, load.chain.addresses)
        staging.write_settings(self._stage)
        await staging.make_database(self._stage)
        await asyncio.gather(
            command("indexer", "topics", "ensure", config=self._stage.config),
            command("ledger", "migrate", config=self._stage.config),
        )
        for name in ("indexer", "ledger"):
            supervisor.start(name)

    async def _under_fire(self, load: Load, supervisor: Supervisor) -> None:
        """Load and blows side by side; both go on until the time is over and a round is complete."""
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run())
            try:
                began = time.monotonic()
                for number, blow in enumerate(blows(self._options.seed)):
                    if time.monotonic() - began > self._options.seconds and number >= len(ROUND):
                        break
                    await asyncio.sleep(blow.pause_s)
                    await self._strike(blow, load, supervisor)
            finally:
                load.stop()

    async def _strike(self, blow: Blow, load: Load, supervisor: Supervisor) -> None:
        await load.next_block()
        await asyncio.sleep(blow.aim_s)
        for part in blow.parts:
            await supervisor.kill(part)
        if blow.reorg_depth:
            load.ask_for_reorg(blow.reorg_depth)
            self._reorgs_while_down += 1
        await asyncio.sleep(blow.down_s)
        for part in blow.parts:
            supervisor.start(part)
        if blow.again_after_s is not None:
            await asyncio.sleep(blow.again_after_s)
            await supervisor.kill(blow.parts[0])
            supervisor.start(blow.parts[0])
        await supervisor.until_all_ready()
