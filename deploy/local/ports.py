"""Free ports on loopback, and who has one that is taken."""

from __future__ import annotations

import random
import socket
import subprocess
from typing import Final

from deploy.local.failure import LocalError

LOOPBACK: Final = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """That many different ports that are free now.

    They lie below the range that the system gives to outgoing connections, so nothing takes them by accident.
    """
    candidates = random.SystemRandom().sample(range(22_000, 32_000), 200)
    found = [port for port in candidates if is_free(port)][:count]
    if len(found) < count:
        raise LocalError("no free ports on loopback", why=f"of {len(candidates)} tried, {len(found)} were free")
    return found


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def accepts(port: int, *, timeout_s: float = 0.5) -> bool:
    """Whether something listens on the port and takes connections."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=timeout_s):
            return True
    except OSError:
        return False


def holder(port: int) -> str:
    """The process that listens on the port, as far as this machine tells; for messages only."""
    for command in (["ss", "-Hltnp", f"sport = :{port}"], ["lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.stdout.strip():
            return " ".join(done.stdout.strip().splitlines()[-1].split())
    return "another process (neither ss nor lsof could tell which)"
