"""What can be killed: both services as a user starts them, and the native Kafka and PostgreSQL, durable.

Each start gets a log of its own, so that nothing that a killed process said is lost.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from deploy.local.daemon import Daemon
from deploy.local.native.kafka import Kafka
from deploy.local.native.postgres import Postgres
from deploy.local.paths import REPOSITORY
from deploy.local.ports import LOOPBACK
from deploy.runtime import exit_codes

PROBE_TIMEOUT_S: Final = 5.0
STILL_THERE: Final = ("pre-existing shared memory block", "is another postmaster")
"""PostgreSQL's words when backends of the killed one have not ended yet: a supervisor starts it again."""

Restartable = Callable[[int, str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """``launch`` starts it under a daemon of the given name; ``probe`` says why it is not ready, or None.

    ``restartable(exit code, end of the log)``: whether a supervisor starts it again after it ended by itself.
    """

    name: str
    launch: Callable[[Daemon], None]
    probe: Callable[[], Awaitable[str | None]]
    restartable: Restartable


def kafka_part(kafka: Kafka) -> Part:
    return Part(
        name="kafka",
        launch=lambda daemon: dataclasses.replace(kafka, daemon=daemon).launch(),
        probe=lambda: asyncio.to_thread(kafka.probe),
        restartable=lambda code, tail: False,
    )


def postgres_part(postgres: Postgres) -> Part:
    return Part(
        name="postgres",
        launch=lambda daemon: dataclasses.replace(postgres, daemon=daemon).launch(),
        probe=lambda: asyncio.to_thread(postgres.probe),
        restartable=lambda code, tail: any(words in tail for words in STILL_THERE),
    )


def service_part(name: str, *, config: Path, port: int, settings: dict[str, str], http: aiohttp.ClientSession) -> Part:
    """``chainbooks-<name> run``. Exit code 3 says that a dependency stayed away: whoever supervises starts it again."""
    command = Path(sys.executable).with_name(f"chainbooks-{name}")
    environment = {**settings, "CHAINBOOKS_TELEMETRY__PORT": str(port), "NO_COLOR": "1"}

    async def probe() -> str | None:
        try:
            async with http.get(f"http://{LOOPBACK}:{port}/readyz") as response:
                return None if response.status == 200 else (await response.text()).strip()
        except (aiohttp.ClientError, TimeoutError) as exc:
            return f"no answer ({type(exc).__name__})"

    return Part(
        name=name,
        launch=lambda daemon: daemon.start([command, "run", "--config", config], cwd=REPOSITORY, env=environment),
        probe=probe,
        restartable=lambda code, tail: code == exit_codes.DEPENDENCY,
    )
