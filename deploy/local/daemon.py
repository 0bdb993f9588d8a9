"""Processes that outlive the command that starts them: kept, recognised and stopped by pid and start time.

A pid alone is not enough: after a reboot or a long while the number belongs to somebody else. The pid file has the
pid and what the kernel says about when that process started; when the two do not agree, the process is not ours and
is never touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.local.native.account import Account

POLL_S: Final = 0.05


@dataclass(slots=True, kw_only=True)
class Daemon:
    """One process: its pid file and its log in ``folder``.

    ``ephemeral`` ties it to the process that starts it (the tests): where the system can do that, it dies with its
    parent.
    """

    name: str
    folder: Path
    ephemeral: bool = False
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    def start(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        account: Account | None = None,
    ) -> None:
        """Starts the process with its output in a new log; one earlier log is kept. OSError: the program is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        prefix: list[str] = []
        if self.ephemeral and sys.platform == "linux" and shutil.which("setpriv"):
            prefix = ["setpriv", "--pdeathsig", "INT", "--"]
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".previous.log"))
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                [*prefix, *map(str, command)],
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **(account.as_user() if account else {}),
            )
        self._child = child
        self.pid_file.write_text(f"{child.pid} {_started(child.pid) or '-'}\n", encoding="ascii")

    def pid(self) -> int | None:
        """The pid, when our process is alive; None when it is not, or when the number is somebody else's now."""
        if self._child is not None:
            return self._child.pid if self._child.poll() is None else None
        try:
            pid_text, started = self.pid_file.read_text(encoding="ascii").split(maxsplit=1)
            pid = int(pid_text)
        except (OSError, ValueError):
            return None
        return pid if _started(pid) == started.strip() else None

    def exit_code(self) -> int | None:
        """How the process ended that this object started: its code, or minus the signal. None while it runs."""
        return self._child.poll() if self._child is not None else None

    def stop(self, *, how: signal.Signals = signal.SIGTERM, grace_s: float = 15.0) -> bool:
        """Ends the process: the signal, then SIGKILL after the grace. False when it was not running."""
        pid = self.pid()
        if pid is not None:
            for each, wait_s in ((how, grace_s), (signal.SIGKILL, 5.0)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, each)
                if self._gone(within_s=wait_s):
                    break
        self.pid_file.unlink(missing_ok=True)
        return pid is not None

    def tail(self, lines: int = 12) -> str:
        """The last lines of the log."""
        try:
            text = self.log.read_bytes()[-16_384:].decode("utf-8", "replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"

    def _gone(self, *, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while self.pid() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True


def _started(pid: int) -> str | None:
    """When the process started, in the kernel's own terms; None when there is no such process, or only its remains."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None if Path("/proc/self/stat").exists() else _started_by_ps(pid)
    fields = stat.rpartition(")")[2].split()  # the name before ")" may hold anything
    state, start_ticks = fields[0], fields[19]
    if state in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{start_ticks}@{boot.read_text(encoding='ascii').strip() if boot.exists() else '-'}"


def _started_by_ps(pid: int) -> str | None:
    done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
