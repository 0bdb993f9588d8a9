"""``make up`` and its companions, as native processes.

They start, tell, go on where they were, and stop without remains.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.local.ports import accepts
from deploy.runtime.settings import ChainSettings, PostgresSettings, ServiceSettings, load
from tests.integration.deploy.local_command import PORTS, LocalCommand, local_command


class Settings(ServiceSettings):
    chain: ChainSettings
    postgres: PostgresSettings


@pytest.fixture
def folder() -> Iterator[Path]:
    """Below a folder that nobody but us may enter, as a clone in a private home is."""
    private = Path(tempfile.mkdtemp(prefix="chainbooks-private-"))
    private.chmod(0o700)
    yield private / ".local"
    shutil.rmtree(private)


@pytest.fixture
def command(folder: Path) -> Iterator[LocalCommand]:
    command = local_command(folder, CHAINBOOKS_NO_DOCKER="1", CHAINBOOKS_LOCAL_KAFKA_HEAP_MB="256")
    yield command
    done = command.run("clean")
    assert done.returncode == 0, done.stderr


def test_up_status_down_and_up_again_where_it_was(command: LocalCommand) -> None:
    assert command.run("status").returncode == 3

    first = command.run("up")
    assert first.returncode == 0, first.stderr
    assert "starting native processes (CHAINBOOKS_NO_DOCKER is set)" in first.stderr
    assert [line.split()[:2] for line in first.stdout.splitlines()[:3]] == [
        ["kafka", "ready"],
        ["postgres", "ready"],
        ["anvil", "ready"],
    ]
    pids = _pids(command)

    again = command.run("up")
    assert again.returncode == 0, again.stderr
    assert _pids(command) == pids, "running parts are left alone"
    assert command.run("status").returncode == 0
    assert command.run("topics").returncode == 0
    tail = command.run("tail")
    assert tail.returncode == 3, "nothing to wait for"
    assert (
        tail.stderr == "there is no topic payments.local.events.v1 yet\n  → chainbooks-indexer topics ensure makes it\n"
    )

    settings = load(Settings, command.folder / "chainbooks.toml")
    assert settings.chain.rpc_http[0].get_secret_value() == f"http://127.0.0.1:{command.port('ANVIL_PORT')}"
    owner_dsn = settings.postgres.owner_dsn
    assert owner_dsn is not None
    with psycopg.connect(owner_dsn.get_secret_value(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (value INT)")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres@127.0.0.1:{command.port('POSTGRES_PORT')}/chainbooks")

    down = command.run("down")
    assert down.returncode == 0, down.stderr
    assert not [name for name in PORTS if accepts(command.port(name))]
    assert not _pids(command)
    assert command.run("status").returncode == 3
    assert command.run("down").returncode == 0, "down may be repeated"

    third = command.run("up")
    assert third.returncode == 0, third.stderr
    with psycopg.connect(owner_dsn.get_secret_value()) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_taken_port_is_explained_and_nothing_is_left_running(command: LocalCommand) -> None:
    with socket.create_server(("127.0.0.1", command.port("POSTGRES_PORT"))):
        done = command.run("up")
    assert done.returncode == 3
    assert f"postgres cannot start: port {command.port('POSTGRES_PORT')} is taken" in done.stderr
    assert "CHAINBOOKS_LOCAL_POSTGRES_PORT=<port>" in done.stderr
    assert "Traceback" not in done.stderr
    assert command.run("status").returncode == 3


def test_a_part_that_dies_while_starting_is_explained_with_its_log(command: LocalCommand) -> None:
    programs = command.folder / "java-without-kafka"
    programs.mkdir()
    java = programs / "java"
    java.write_text("#!/bin/sh\necho 'the java of this test does nothing'\nexit 1\n", encoding="ascii")
    java.chmod(0o755)
    broken = LocalCommand(
        folder=command.folder, environment={**command.environment, "PATH": f"{programs}:{os.environ['PATH']}"}
    )
    done = broken.run("up")
    assert done.returncode == 3
    assert "Kafka's storage could not be formatted" in done.stderr
    assert "the java of this test does nothing" in done.stderr
    assert "Traceback" not in done.stderr


def test_down_and_status_work_when_what_setup_fetched_is_gone(command: LocalCommand) -> None:
    (command.folder / "node").unlink()
    status = command.run("status")
    assert (status.returncode, status.stdout.count("down")) == (3, 3)
    assert command.run("down").returncode == 0


def test_without_a_stack_the_tools_say_what_to_do(command: LocalCommand) -> None:
    for tool in ("topics", "psql", "tail"):
        done = command.run(tool)
        assert (done.returncode, done.stderr) == (3, "the stack is not up\n  → make up\n")


def _pids(command: LocalCommand) -> list[int]:
    return [int(path.read_text(encoding="ascii").split()[0]) for path in sorted((command.folder / "run").glob("*.pid"))]
