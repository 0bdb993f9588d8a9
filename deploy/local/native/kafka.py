"""Apache Kafka in KRaft mode: one node, broker and controller, from the jars of Maven Central. Loopback only."""

from __future__ import annotations

import asyncio
import base64
import logging
import shutil
import signal
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local import ports
from deploy.local.daemon import Daemon
from deploy.local.failure import LocalError
from deploy.local.paths import SOURCES

LOG_CONFIG: Final = SOURCES / "kafka" / "log4j2.xml"
FORMAT_TIMEOUT_S: Final = 60.0

PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
# topics are made on purpose, with their settings, or not at all
auto.create.topics.enable=false
# one node: internal topics cannot be replicated, and few partitions start faster
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# a broker that was killed comes back only when its old registration has run out
broker.session.timeout.ms={session_timeout_ms}
# a developer's machine, not a broker's
num.network.threads=2
num.io.threads=4
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    """``folder`` gets the data and the settings; ``jars`` is where ``make setup`` put the server."""

    daemon: Daemon
    folder: Path
    jars: Path
    port: int
    controller_port: int
    heap_mb: int = 512
    session_timeout_ms: int = 9_000  # Kafka's default

    @property
    def endpoint(self) -> str:
        return f"{ports.LOOPBACK}:{self.port}"

    @property
    def ports(self) -> dict[str, int]:
        return {
            "CHAINBOOKS_LOCAL_KAFKA_PORT": self.port,
            "CHAINBOOKS_LOCAL_KAFKA_CONTROLLER_PORT": self.controller_port,
        }

    def launch(self) -> None:
        """Formats the storage the first time, then starts the server. Raises LocalError."""
        if shutil.which("java") is None:
            raise LocalError("Kafka cannot start: there is no java", do="make setup")
        if not any(self.jars.glob("kafka_2*.jar")):
            raise LocalError("Kafka cannot start: its jars are not there", why=str(self.jars), do="make setup")
        data = self.folder / "data"
        self.folder.mkdir(parents=True, exist_ok=True)
        properties = self.folder / "server.properties"
        properties.write_text(
            PROPERTIES.format(
                port=self.port,
                controller_port=self.controller_port,
                data=data,
                session_timeout_ms=self.session_timeout_ms,
            ),
            encoding="utf-8",
        )
        if not (data / "meta.properties").exists():
            self._format(properties)
        heap = [f"-Xms{self.heap_mb // 2}m", f"-Xmx{self.heap_mb}m"]
        self.daemon.start([*self._java(*heap), "kafka.Kafka", properties], cwd=self.folder)

    def probe(self) -> str | None:
        if not ports.accepts(self.port):
            return f"port {self.port} does not accept connections"
        with ThreadPoolExecutor(max_workers=1) as thread:  # whoever asks may be within an event loop of its own
            return thread.submit(asyncio.run, _bootstrap(self.endpoint)).result()

    def stop(self) -> bool:
        # data of an ephemeral broker is thrown away: no need for an orderly end
        how = signal.SIGKILL if self.daemon.ephemeral else signal.SIGTERM
        return self.daemon.stop(how=how, grace_s=30.0)

    def _java(self, *options: str) -> list[str]:
        return [
            "java",
            *options,
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={LOG_CONFIG}",
            "-cp",
            f"{self.jars}/*",
        ]

    def _format(self, properties: Path) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [*self._java("-Xmx128m"), "kafka.tools.StorageTool", "format"]
        command += [f"--cluster-id={cluster_id}", "--config", str(properties), "--ignore-formatted"]
        try:
            done = subprocess.run(
                command, cwd=self.folder, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as exc:
            raise LocalError("Kafka's storage could not be formatted in time", why=" ".join(command)) from exc
        if done.returncode != 0:
            why = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
            raise LocalError(
                "Kafka's storage could not be formatted", why=why, do=f"remove {self.folder}, then try again"
            )


async def _bootstrap(endpoint: str) -> str | None:
    """None when a client can bootstrap and sees the broker; otherwise why not."""
    from aiokafka.client import AIOKafkaClient  # costs a third of a second: only when there is something to ask
    from aiokafka.errors import KafkaError

    quiet = logging.getLogger("aiokafka")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)  # failing while the broker starts is expected
    client = AIOKafkaClient(bootstrap_servers=endpoint, request_timeout_ms=3000)
    try:
        await asyncio.wait_for(client.bootstrap(), timeout=5.0)
        return None if client.cluster.brokers() else "no broker has registered yet"
    except (KafkaError, OSError, TimeoutError) as exc:
        return f"no client can connect yet ({type(exc).__name__})"
    finally:
        await client.close()
        quiet.setLevel(level)
