"""``chainbooks-indexer registry …``: tools for authors of descriptions. They need no settings, Kafka or database."""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from contracts.abi import AbiError, parse_abi
from contracts.explain import explained
from contracts.loading import load_described, load_documents
from contracts.problems import RegistryError, suggestion
from contracts.skeleton import skeleton
from contracts.typed import TypedContract, TypedCustody
from deploy.runtime import cli, exit_codes
from deploy.runtime.cli import JsonOption
from deploy.runtime.settings import RegistrySettings
from indexer import trial_report
from indexer.errors import FatalError, RetryableError

PROGRAM: Final = "chainbooks-indexer registry"
commands = typer.Typer(
    no_args_is_help=True,
    help="Descriptions of payment contracts: begin one, check it, read it, try it on real blocks.",
)

Described = TypedContract | TypedCustody
Paths = Annotated[
    list[Path] | None,
    typer.Argument(help="Description files, or folders of them; default: contracts/registry.", show_default=False),
]
ChainOption = Annotated[
    int | None, typer.Option("--chain", help="Only what is on this chain (chain id), with its addresses and assets.")
]


@commands.command()
def new(
    abi: Annotated[
        Path, typer.Option("--abi", help="JSON ABI, or a compiler's artifact.", exists=True, dir_okay=False)
    ],
    name: Annotated[str | None, typer.Option("--name", help="Name of the contract; default: the file's name.")] = None,
    book: Annotated[str | None, typer.Option("--book", help="Book; default: the contract's name.")] = None,
    chain: Annotated[int, typer.Option("--chain", help="Chain id of --address.")] = 1,
    address: Annotated[list[str] | None, typer.Option("--address", help="Where it is; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; default: stdout.")] = None,
) -> None:
    """Write a commented description for an ABI. It loads as it is, and posts nothing until you say what moves money.

    Put it beside the others, go through its events, then: registry check, registry try.
    """
    try:
        parsed = parse_abi(json.loads(abi.read_bytes()))
    except (AbiError, ValueError) as exc:
        _fail("the ABI cannot be used", [f"{abi}: {exc}"])
    contract = name or _slug(abi.stem)
    path = str(abi) if out is None or abi.is_absolute() else os.path.relpath(abi, out.parent)
    text = skeleton(
        parsed,
        contract=contract,
        book=book or contract,
        abi_path=path,
        chain_id=chain,
        addresses=[each.lower() for each in address or []],
    )
    if out is None:
        typer.echo(text, nl=False)
        return
    if out.exists():
        _fail("nothing was written", [f"{out} exists; choose another name"])
    out.write_text(text)
    typer.echo(f"{out}: {len(parsed.events)} events. Next: chainbooks-indexer registry check {out}")


@commands.command()
def check(paths: Paths = None, chain: ChainOption = None, as_json: JsonOption = False) -> None:
    """Check descriptions: every problem with file, line, event, field, and what to do; then exit code 2."""
    try:
        found = _described(paths, chain)
    except RegistryError as exc:
        if as_json:
            names = ("file", "line", "field", "what", "do")
            cli.print_json({"problems": [{name: getattr(p, name) for name in names} for p in exc.problems]})
            raise typer.Exit(exit_codes.USAGE) from None
        _fail("descriptions cannot be used", map(str, exc.problems))
    if as_json:
        cli.print_json({"problems": []})
        return
    for typed in found:
        typer.echo(f"{typed.document.contract}: {len(typed.events)} events, book {typed.document.book}")
    typer.echo(f"{len(found)} descriptions can be used")


@commands.command("list")
def list_(paths: Paths = None, chain: ChainOption = None, as_json: JsonOption = False) -> None:
    """List descriptions: book, addresses, how many events move money, and whether they are experimental."""
    rows = [_row(typed) for typed in _described_or_exit(paths, chain)]
    if as_json:
        cli.print_json(rows)
        return
    table = Table("contract", "book", "events", "on chain", "note")
    for row in rows:
        events = ", ".join(f"{row[kind]} {kind}" for kind in ("money", "state", "info") if row[kind])
        where = "-" if chain is None else f"{row['addresses']} addresses from block {row['start_block']}"
        note = "experimental" if row["experimental"] else "custody" if row["kind"] == "custody" else ""
        table.add_row(row["contract"], row["book"], events, where, note)
    Console(soft_wrap=True).print(table)


@commands.command()
def explain(
    event: Annotated[str, typer.Argument(help="An event, or contract.event.")],
    paths: Annotated[list[Path] | None, typer.Option("--path", help="Files or folders; may be repeated.")] = None,
    chain: ChainOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say in words what an event means: signature, topic0, ids, amounts, joins and every transfer."""
    contract, _, name = event.rpartition(".")
    described = _described_or_exit(paths, chain)
    found = [
        (typed, known)
        for typed in described
        for known, typed_event in typed.events.items()
        if name in (known, typed_event.abi.name) and contract in ("", typed.document.contract)
    ]
    if not found:
        names = [f"{typed.document.contract}.{known}" for typed in described for known in typed.events]
        _fail(f"no description has {event!r}", [suggestion(event, names)])
    documents = [
        {"contract": typed.document.contract, "event": known, "lines": explained(typed, known)}
        for typed, known in found
    ]
    if as_json:
        cli.print_json(documents)
    else:
        typer.echo("\n\n".join("\n".join(document["lines"]) for document in documents))


@commands.command("try")
def try_(
    files: Annotated[list[Path], typer.Argument(help="The description, and a deployment file if it needs one.")],
    from_block: Annotated[int, typer.Option("--from", min=0, help="First block.")],
    to_block: Annotated[int | None, typer.Option("--to", min=0, help="Last block; default: the node's head.")] = None,
    rpc: Annotated[str, typer.Option("--rpc", help="HTTP address of a node.")] = "http://127.0.0.1:8545",
    with_: Annotated[
        list[Path] | None, typer.Option("--with", help="Assets, custody and others; default: contracts/registry.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read blocks from a node; print events, postings, what would be quarantined and what stays in clearing.

    Publishes nothing. The books begin empty at the first block: what happened before is not known. Exit codes: 0 all
    is posted and clearing is zero, 1 something is refused or stays, 2 usage, 3 the node is away.
    """
    from indexer import authoring

    paths = _together(files, with_)
    with _progress(quiet=as_json) as told:
        call = authoring.try_range(paths, rpc_url=rpc, from_block=from_block, to_block=to_block, told=told)
        try:
            found = cli.run(call)
        except RegistryError as exc:
            _fail("descriptions cannot be used", map(str, exc.problems))
        except FatalError as exc:
            _fail("refused", [str(exc)])
        except RetryableError as exc:
            cli.fail(PROGRAM, "the node is away", [str(exc)], exit_codes.DEPENDENCY)
    if as_json:
        cli.print_json(trial_report.document(found))
    else:
        trial_report.show(found)
    raise typer.Exit(exit_codes.OK if trial_report.clean(found) else exit_codes.DIFFERENCE)


def _described(paths: Sequence[Path] | None, chain: int | None) -> list[Described]:
    where = list(paths or RegistrySettings().paths)
    return load_described(where) if chain is None else load_documents(where, chain_id=chain)


def _described_or_exit(paths: Sequence[Path] | None, chain: int | None) -> list[Described]:
    try:
        return _described(paths, chain)
    except RegistryError as exc:
        _fail("descriptions cannot be used", map(str, exc.problems))


def _together(files: Sequence[Path], others: Sequence[Path] | None) -> list[Path]:
    """The others, and the author's files that are not among them already."""
    shared = list(others or RegistrySettings().paths)
    own = [file for file in files if not any(file.resolve().is_relative_to(path.resolve()) for path in shared)]
    return [*shared, *own]


def _row(typed: Described) -> dict[str, Any]:
    kinds = [event.kind for event in typed.events.values()] if isinstance(typed, TypedContract) else ["money"]
    return {
        "contract": typed.document.contract,
        "book": typed.document.book,
        "kind": "contract" if isinstance(typed, TypedContract) else "custody",
        "addresses": len(typed.document.addresses),
        "start_block": typed.document.start_block,
        "money": kinds.count("money"),
        "state": kinds.count("state"),
        "info": kinds.count("info"),
        "experimental": isinstance(typed, TypedContract) and typed.experimental,
    }


def _slug(name: str) -> str:
    """``LegacyVault`` is ``legacy-vault``."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()).strip("-")


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as bar:
        task = bar.add_task("reading blocks", total=None)
        yield lambda number, last: bar.update(task, completed=number, total=last)


def _fail(what: str, problems: Iterable[str]) -> NoReturn:
    cli.fail(PROGRAM, what, problems, exit_codes.USAGE)
