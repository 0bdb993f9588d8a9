"""Waiting for a part ends: ready, or with its name, the reason and the end of its log."""

from __future__ import annotations

import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.local.daemon import Daemon
from deploy.local.failure import LocalError
from deploy.local.native import server
from deploy.local.ports import free_ports

LIVES = "import signal; signal.pause()"


@dataclass(slots=True, kw_only=True)
class Part:
    """A part that runs a line of Python and is ready after a number of probes."""

    daemon: Daemon
    script: str
    ready_after: int
    port: int = field(default_factory=lambda: free_ports(1)[0])
    probes: int = 0

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def ports(self) -> dict[str, int]:
        return {"CHAINBOOKS_LOCAL_PART_PORT": self.port}

    def launch(self) -> None:
        self.daemon.start([sys.executable, "-c", self.script], cwd=Path("/"))

    def probe(self) -> str | None:
        self.probes += 1
        return None if self.probes > self.ready_after else "still warming up"

    def stop(self) -> bool:
        return self.daemon.stop(how=signal.SIGKILL)


def part(folder: Path, *, name: str = "part", script: str = LIVES, ready_after: int = 2) -> Part:
    return Part(daemon=Daemon(name=name, folder=folder), script=script, ready_after=ready_after)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "POLL_S", 0.01)


def test_it_waits_until_all_are_ready_and_starts_nothing_twice(tmp_path: Path) -> None:
    parts = [part(tmp_path, name="one"), part(tmp_path, name="two", ready_after=5)]
    server.start(parts, timeout_s=10)
    pids = [each.daemon.pid() for each in parts]
    server.start(parts, timeout_s=10)
    assert [each.daemon.pid() for each in parts] == pids
    assert None not in pids
    for each in parts:
        each.stop()


def test_a_part_that_ends_while_starting_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    good = part(tmp_path, name="good", ready_after=0)
    bad = part(tmp_path, name="bad", script="print('no space left on device'); raise SystemExit(1)", ready_after=10**9)
    with pytest.raises(LocalError) as caught:
        server.start([good, bad], timeout_s=20)
    assert "bad ended while it was starting" in str(caught.value)
    assert "no space left on device" in str(caught.value)
    assert good.daemon.pid() is None, "what was started for nothing is stopped"


def test_a_part_that_never_gets_ready_is_told_with_the_reason(tmp_path: Path) -> None:
    slow = part(tmp_path, ready_after=10**9)
    with pytest.raises(LocalError, match="part did not become ready in time: still warming up"):
        server.start([slow], timeout_s=0.3)


def test_a_taken_port_is_told_before_anything_is_started(tmp_path: Path) -> None:
    first, second = part(tmp_path, name="first"), part(tmp_path, name="second")
    with socket.create_server(("127.0.0.1", second.port)), pytest.raises(LocalError) as caught:
        server.start([first, second], timeout_s=5)
    assert f"second cannot start: port {second.port} is taken" in str(caught.value)
    assert "CHAINBOOKS_LOCAL_PART_PORT=<port>" in str(caught.value)
    assert not first.daemon.pid_file.exists()


def test_all_taken_ports_are_told_at_once(tmp_path: Path) -> None:
    first, second = part(tmp_path, name="first"), part(tmp_path, name="second")
    with (
        socket.create_server(("127.0.0.1", first.port)),
        socket.create_server(("127.0.0.1", second.port)),
        pytest.raises(LocalError) as caught,
    ):
        server.start([first, second], timeout_s=5)
    said = str(caught.value)
    assert f"first cannot start: port {first.port} is taken\nsecond cannot start: port {second.port} is taken" in said
    assert said.count("CHAINBOOKS_LOCAL_PART_PORT=<port>") == 2
