"""``chainbooks-ledger`` as a process of its own, with settings from the environment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from deploy.local import ports
from tests.integration.ledger.database import Database
from tests.unit.ledger.story import CHAIN, CHAIN_ID

DEADLINE_S = 30.0


@dataclass(slots=True)
class Service:
    """Commands and running processes of one chain's ledger."""

    database: Database
    kafka: str
    prefix: str
    folder: Path
    partitions: int = 1
    deadline_s: float = DEADLINE_S
    rpc: str = "http://127.0.0.1:1"
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    ports: dict[int, int] = field(default_factory=dict)

    def environment(self, **settings: str) -> dict[str, str]:
        values = {
            "CHAIN__NAME": CHAIN,
            "CHAIN__ID": str(CHAIN_ID),
            "CHAIN__RPC_HTTP": self.rpc,
            "KAFKA__BOOTSTRAP_SERVERS": self.kafka,
            "KAFKA__TOPIC_PREFIX": self.prefix,
            "KAFKA__PARTITIONS": str(self.partitions),
            "POSTGRES__DSN": self.database.writer,
            "POSTGRES__OWNER_DSN": self.database.admin,
            "POSTGRES__READER_DSN": self.database.reader,
            **settings,
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CHAINBOOKS_")}
        return clean | {f"CHAINBOOKS_{name}": value for name, value in values.items()}

    async def command(self, *arguments: str, **settings: str) -> tuple[int, str, str]:
        """Runs a command to its end: exit code, output, errors."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ledger",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment(**settings),
        )
        out, err = await asyncio.wait_for(process.communicate(), self.deadline_s)
        return process.returncode or 0, out.decode(), err.decode()

    async def start(self, **settings: str) -> asyncio.subprocess.Process:
        """Starts ``run``; its log goes to ledger-<n>.log."""
        port = ports.free_ports(1)[0]
        with (self.folder / f"ledger-{len(self.processes)}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "ledger",
                "run",
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env=self.environment(TELEMETRY__PORT=str(port), **settings),
            )
        self.processes.append(process)
        self.ports[len(self.processes) - 1] = port
        return process

    def log(self, number: int = -1) -> str:
        return sorted(self.folder.glob("ledger-*.log"))[number].read_text()

    async def stop(self, process: asyncio.subprocess.Process, how: int = signal.SIGTERM) -> int:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(how)
        return await asyncio.wait_for(process.wait(), 10)

    async def stop_all(self) -> None:
        for process in self.processes:
            await self.stop(process, signal.SIGKILL)

    async def ready(self, number: int = 0) -> tuple[int, dict[str, Any]]:
        """Status code and body of /readyz; (0, {}) when nobody answers."""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.ports[number]}/readyz") as answer,
            ):
                return answer.status, await answer.json()
        except (aiohttp.ClientError, OSError, json.JSONDecodeError):
            return 0, {}

    async def metrics(self, number: int = 0) -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.ports[number]}/metrics") as answer,
        ):
            return await answer.text()

    async def until(self, what: str, holds: Any) -> Any:
        """Looks until ``await holds()`` gives something true; fails with the service's log."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not (found := await holds()):  # noqa: ASYNC110 - it is another process that is waited for
                    await asyncio.sleep(0.02)  # between two looks at another process
                return found
        except TimeoutError:
            raise AssertionError(f"never: {what}\n{self.log() if self.processes else ''}") from None
