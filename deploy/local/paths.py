"""Where the local stack keeps its things. Everything is below one folder that ``make clean`` removes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = Path(__file__).resolve().parent
LOCAL_VARIABLE: Final = "CHAINBOOKS_LOCAL_DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The folders and files below ``.local/``."""

    root: Path

    @property
    def kafka_jars(self) -> Path:
        return self.root / "kafka" / "libs"

    @property
    def node_modules(self) -> Path:
        return self.root / "node" / "node_modules"

    @property
    def chainlink_sources(self) -> Path:
        """Chainlink's npm package, as ``@chainlink/contracts`` below this."""
        return self.root / "node" / "chainlink"

    @property
    def run(self) -> Path:
        """Pid files and logs of ``make up``."""
        return self.root / "run"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def stamps(self) -> Path:
        return self.root / "stamps"

    @property
    def config(self) -> Path:
        return self.root / "chainbooks.toml"

    @property
    def env(self) -> Path:
        return self.root / "env"

    @property
    def state(self) -> Path:
        """How the running stack was started: native or docker, ports, passwords."""
        return self.root / "stack.json"


def layout() -> Layout:
    """``.local/`` of this clone, or where CHAINBOOKS_LOCAL_DIR says."""
    return Layout(root=Path(os.environ.get(LOCAL_VARIABLE) or REPOSITORY / ".local").resolve())
