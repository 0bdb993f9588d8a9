"""The two services as their own processes, as a user starts them; watched, and always stopped by pid."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from deploy.demo.failure import DemoFailure
from deploy.local.daemon import Daemon
from deploy.local.paths import REPOSITORY
from deploy.local.ports import LOOPBACK

COMMAND_TIMEOUT_S: Final = 60.0
READY_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.1
STOP_GRACE_S: Final = 6.0


def isolate_environment() -> None:
    """Forgets the settings of services in our environment: they would win over the run's own settings file."""
    for name in list(os.environ):
        if name == "CHAINBOOKS_CONFIG" or (name.startswith("CHAINBOOKS_") and "__" in name):
            del os.environ[name]


async def command(module: str, *arguments: str, config: Path) -> str:
    """Runs ``python -m module arguments --config …`` to its end; what it printed. Raises DemoFailure."""
    code, out, err = await command_result(module, *arguments, config=config)
    if code != 0:
        shown = " ".join(("python -m", module, *arguments))
        raise DemoFailure(f"`{shown}` ended with {code}:\n{_last_lines(err or out)}", look=f"settings: {config}")
    return out


async def command_result(module: str, *arguments: str, config: Path) -> tuple[int, str, str]:
    """As ``command``, with exit code, standard output and standard error. Raises DemoFailure when it takes too long."""
    return await module_result(module, *arguments, "--config", str(config))


async def module_result(module: str, *arguments: str) -> tuple[int, str, str]:
    """Runs ``python -m module arguments`` to its end. Raises DemoFailure when it takes too long."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), COMMAND_TIMEOUT_S)
    except TimeoutError as exc:
        raise DemoFailure(f"`python -m {module} {arguments[0]}` takes longer than {COMMAND_TIMEOUT_S:.0f} s") from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(), err.decode()


@dataclass(slots=True, kw_only=True)
class Service:
    """``python -m <module> run`` in the background; its output is in ``<folder>/<module>.log``."""

    module: str
    folder: Path
    config: Path
    port: int  # of its health server
    daemon: Daemon = field(init=False)

    def __post_init__(self) -> None:
        self.daemon = Daemon(name=self.module, folder=self.folder, ephemeral=True)

    def start(self) -> None:
        self.daemon.log.unlink(missing_ok=True)
        self.daemon.start(
            [sys.executable, "-m", self.module, "run", "--config", self.config],
            cwd=REPOSITORY,
            env={"CHAINBOOKS_TELEMETRY__PORT": str(self.port), "NO_COLOR": "1"},
        )

    def require_alive(self) -> None:
        """Raises DemoFailure with the end of its log when the process has ended."""
        if self.daemon.pid() is None:
            raise DemoFailure(
                f"chainbooks-{self.module} has ended by itself:\n{self.daemon.tail()}", look=str(self.daemon.log)
            )

    async def await_ready(self, http: aiohttp.ClientSession) -> None:
        """Waits for /readyz to say so. Raises DemoFailure."""
        reason = "nothing listens yet"
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while True:
                    self.require_alive()
                    try:
                        async with http.get(f"http://{LOOPBACK}:{self.port}/readyz") as response:
                            if response.status == 200:
                                return
                            reason = (await response.text()).strip()
                    except aiohttp.ClientError:
                        pass  # its server is not up yet; the reason says so, and the timeout ends it
                    await asyncio.sleep(POLL_S)
        except TimeoutError as exc:
            raise DemoFailure(f"chainbooks-{self.module} is not ready: {reason}", look=str(self.daemon.log)) from exc

    def stop(self) -> None:
        self.daemon.stop(how=signal.SIGTERM, grace_s=STOP_GRACE_S)


def _last_lines(text: str, count: int = 12) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-count:])
