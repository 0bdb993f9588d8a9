"""Whose account a part runs under. PostgreSQL refuses to run as root, so root hands it to a system user."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.local.failure import LocalError

CANDIDATES: Final = ("postgres", "nobody")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A system user, by name and ids."""

    name: str
    uid: int
    gid: int

    def as_user(self) -> dict[str, Any]:
        """Arguments of ``subprocess`` that run a program under this account, with no other groups."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_use(self, path: Path) -> bool:
        """Whether this account can enter the folder, or run the program, that the path names: asked of the kernel."""
        return self._succeeds(["test", "-x", str(path)])

    def can_run(self, command: Sequence[str | Path]) -> bool:
        """Whether the command ends well under this account."""
        return self._succeeds([str(part) for part in command])

    def give(self, path: Path) -> None:
        """Makes the account the owner of one file or folder."""
        os.chown(path, self.uid, self.gid)

    def _succeeds(self, command: list[str]) -> bool:
        try:
            done = subprocess.run(command, cwd="/", capture_output=True, timeout=20, check=False, **self.as_user())
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0


def unprivileged() -> Account | None:
    """The account to run PostgreSQL under: None (our own) unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise LocalError(
        "PostgreSQL cannot run as root, and there is no other system user to run it",
        why=f"neither of {', '.join(CANDIDATES)} exists",
        do="useradd --system postgres",
    )
