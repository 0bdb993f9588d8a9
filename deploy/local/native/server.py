"""What the three parts have in common: launch, probe, and a wait for readiness that explains itself when it fails."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Protocol

from deploy.local import ports
from deploy.local.daemon import Daemon
from deploy.local.failure import LocalError

POLL_S: Final = 0.1


class Server(Protocol):
    """One part of the stack."""

    @property
    def daemon(self) -> Daemon: ...

    @property
    def endpoint(self) -> str:
        """How clients reach it; holds no password."""

    @property
    def ports(self) -> dict[str, int]:
        """Every port that it listens on, by the setting that changes it."""

    def launch(self) -> None:
        """Starts the process; returns before it is ready. Raises LocalError."""

    def probe(self) -> str | None:
        """None when it does its work; otherwise why not yet."""

    def stop(self) -> bool:
        """Ends it and waits for that. False when it was not running."""


def start(servers: Sequence[Server], *, timeout_s: float = 60.0) -> None:
    """Launches what does not run yet, then waits until all are ready. Raises LocalError naming the part that is not."""
    fresh = [server for server in servers if server.daemon.pid() is None]
    _claim_ports(fresh)
    try:
        for server in fresh:
            server.launch()
        deadline = time.monotonic() + timeout_s
        for server in servers:
            await_ready(server, deadline=deadline)
    except BaseException:
        for server in fresh:
            server.stop()
        raise


def await_ready(server: Server, *, deadline: float) -> None:
    """Waits until ``probe`` is content, the process has died, or the deadline (monotonic seconds) has passed."""
    name = server.daemon.name
    while (reason := server.probe()) is not None:
        if server.daemon.pid() is None:
            raise LocalError(
                f"{name} ended while it was starting",
                why=f"the end of {server.daemon.log}:\n{server.daemon.tail()}",
                do="make doctor tells what is missing; make logs shows the whole log",
            )
        if time.monotonic() > deadline:
            raise LocalError(
                f"{name} did not become ready in time: {reason}",
                why=f"the end of {server.daemon.log}:\n{server.daemon.tail()}",
                do="a slow machine may need another try; make logs shows the whole log",
            )
        time.sleep(POLL_S)


def _claim_ports(servers: Sequence[Server]) -> None:
    """Raises LocalError with every port that is taken, so that one try is enough to find them all."""
    taken = [
        (server.daemon.name, setting, port)
        for server in servers
        for setting, port in server.ports.items()
        if not ports.is_free(port)
    ]
    if taken:
        others = " ".join(f"{setting}=<port>" for _, setting, _ in taken)
        raise LocalError(
            "\n".join(f"{name} cannot start: port {port} is taken" for name, _, port in taken),
            why="\n".join(f"{port}: {ports.holder(port)}" for _, _, port in taken),
            do=f"stop what listens there, or choose: {others} make up",
        )
