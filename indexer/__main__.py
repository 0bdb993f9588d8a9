"""The command line of chainbooks-indexer. The service itself is imported by the commands that need it: web3 is slow."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from contracts.problems import RegistryError
from deploy.runtime import cli, exit_codes, log
from deploy.runtime.cli import ConfigOption, JsonOption
from deploy.runtime.settings import effective
from indexer import registry_commands, show
from indexer.errors import DependencyAway, FatalError, RetryableError, Superseded, Unconfirmed
from indexer.settings import IndexerSettings

if TYPE_CHECKING:
    from contracts.registry import Registry
    from indexer import app
    from indexer.resolve import Outcome

_T = TypeVar("_T")

PROGRAM: Final = "chainbooks-indexer"
commands = cli.command_group(
    PROGRAM,
    explains=(
        "Reads payment-contract events from one EVM chain, handles reorgs, publishes them to Kafka exactly once. Begin "
        "with: check-config, topics ensure, run; status tells how far it is."
    ),
)
topics_cli = typer.Typer(no_args_is_help=True, help="The Kafka topics of the chain.")
commands.add_typer(topics_cli, name="topics")
commands.add_typer(registry_commands.commands, name="registry")


@commands.command()
def run(config: ConfigOption = None) -> None:
    """Follow the chain until SIGTERM.

    Starts from the state topic alone. A second instance of the same chain waits as standby. Exit codes: 0 stopped,
    2 settings, registry, topics or node do not fit, 3 node or Kafka stayed away, 4 latched after a change below
    finality, 5 superseded by another instance.
    """
    settings = _settings(config)
    _registry(settings)
    log.configure(settings.telemetry.log_level, settings.telemetry.log_format)
    from indexer import app

    raise typer.Exit(_perform(app.run(settings)))


@commands.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show what is published: head, finalized, owner, streams. Exit code 4 when latched."""
    from indexer import app

    found = _perform(app.read_status(_settings(config)))
    document = _status_document(found)
    if as_json:
        cli.print_json(document)
    else:
        _print_status(document)
    raise typer.Exit(exit_codes.LATCHED if document["latch"] else exit_codes.OK)


@commands.command()
def resolve(
    block_hash: Annotated[
        str, typer.Option("--block-hash", help="The canonical block at the height that the latch names (0x hex).")
    ],
    config: ConfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Resolve a change below finality: revoke what was published of the replaced blocks, publish what came instead.

    Shows what it would do and asks, on a terminal; --yes does it at once. Every node that answers has to have the
    block, and call it final. An attempt that was interrupted is simply repeated. Exit codes: 0 resolved, 2 not
    latched, not this block, or streams that cannot be trusted, 3 nodes disagree or something is away, 4 still latched
    (only looked, or answered no), 5 superseded.
    """
    settings = _settings(config)
    if not re.fullmatch("0x[0-9a-f]{64}", block_hash.lower()):
        _fail("usage", [f"--block-hash {block_hash!r} is not 0x and 64 hex digits"], exit_codes.USAGE)
    _registry(settings)
    log.configure(settings.telemetry.log_level, settings.telemetry.log_format)
    from indexer import app

    chain, out = settings.chain.name, Console(soft_wrap=True)

    def agreed(outcome: Outcome) -> bool:
        if not sys.stdin.isatty() or dry_run or as_json:
            return False
        out.print(show.rendered(outcome, chain=chain))
        return typer.confirm("Publish this?")

    outcome = _perform(app.resolve(settings, block_hash.lower(), agreed=None if yes and not dry_run else agreed))
    if as_json:
        cli.print_json(show.document(outcome, chain=chain))
    else:
        out.print(show.rendered(outcome, chain=chain))
        typer.echo(show.next_steps(outcome))
        if not outcome.resolved and not dry_run:
            typer.echo("--yes does it without a terminal.")
    raise typer.Exit(exit_codes.OK if outcome.resolved else exit_codes.LATCHED)


@commands.command("check-config")
def check_config(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check settings and registry without connecting to anything; print what is effective, without secrets."""
    settings = _settings(config)
    registry = _registry(settings)
    contracts = [
        {
            "contract": contract.name,
            "book": contract.book,
            "addresses": len(contract.addresses),
            "start_block": contract.start_block,
            "version": contract.version,
        }
        for contract in registry.contracts
    ]
    if as_json:
        cli.print_json({"settings": effective(settings), "contracts": contracts})
        return
    out = Console(soft_wrap=True)
    for section, fields in effective(settings).items():
        out.print(f"[bold]\\[{section}][/bold]")
        for field, value in fields.items():
            out.print(f"{field} = {json.dumps(value)}", markup=False, highlight=False)
    table = Table("contract", "book", "addresses", "start block", "version", title="registry")
    for contract in contracts:
        table.add_row(*(str(value)[:18] for value in contract.values()))
    cli.print_table(table)


@topics_cli.command("ensure")
def topics_ensure(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make the topics that are missing; refuse those that are configured otherwise (exit code 2)."""
    settings = _settings(config)
    from indexer import app

    made = _perform(app.ensure_topics(settings))
    if as_json:
        cli.print_json({"made": made})
    else:
        for name in made:
            typer.echo(f"made {name}")
        typer.echo(f"all topics of chain {settings.chain.name} are as they have to be")


def _settings(config: Path | None) -> IndexerSettings:
    return cli.settings_or_exit(IndexerSettings, config, program=PROGRAM)


def _registry(settings: IndexerSettings) -> Registry:
    from contracts.registry import load_registry

    try:
        return load_registry(settings.registry.paths, chain_id=settings.chain.id)
    except RegistryError as exc:
        _fail("the registry cannot be used", map(str, exc.problems), exit_codes.USAGE)


def _perform(call: Awaitable[_T]) -> _T:
    """Runs the command; an operating error becomes one sentence and its exit code."""
    try:
        return cli.run(call)
    except (DependencyAway, Unconfirmed) as exc:
        _fail("a dependency is away, or not what it has to be", [str(exc)], exit_codes.DEPENDENCY)
    except Superseded as exc:
        _fail("superseded", [str(exc)], exit_codes.SUPERSEDED)
    except FatalError as exc:
        _fail("refused", [str(exc)], exit_codes.USAGE)
    except RetryableError as exc:
        _fail("a dependency is away", [str(exc)], exit_codes.DEPENDENCY)
    except OSError as exc:
        _fail("the machine refused", [str(exc)], exit_codes.DEPENDENCY)


def _fail(what: str, problems: Iterable[str], code: int) -> NoReturn:
    cli.fail(PROGRAM, what, problems, code)


def _status_document(found: app.ChainStatus) -> dict[str, Any]:
    cursor, owner = found.state.cursor, found.state.owner
    now_ms = time.time_ns() // 1_000_000
    return {
        "chain": found.topics.chain,
        "started": cursor is not None,
        "head": cursor and {"number": cursor.head.number, "hash": cursor.head.hash},
        "safe": cursor and {"number": cursor.safe.number, "hash": cursor.safe.hash},
        "finalized": cursor and {"number": cursor.finalized.number, "hash": cursor.finalized.hash},
        "node_head": found.node_head,
        "node_error": found.node_error,
        "lag_blocks": found.node_head - cursor.head.number if cursor and found.node_head is not None else None,
        "unfinalized_blocks": len(found.state.blocks),
        "orphaned_blocks": sum(1 for block in found.state.blocks.values() if not block.canonical),
        "owner": owner
        and {"instance": owner.instance_id, "lease_left_s": max(owner.lease_until_ms - now_ms, 0) / 1000},
        "stream_id": cursor and cursor.stream_id,
        "partitions": cursor and cursor.partitions,
        "stream_seq": cursor and cursor.stream_seq,
        "descriptions": cursor and cursor.descriptions,
        "latch": cursor
        and cursor.latch
        and {
            "reason": cursor.latch.reason,
            "ours": {"number": cursor.latch.ours.number, "hash": cursor.latch.ours.hash},
            "seen": {"number": cursor.latch.seen.number, "hash": cursor.latch.seen.hash},
            "noticed_at_ms": cursor.latch.noticed_at_ms,
            "resolve": f"chainbooks-indexer resolve --block-hash {cursor.latch.seen.hash}",
        },
    }


def _print_status(document: dict[str, Any]) -> None:
    table = Table("what", "now", title=f"chainbooks-indexer, chain {document['chain']}", show_header=False)
    for key, value in document.items():
        if key != "chain":
            table.add_row(key.replace("_", " "), "-" if value is None else json.dumps(value))
    cli.print_table(table)


def main() -> None:
    """Entry point of ``chainbooks-indexer`` and ``python -m indexer``."""
    commands()


if __name__ == "__main__":
    main()
