"""What the command lines of both services have in common: options, settings or a sentence, JSON, the event loop.

Nothing here knows a service. A user's mistake becomes lines on stderr and an exit code, never a traceback.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from deploy.runtime import exit_codes
from deploy.runtime.settings import ServiceSettings, SettingsError, load

EPILOG: Final = (
    "Settings come from one TOML file for both services (--config, else $CHAINBOOKS_CONFIG, else ./chainbooks.toml; "
    "`make up` writes .local/chainbooks.toml) and from variables CHAINBOOKS_SECTION__FIELD, which win; .env.example "
    "explains them all. Exit codes of every command: 0 fine, 1 a difference was found, 2 usage or settings, 3 a "
    "dependency is away, 4 latched or stopped until somebody looks, 5 superseded by another instance."
)
"""What the help of both commands ends with."""

PIPE_WIDTH: Final = 160
"""Columns of a table that goes into a pipe or a file."""

_S = TypeVar("_S", bound=ServiceSettings)
_T = TypeVar("_T")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="TOML file with the settings; default: $CHAINBOOKS_CONFIG, else ./chainbooks.toml if it exists.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def command_group(program: str, *, explains: str) -> typer.Typer:
    """An empty command line that shows its help when it is called without arguments."""
    return typer.Typer(
        name=program,
        help=explains,
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )


def settings_or_exit(settings_class: type[_S], config: Path | None, *, program: str) -> _S:
    """The effective settings; else every problem in a line, and exit code 2."""
    try:
        return load(settings_class, config)
    except SettingsError as exc:
        fail(program, "settings cannot be used", exc.problems, exit_codes.USAGE)


def run(call: Awaitable[_T]) -> _T:
    """Runs a command on uvloop, where there is one."""

    async def main() -> _T:
        return await call

    if sys.platform == "win32":
        return asyncio.run(main())
    import uvloop

    return uvloop.run(main())


def fail(program: str, what: str, problems: Iterable[str], code: int) -> NoReturn:
    """What is wrong, one line a problem, on stderr; then exit with the code."""
    typer.echo(f"{program}: {what}:", err=True)
    for problem in problems:
        typer.echo(f"  {problem}", err=True)
    raise typer.Exit(code)


def print_table(table: Table) -> None:
    """A table as wide as the terminal is; what does not fit into a column goes on in its next line, nothing is cut."""
    for column in table.columns:
        column.overflow = "fold"
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    Console(width=width).print(table)


def print_json(document: Any) -> None:
    """Indented JSON on stdout."""
    typer.echo(json.dumps(document, indent=2))
