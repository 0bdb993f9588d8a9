"""One npm package by itself, without what it depends on: packed by npm, checked against a pinned hash, unpacked.

For a package whose sources we read and whose dependencies cannot be installed: ``npm ci`` would need all of them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deploy.local.failure import LocalError

Run = Callable[[list[str | Path], Path], None]
"""Runs a command in a folder; raises LocalError when it fails for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Which package, exactly."""

    package: str
    version: str
    integrity: str  # as npm writes it: sha512- and base64

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_bytes()))


def fetch(pin: Pin, destination: Path, run: Run) -> None:
    """The package's files as ``destination/<package>/…``, whole or not at all. Raises LocalError."""
    partial = destination.with_name(destination.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    run(["npm", "pack", f"{pin.package}@{pin.version}", "--ignore-scripts", "--pack-destination", partial], partial)
    archives = list(partial.glob("*.tgz"))
    if len(archives) != 1:
        raise LocalError(
            f"npm packed {len(archives)} archives of {pin.package}", why="one is expected", do="make setup"
        )
    (archive,) = archives
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != pin.integrity:
        raise LocalError(
            f"{pin.package} {pin.version} is not what is pinned",
            why=f"its hash is sha512-{digest}, {pin.integrity} is expected",
            do="find out who changed it; do not use it",
        )
    with tarfile.open(archive) as packed:
        packed.extractall(partial, filter="data")
    archive.unlink()
    place = partial / "files" / pin.package
    place.parent.mkdir(parents=True)
    (partial / "package").rename(place)
    shutil.rmtree(destination, ignore_errors=True)
    (partial / "files").rename(destination)
    shutil.rmtree(partial)
