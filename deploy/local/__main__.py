"""``python -m deploy.local``: the commands behind ``make setup``, ``up``, ``down`` and the rest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from aiokafka.errors import KafkaError

from contracts.messages import Topics
from deploy.local import compose, configuration, doctor, setup, stack, topics
from deploy.local.configuration import Running
from deploy.local.daemon import Daemon
from deploy.local.failure import LocalError
from deploy.local.native import postgres
from deploy.local.paths import layout
from deploy.runtime import exit_codes

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="The local stack.")


@app.command("setup")
def setup_command() -> None:
    """Fetch Kafka, anvil and the Solidity compiler; install missing programs where we may."""
    setup.run(layout(), _say)


@app.command("doctor")
def doctor_command() -> None:
    """Look at everything that the stack needs."""
    findings = list(doctor.examine(layout(), configuration.local_settings()))
    for finding in findings:
        print(f"{'  ' if not finding.do else '✗ '}{finding.subject:<22} {finding.found}")
        if finding.do:
            print(f"  {'':<22} → {finding.do}")
    if any(finding.do for finding in findings):
        raise typer.Exit(exit_codes.DEPENDENCY)


@app.command()
def up() -> None:
    """Start Kafka, PostgreSQL and anvil, and wait until they are ready."""
    running = stack.up(layout(), configuration.local_settings(), _say)
    for part in stack.status(layout()):
        print(f"{part.name:<10} {part.state:<10} {part.where}")
    print(f"{running.mode}; settings for the services: {_shown(layout().config)}")


@app.command()
def down() -> None:
    """Stop what up started; the data stays."""
    stack.down(layout(), _say)


@app.command()
def status() -> None:
    """Show each part, and exit with 3 unless all are ready."""
    parts = stack.status(layout())
    for part in parts:
        print(f"{part.name:<10} {part.state:<10} {part.where}  {part.detail}".rstrip())
    if any(part.state != "ready" for part in parts):
        raise typer.Exit(exit_codes.DEPENDENCY)


@app.command()
def logs(lines: Annotated[int, typer.Option(min=1, help="How many lines of each part.")] = 40) -> None:
    """Show the end of each part's log."""
    running = configuration.remembered(layout())
    for name in compose.SERVICES:
        print(f"=== {name}")
        if running is not None and running.mode == "docker":
            print(compose.logs(name, lines=lines))
        else:
            print(Daemon(name=name, folder=layout().run).tail(lines))


@app.command()
def psql(role: Annotated[str, typer.Option(help="Whom to connect as.")] = postgres.SUPERUSER) -> None:
    """Open psql on the ledger's database."""
    running = _running()
    program = postgres.find_programs() / "psql"
    found = str(program) if program.exists() else shutil.which("psql")
    if found is None:
        raise LocalError("there is no psql", do="make setup, or install postgresql-client")
    # psql takes over the terminal; the password stays out of its arguments, which everybody can read
    environment = {**os.environ, "PGPASSWORD": running.password}
    os.execve(found, [found, running.dsn(role, with_password=False)], environment)  # noqa: S606


@app.command("topics")
def topics_command() -> None:
    """List the topics with their partitions and offsets (commit markers take some, so records are fewer)."""
    for line in asyncio.run(topics.list_topics(_running().kafka)):
        print(f"{line.name:<44} {line.partitions:>3} partitions {line.offsets:>9} offsets")


@app.command()
def tail(
    contract: Annotated[str, typer.Option(help="Name of a description; all of them without it.")] = "",
    last: Annotated[int, typer.Option(min=0, help="How many earlier offsets of each partition.")] = 20,
    follow: Annotated[bool, typer.Option(help="Go on until Ctrl-C.")] = True,
) -> None:
    """Print payment events as they come."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_tail(_running(), contract=contract, last=last, follow=follow))


@app.command()
def clean() -> None:
    """Stop the stack and remove everything below .local/."""
    place = layout()
    stack.down(place, _say)
    compose.clean()
    home = place.data / "postgres"
    if home.is_symlink():  # PostgreSQL's data had to move outside of the clone
        shutil.rmtree(home.resolve(), ignore_errors=True)
    shutil.rmtree(place.root, ignore_errors=True)


async def _tail(running: Running, *, contract: str, last: int, follow: bool) -> None:
    local = Topics(chain=configuration.CHAIN)
    async for line in topics.tail(running.kafka, local, contract=contract, last=last, follow=follow):
        print(line, flush=True)


def _running() -> Running:
    running = configuration.remembered(layout())
    if running is None:
        raise LocalError("the stack is not up", do="make up")
    return running


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _shown(path: Path) -> str:
    return os.path.relpath(path)


def main() -> NoReturn:
    """Runs a command; a problem is told in words, with exit code 3."""
    try:
        app(standalone_mode=True)
    except LocalError as exc:
        _say(str(exc))
    except (KafkaError, OSError) as exc:
        _say(f"{type(exc).__name__}: {exc}\n  → make status tells what is up")
    sys.exit(exit_codes.DEPENDENCY)


if __name__ == "__main__":
    main()
