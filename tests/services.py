"""The real services that the tests run against: Kafka, PostgreSQL, anvil. Started when first asked for, stopped at
the end.

Each of the first two comes from, in this order: the environment (CHAINBOOKS_TEST_KAFKA, CHAINBOOKS_TEST_POSTGRES);
testcontainers, when a Docker engine answers and has or can pull the images; the native parts of ``deploy.local`` on
free ports, with their data in a temporary folder. anvil is always a process of its own, one a test, from
CHAINBOOKS_TEST_ANVIL or from what ``make setup`` installed. The run prints which it used; nothing is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from deploy.local import engine, ports
from deploy.local.daemon import Daemon
from deploy.local.native import anvil as native_anvil
from deploy.local.native import server
from deploy.local.native.kafka import Kafka
from deploy.local.native.postgres import Postgres
from deploy.local.paths import layout

KAFKA_VARIABLE: Final = "CHAINBOOKS_TEST_KAFKA"
POSTGRES_VARIABLE: Final = "CHAINBOOKS_TEST_POSTGRES"
ANVIL_VARIABLE: Final = "CHAINBOOKS_TEST_ANVIL"
KAFKA_IMAGE: Final = os.environ.get("CHAINBOOKS_TEST_KAFKA_IMAGE", "confluentinc/cp-kafka:8.0.0")
POSTGRES_IMAGE: Final = os.environ.get("CHAINBOOKS_TEST_POSTGRES_IMAGE", "postgres:18")
READY_TIMEOUT_S: Final = 90.0
ANVIL_READY_TIMEOUT_S: Final = 20.0


class Services:
    """What a test session uses. Properties start a service when they are first read."""

    def __init__(self) -> None:
        self._closing = contextlib.ExitStack()
        self.used: dict[str, str] = {}

    def plan(self) -> str:
        """Where the services would come from, without starting or pulling anything: for the head of the run."""
        named = [variable for variable in (KAFKA_VARIABLE, POSTGRES_VARIABLE) if os.environ.get(variable)]
        from_environment = f"from the environment ({', '.join(named)})"
        others = "from testcontainers if the images can be had, else native"
        if self._no_engine:
            others = f"native ({self._no_engine})"
        if len(named) == 2:
            return from_environment
        return f"{from_environment}, others {others}" if named else others

    @cached_property
    def kafka(self) -> str:
        """Bootstrap servers."""
        named = os.environ.get(KAFKA_VARIABLE)
        if named:
            self.used["Kafka"] = f"{named} ({KAFKA_VARIABLE})"
            return named
        reason = self._no_engine or engine.why_no_images([KAFKA_IMAGE])
        if reason is None:
            endpoint = self._closing.enter_context(kafka_container(KAFKA_IMAGE))
            self.used["Kafka"] = f"{endpoint} (testcontainers, {KAFKA_IMAGE})"
            return endpoint
        port, controller_port = ports.free_ports(2)
        broker = Kafka(
            daemon=Daemon(name="kafka", folder=self._folder / "run", ephemeral=True),
            folder=self._folder / "kafka",
            jars=layout().kafka_jars,
            port=port,
            controller_port=controller_port,
        )
        self._start(broker)
        self.used["Kafka"] = f"{broker.endpoint} (native: {reason})"
        return broker.endpoint

    @cached_property
    def postgres(self) -> str:
        """The superuser's DSN of database ``postgres``."""
        named = os.environ.get(POSTGRES_VARIABLE)
        if named:
            self.used["PostgreSQL"] = f"from {POSTGRES_VARIABLE}"
            return named
        reason = self._no_engine or engine.why_no_images([POSTGRES_IMAGE])
        if reason is None:
            url = self._closing.enter_context(postgres_container(POSTGRES_IMAGE))
            self.used["PostgreSQL"] = f"testcontainers, {POSTGRES_IMAGE}"
            return url
        database = Postgres(
            daemon=Daemon(name="postgres", folder=self._folder / "run", ephemeral=True),
            home=self._folder / "postgres",
            port=ports.free_ports(1)[0],
            password=secrets.token_hex(8),
            durable=False,
        )
        self._closing.callback(lambda: shutil.rmtree((self._folder / "postgres").resolve(), ignore_errors=True))
        self._start(database)
        self.used["PostgreSQL"] = f"{database.endpoint} (native: {reason})"
        return database.admin_url

    @cached_property
    def anvil_binary(self) -> Path:
        """anvil's native binary, not npm's script that starts it as a child."""
        named = os.environ.get(ANVIL_VARIABLE)
        binary = native_anvil.native_binary(Path(named)) if named else native_anvil.find_binary(layout().node_modules)
        self.used["anvil"] = f"{binary}{f' ({ANVIL_VARIABLE})' if named else ''}"
        return binary

    def close(self) -> None:
        """Stops what this session started and removes its data."""
        self._closing.close()

    @cached_property
    def _no_engine(self) -> str | None:
        return engine.why_no_engine()

    @cached_property
    def _folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="chainbooks-tests-"))
        folder.chmod(0o711)  # PostgreSQL may have to run as another user, who must get through
        self._closing.callback(lambda: shutil.rmtree(folder, ignore_errors=True))
        return folder

    def _start(self, part: server.Server) -> None:
        self._closing.callback(part.stop)
        server.start([part], timeout_s=READY_TIMEOUT_S)


@contextlib.contextmanager
def kafka_container(image: str) -> Iterator[str]:
    """Bootstrap servers of a broker in a container, while the context lasts."""
    _without_reaper_unless_present()
    from testcontainers.community.kafka import KafkaContainer

    container = KafkaContainer(image).with_kraft()
    for name in ("TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "TRANSACTION_STATE_LOG_MIN_ISR"):
        container.with_env(f"KAFKA_{name}", "1")  # else the first transaction waits for ever
    container.with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
    with container as running:
        yield running.get_bootstrap_server()


@contextlib.contextmanager
def postgres_container(image: str) -> Iterator[str]:
    """The superuser's DSN of a PostgreSQL in a container, while the context lasts."""
    _without_reaper_unless_present()
    from testcontainers.community.postgres import PostgresContainer

    user = "postgres"
    container = PostgresContainer(image, username=user, password=user, dbname=user, driver=None)
    container.with_env("POSTGRES_HOST_AUTH_METHOD", "trust")
    container.with_command("postgres -c max_connections=200 -c fsync=off")
    with container as running:
        yield running.get_connection_url()


def _without_reaper_unless_present() -> None:
    """testcontainers' own cleaner is one more image: without it we stop the containers ourselves, as always."""
    from testcontainers.core.config import testcontainers_config

    if not engine.has_image(testcontainers_config.ryuk_image):
        testcontainers_config.ryuk_disabled = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Anvil:
    """One node of one test."""

    http_url: str
    ws_url: str
    pid: int  # of anvil itself: it may be paused and killed
    port: int
    process: Daemon

    def stop(self) -> None:
        """Kills the node at once; another one may be started on its port (``port=``)."""
        self.process.stop(how=signal.SIGKILL)


@dataclass(slots=True, kw_only=True)
class AnvilFactory:
    """``await anvil(slots_in_an_epoch=32, block_time=None, **extra)`` starts a node; all are stopped after the test.

    ``extra`` becomes command-line options: ``chain_id=1`` is ``--chain-id 1``, ``no_mining=True`` is ``--no-mining``.
    """

    binary: Path
    folder: Path
    started: list[Daemon] = field(default_factory=list)

    async def __call__(
        self, *, slots_in_an_epoch: int = 32, block_time: float | None = None, **extra: str | int | bool
    ) -> Anvil:
        chain_id = int(extra.pop("chain_id", 31337))
        wanted_port = int(extra.pop("port", 0))
        options = ["--silent", "--slots-in-an-epoch", str(slots_in_an_epoch)]
        if block_time is not None:
            options += ["--block-time", str(block_time)]
        for name, value in extra.items():
            flag = f"--{name.replace('_', '-')}"
            options += [flag] if value is True else [flag, str(value)]
        for attempt in range(3):  # between finding a free port and using it, somebody else may take it
            port = wanted_port or ports.free_ports(1)[0]
            daemon = Daemon(name=f"anvil-{len(self.started)}", folder=self.folder, ephemeral=True)
            node = native_anvil.Anvil(
                daemon=daemon, binary=self.binary, port=port, options=tuple(options), chain_id=chain_id
            )
            node.launch()
            self.started.append(daemon)
            reason = await _ready(node)
            if reason is None and (pid := daemon.pid()) is not None:
                url = f"{ports.LOOPBACK}:{port}"
                return Anvil(http_url=f"http://{url}", ws_url=f"ws://{url}", pid=pid, port=port, process=daemon)
            if attempt == 2 or wanted_port:
                break
        raise RuntimeError(f"anvil did not start: {reason}\n{daemon.tail()}")

    def stop_all(self) -> None:
        for daemon in self.started:
            daemon.stop(how=signal.SIGKILL)


async def _ready(node: native_anvil.Anvil) -> str | None:
    """None once the node answers; the last reason when its process has ended or the time is over."""
    deadline = time.monotonic() + ANVIL_READY_TIMEOUT_S
    while (reason := await asyncio.to_thread(node.probe)) is not None:
        if node.daemon.pid() is None or time.monotonic() > deadline:
            return reason
        await asyncio.sleep(0.02)
    return None
