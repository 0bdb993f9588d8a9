"""Runs ``python -m deploy.local`` as a person does, with a ``.local`` folder and ports of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.paths import REPOSITORY, layout
from deploy.local.ports import free_ports

PORTS: Final = ("KAFKA_PORT", "KAFKA_CONTROLLER_PORT", "POSTGRES_PORT", "ANVIL_PORT")
COMMAND_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCommand:
    """One stack of a test: where it lives, and its environment."""

    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy.local", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def port(self, name: str) -> int:
        return int(self.environment[f"CHAINBOOKS_LOCAL_{name}"])


def local_command(folder: Path, **environment: str) -> LocalCommand:
    """A stack in ``folder``, which uses the jars and the node that ``make setup`` fetched; nothing is started."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kafka").mkdir()
    (folder / "kafka" / "libs").symlink_to(layout().kafka_jars)
    (folder / "node").symlink_to(layout().node_modules.parent)
    chosen = zip(PORTS, free_ports(len(PORTS)), strict=True)
    ports = {f"CHAINBOOKS_LOCAL_{name}": str(port) for name, port in chosen}
    return LocalCommand(folder=folder, environment={"CHAINBOOKS_LOCAL_DIR": str(folder), **ports, **environment})
