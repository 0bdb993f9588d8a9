"""``python -m deploy.demo``: the main job on real input, with everything started, compared and cleaned up."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from deploy.demo.beside import beside
from deploy.demo.business import DEFAULT_SEED
from deploy.demo.failure import DemoFailure
from deploy.demo.judge import problems
from deploy.demo.outcome import Outcome
from deploy.demo.processes import isolate_environment
from deploy.demo.report import print_report
from deploy.demo.run import Options, Run
from deploy.demo.stage import find_services
from deploy.demo.view import WIDTH, Progress, View, open_view
from deploy.local.failure import LocalError
from deploy.local.paths import layout
from deploy.runtime import exit_codes

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

INTERRUPTED: Final = 130
NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,30}")


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise typer.BadParameter("lower-case letters, digits and hyphens, at most 31, beginning with a letter")
    return name


@app.command()
def demo(
    seed_argument: Annotated[int | None, typer.Argument(metavar="[SEED]", help="The same as --seed.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed repeats the same run, to the block hash.")] = DEFAULT_SEED,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a machine-readable summary on standard output.")
    ] = False,
    name: Annotated[
        str, typer.Option(help="Runs of one name replace each other's topics and database.", callback=_checked_name)
    ] = "demo",
    folder: Annotated[Path | None, typer.Option(help="For settings, logs, summary.json; .local/<name>.")] = None,
    block_ms: Annotated[int, typer.Option(min=0, max=10_000, help="Pace: milliseconds from block to block.")] = 200,
    kafka: Annotated[str, typer.Option(envvar="CHAINBOOKS_DEMO_KAFKA", help="Bootstrap servers to use.")] = "",
    postgres: Annotated[str, typer.Option(envvar="CHAINBOOKS_DEMO_POSTGRES", help="Superuser's DSN to use.")] = "",
    anvil: Annotated[str, typer.Option(envvar="CHAINBOOKS_DEMO_ANVIL", help="anvil's binary to use.")] = "",
) -> None:
    """Run a small business on a chain of its own and follow it into the books.

    Uses the local stack's Kafka and PostgreSQL, starting them when they are not up, with a database and topics of its
    own. Exit codes: 0 all as expected, 1 an unexpected difference, 3 something did not start or did not answer.
    """
    isolate_environment()
    place = (folder or layout().root / name).resolve()
    options = Options(
        seed=seed if seed_argument is None else seed_argument, name=name, folder=place, block_period_s=block_ms / 1000
    )
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console = Console(stderr=as_json, width=WIDTH)
    progress = Progress(seed=options.seed)
    try:
        with open_view(progress, console) as view:
            outcome = asyncio.run(_perform(options, view, progress, kafka=kafka, postgres=postgres, anvil=anvil))
    except (DemoFailure, LocalError) as exc:
        console.print(f"✘ {exc}", style="red", markup=False, highlight=False, soft_wrap=True)
        code = exc.exit_code if isinstance(exc, DemoFailure) else exit_codes.DEPENDENCY
        raise typer.Exit(code) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted; everything that the demo started is stopped", style="yellow")
        raise typer.Exit(INTERRUPTED) from None
    summary = json.dumps(outcome.summary(), indent=1)
    (place / "summary.json").write_text(summary + "\n", encoding="utf-8")
    print_report(outcome, console)
    if as_json:
        typer.echo(summary)
    raise typer.Exit(exit_codes.DIFFERENCE if outcome.problems else exit_codes.OK)


async def _perform(
    options: Options, view: View, progress: Progress, *, kafka: str, postgres: str, anvil: str
) -> Outcome:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with beside(view.refresh()):
        with view.phase("services") as phase:
            services = await asyncio.to_thread(find_services, kafka=kafka, postgres=postgres, anvil=anvil, say=view.say)
            phase.note = f"Kafka {services.kafka}, PostgreSQL, anvil"
        outcome = await Run(options, services, view, progress).perform()
    outcome.problems = problems(outcome)
    return outcome


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    app()
