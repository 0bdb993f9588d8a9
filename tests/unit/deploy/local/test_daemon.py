"""Processes are recognised by pid and start time: ours are stopped, others never."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.daemon import Daemon

WAITS_FOR_EVER = [sys.executable, "-c", "import signal; print('started', flush=True); signal.pause()"]
IGNORES_TERM_SCRIPT = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("started", flush=True)
while True:
    signal.pause()
"""
IGNORES_TERM = [sys.executable, "-c", IGNORES_TERM_SCRIPT]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(name="part", folder=tmp_path / "run")
    yield daemon
    daemon.stop(how=signal.SIGKILL)


def another_look(daemon: Daemon) -> Daemon:
    """As a later command sees it: from the pid file alone."""
    return Daemon(name=daemon.name, folder=daemon.folder)


def test_a_later_command_finds_and_stops_the_process(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start(WAITS_FOR_EVER, cwd=tmp_path)
    later = another_look(daemon)
    assert later.pid() == daemon.pid() is not None
    assert later.stop()
    assert daemon.pid() is None
    assert not later.pid_file.exists()
    assert not later.stop()


def test_a_process_that_ended_by_itself_is_not_running(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start([sys.executable, "-c", "print('bye')"], cwd=tmp_path)
    assert daemon._child is not None
    daemon._child.wait()
    assert daemon.pid() is None
    assert daemon.exit_code() == 0
    assert another_look(daemon).pid() is None
    assert another_look(daemon).exit_code() is None  # only who started it is told
    assert daemon.tail() == "bye"


def test_the_unreaped_remains_of_a_process_are_not_running(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start(WAITS_FOR_EVER, cwd=tmp_path)
    pid = daemon.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, but its parent has not fetched the exit code
    assert another_look(daemon).pid() is None


def test_a_pid_that_now_belongs_to_another_process_is_never_touched(daemon: Daemon) -> None:
    with subprocess.Popen(WAITS_FOR_EVER, stdout=subprocess.PIPE) as stranger:
        daemon.folder.mkdir()
        daemon.pid_file.write_text(f"{stranger.pid} 123@another-boot\n", encoding="ascii")
        assert daemon.pid() is None
        assert not daemon.stop()
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("content", ["", "not a pid\n", "4242\n"])
def test_a_damaged_pid_file_is_no_process(daemon: Daemon, content: str) -> None:
    daemon.folder.mkdir()
    daemon.pid_file.write_text(content, encoding="ascii")
    assert daemon.pid() is None


def test_who_does_not_listen_is_killed_after_the_grace(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start(IGNORES_TERM, cwd=tmp_path)
    assert daemon._child is not None
    while "started" not in daemon.tail():  # the handler must be in place
        assert daemon.pid() is not None
    assert daemon.stop(grace_s=0.2)
    assert daemon.exit_code() == -signal.SIGKILL


def test_one_earlier_log_is_kept(daemon: Daemon, tmp_path: Path) -> None:
    for word in ("first", "second", "third"):
        daemon.start([sys.executable, "-c", f"print('{word}')"], cwd=tmp_path)
        assert daemon._child is not None
        daemon._child.wait()
    assert daemon.tail() == "third"
    assert daemon.log.with_suffix(".previous.log").read_text(encoding="utf-8") == "second\n"
