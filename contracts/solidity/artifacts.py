"""Loads what our contracts compiled to: ABI and creation bytecode, for those who deploy or call them.

Reads committed files only; never compiles (see `build.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "artifacts"


class ArtifactUnknown(LookupError):
    """There is no contract of this name; the text lists those that there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One deployable contract."""

    name: str
    abi: list[dict[str, Any]]  # JSON ABI as solc gives it
    bytecode: str  # creation code, 0x hex; append the ABI-encoded constructor arguments to deploy


def names() -> tuple[str, ...]:
    """All contracts that can be loaded, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def load(name: str) -> Artifact:
    """The artifact of contract ``name``. Raises ArtifactUnknown."""
    if name not in names():
        raise ArtifactUnknown(
            f"no artifact {name!r} in {FOLDER}; there are {', '.join(names())}; `make contracts` writes them"
        )
    document = json.loads((FOLDER / f"{name}.json").read_bytes())
    return Artifact(name=name, abi=document["abi"], bytecode=document["bytecode"])
