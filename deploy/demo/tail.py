"""``python -m deploy.demo.tail``: prints the events of a demo's topic, one line each."""

from __future__ import annotations

import asyncio
import contextlib
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from contracts.messages import Topics
from deploy.local import topics
from deploy.local.failure import LocalError
from deploy.local.paths import layout
from deploy.runtime import exit_codes

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def tail(
    config: Annotated[Path | None, typer.Option(help="The run's chainbooks.toml; the last demo's.")] = None,
    follow: Annotated[bool, typer.Option(help="Go on until Ctrl-C.")] = False,
) -> None:
    """Print what the events topic holds, retractions included."""
    path = config or layout().root / "demo" / "chainbooks.toml"
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        typer.echo(f"{path} cannot be read: {exc.strerror}\n  → make demo writes it", err=True)
        raise typer.Exit(exit_codes.USAGE) from exc
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_tail(settings["chain"]["name"], settings["kafka"], follow=follow))
    except LocalError as exc:
        typer.echo(str(exc), err=True)
        raise typer.Exit(exit_codes.DEPENDENCY) from exc


async def _tail(chain: str, kafka: dict[str, Any], *, follow: bool) -> None:
    names = Topics(chain=chain, prefix=kafka["topic_prefix"])
    async for line in topics.tail(kafka["bootstrap_servers"], names, follow=follow):
        typer.echo(line)


if __name__ == "__main__":
    app()
