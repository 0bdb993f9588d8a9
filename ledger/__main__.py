"""The command line of chainbooks-ledger."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Iterable
from datetime import datetime
from getpass import getuser
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from contracts.registry import RegistryError, load_registry
from deploy.runtime import cli, exit_codes, log
from deploy.runtime.cli import ConfigOption, JsonOption
from deploy.runtime.settings import effective
from ledger import app as service
from ledger import incident_reports, incidents, proof, reports
from ledger.adapters.reconciliation_store import Finding
from ledger.errors import FatalError, RetryableError
from ledger.settings import LedgerSettings

_T = TypeVar("_T")

IncidentArgument = Annotated[str, typer.Argument(metavar="ID", help="The incident, as the stopped partition names it.")]

PROGRAM: Final = "chainbooks-ledger"
INTERRUPTED: Final = 130
commands = cli.command_group(
    PROGRAM,
    explains="Folds payment events from Kafka into double-entry books in Postgres. Begin with: migrate, run, balances.",
)
incident_commands = typer.Typer(no_args_is_help=True, help="Changes of the chain below its finality.")
commands.add_typer(incident_commands, name="incident")


@commands.command()
def migrate(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make the database ready: roles, schemas, tables, views. Doing it again is fine.

    Uses owner_dsn of the section postgres: a superuser, or a role that may create roles. The users of dsn (writer) and
    reader_dsn are made when they are missing. Exit codes: 0 done, 2 settings or rights do not fit, 3 Postgres is away.
    """
    settings = _settings(config)
    try:
        applied = service.migrate(settings)
    except FatalError as exc:
        _fail("refused", [str(exc)], exit_codes.USAGE)
    except RetryableError as exc:
        _fail("a dependency is away", [str(exc)], exit_codes.DEPENDENCY)
    if as_json:
        cli.print_json({"applied": applied})
        return
    for name in applied:
        typer.echo(f"applied {name}")
    typer.echo("the database is ready")


@commands.command()
def run(config: ConfigOption = None) -> None:
    """Fold the chain's topics into the books until SIGTERM.

    Positions live in Postgres: start, stop, kill and start it again as you like. Several instances share the
    partitions. Exit codes: 0 stopped, 2 settings, schema or topics do not fit, 3 Kafka or Postgres stayed away,
    5 another process took this instance's name.
    """
    settings = _settings(config)
    log.configure(settings.telemetry.log_level, settings.telemetry.log_format)
    raise typer.Exit(_perform(service.run(settings)))


@commands.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show how far each partition is folded, through which block balances are final, and what stopped.

    Exit code 4 when a partition is stopped: an operator has to look. Otherwise 0.
    """
    settings = _settings(config)
    document = _status_document(settings, _perform(service.read_status(settings)))
    if as_json:
        cli.print_json(document)
    else:
        _print_status(document)
    stopped = any(stream["stopped_reason"] for stream in document["streams"])
    raise typer.Exit(exit_codes.LATCHED if stopped else exit_codes.OK)


@commands.command()
def balances(
    config: ConfigOption = None,
    book: Annotated[str | None, typer.Option("--book", help="Only this book.")] = None,
    account: Annotated[
        str | None, typer.Option("--account", help="Only codes like this; % is anything: 'liabilities:%:available'.")
    ] = None,
    latest: Annotated[
        bool, typer.Option("--latest", help="Everything folded, instead of the final, consistent cut.")
    ] = False,
    zeros: Annotated[bool, typer.Option("--zeros", help="Show accounts with a balance of zero, too.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000_000, help="At most so many rows.")] = 200,
    as_json: JsonOption = False,
) -> None:
    """Show balances by account and asset: final ones, through the block that was promoted last, or --latest ones.

    Amounts are in units of the asset; --json has base units beside them.
    """
    settings = _settings(config)
    basis: Literal["latest", "final"] = "latest" if latest else "final"
    rows = _perform(service.read_balances(settings, basis=basis, book=book, like=account, zeros=zeros, limit=limit + 1))
    more = len(rows) > limit
    rows = rows[:limit]
    if as_json:
        cli.print_json({"chain": settings.chain.name, "basis": basis, "truncated": more, "balances": rows})
        return
    if not rows:
        there = ", ".join(_perform(service.read_book_names(settings))) or "none yet"
        typer.echo(
            f"no {basis} balance matches; books of chain {settings.chain.name}: {there} (--zeros shows all accounts)"
        )
        return
    table = Table("account", "asset", "balance", "side", title=f"{basis} balances of {settings.chain.name}")
    for row in rows:
        amount = row["balance"] if row["balance"] is not None else f"{row['balance_base_units']} base units"
        table.add_row(row["account"], row["asset"], _plain(amount), row["normal_side"])
    blocks = {row["as_of_block"] for row in rows}
    out = Console(soft_wrap=True)
    cli.print_table(table)
    out.print(f"as of block {', '.join(map(str, sorted(b for b in blocks if b is not None))) or '-'}", highlight=False)
    if more:
        out.print(f"there are more than {limit}; narrow it with --book or --account, or raise --limit")


@commands.command()
def reconcile(
    config: ConfigOption = None,
    show_all: Annotated[bool, typer.Option("--all", help="Show equal comparisons, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare final balances with the chain itself, at the hash of the last final block.

    Custody with the tokens' balanceOf and the native balance, claims and counts with the getters that the descriptions
    name. Differences become breaks (finance.breaks) until both sides agree again. Exit codes: 0 all equal, 1 a
    difference, or a question that the chain did not answer, 2 nothing final yet, or settings, 3 node or Postgres away.
    """
    settings = _settings(config)
    found = _perform(service.reconcile(settings))
    if as_json:
        cli.print_json(_reconciliation_document(settings, found))
    else:
        _print_reconciliation(found, show_all=show_all)
    raise typer.Exit(exit_codes.DIFFERENCE if found.differing else exit_codes.OK)


@commands.command()
def rebuild(
    into: Annotated[str, typer.Option("--into", metavar="SCHEMA", help="Schema to fold into, in the same database.")],
    config: ConfigOption = None,
    batch_records: Annotated[
        int | None, typer.Option("--batch-records", min=1, max=100_000, help="Records of one db_tx; default: [ledger].")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Drop what an earlier rebuild left, begin again.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the schema also when both books are equal.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fold the topics again from offset 0, beside the live books, and say whether both are the same.

    chainbooks-ledger run may go on meanwhile: both sides are compared at the last point that both have reached. When
    they are equal the schema is dropped; a different one stays, to be looked at. After an interruption the same command
    goes on where it stopped. Needs owner_dsn, to make the schema. Exit codes: 0 equal, 1 different, 2 settings or names
    do not fit, 3 Kafka or Postgres away.
    """
    settings = _settings(config)
    log.configure("warning", settings.telemetry.log_format)
    try:
        with reports.rebuild_progress() as tell:
            found = _perform(
                proof.rebuild(settings, into, batch_records_max=batch_records, replace=replace, keep=keep, tell=tell)
            )
    except KeyboardInterrupt:
        typer.echo(f"{PROGRAM}: interrupted; the same command goes on where it stopped", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        cli.print_json(reports.rebuild_document(settings.chain.name, found))
    else:
        reports.print_rebuild(settings.chain.name, found)
    raise typer.Exit(exit_codes.OK if found.comparison.equal else exit_codes.DIFFERENCE)


@commands.command()
def verify(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the books against themselves, in one snapshot; chainbooks-ledger run may go on meanwhile.

    Recomputes the record chain from the journal, adds up postings, mirrors contra entries, follows positions,
    promotion, clearing and quarantine, and trusts no constraint. Only reads. Every failure is named with its account,
    entry or stream, and with what to do. Exit codes: 0 all checks passed, 1 a failure, 2 settings or schema do not fit,
    3 Postgres away.
    """
    settings = _settings(config)
    results = _perform(proof.verify(settings))
    if as_json:
        cli.print_json(reports.verify_document(settings.chain.name, results))
    else:
        reports.print_verify(settings.chain.name, results)
    raise typer.Exit(exit_codes.OK if all(result.passed for result in results) else exit_codes.DIFFERENCE)


@incident_commands.command("list")
def list_incidents(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show incidents: those that partitions wait for, and those that were accepted."""
    found = _perform(incidents.read_all(_settings(config)))
    if as_json:
        cli.print_json([incident_reports.document(each) for each in found])
    else:
        incident_reports.print_all(found)


@incident_commands.command("show")
def show_incident(incident_id: IncidentArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show one incident: which partitions wait for it, who accepted it, which accounts it has changed so far."""
    found = _perform(incidents.read_one(_settings(config), incident_id))
    if as_json:
        cli.print_json(incident_reports.shown_document(found))
    else:
        incident_reports.print_one(found)


@incident_commands.command("accept")
def accept_incident(
    incident_id: IncidentArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why it may be booked; kept for ever.")],
    by: Annotated[str | None, typer.Option("--by", help="Who accepts it; the system's user when not given.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept that what was final has changed: it is booked into the open period, by contra entries.

    Look first what the node operators and the indexer's resolve say: there is no way back. Running ledgers go on by
    themselves within seconds. Doing it again changes nothing. Exit codes: 0 accepted, 2 nothing waits for this
    incident, 3 Postgres is away.
    """
    settings = _settings(config)
    done = _perform(incidents.accept(settings, incident_id, by=by or _user(), reason=reason))
    if as_json:
        cli.print_json({"accepted_before": done.before, **incident_reports.document(done.incident)})
    else:
        incident_reports.print_accepted(done)


@commands.command("check-config")
def check_config(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check settings and registry without connecting to anything; print what is effective, without secrets."""
    settings = _settings(config)
    try:
        registry = load_registry(settings.registry.paths, chain_id=settings.chain.id)
    except RegistryError as exc:
        _fail("the registry cannot be used", map(str, exc.problems), exit_codes.USAGE)
    contracts = [{"contract": c.name, "book": c.book, "version": c.version} for c in registry.contracts]
    topics = service.topics_of(settings)
    folded = [topics.events, topics.rejected, topics.registry]
    if as_json:
        cli.print_json({"settings": effective(settings), "topics": folded, "contracts": contracts})
        return
    for section, fields in effective(settings).items():
        typer.echo(f"[{section}]")
        for field, value in fields.items():
            typer.echo(f"{field} = {json.dumps(value)}")
    typer.echo(f"topics: {', '.join(folded)}")
    for contract in contracts:
        typer.echo(f"contract {contract['contract']}, book {contract['book']}, version {contract['version'][:18]}…")


def _settings(config: Path | None) -> LedgerSettings:
    return cli.settings_or_exit(LedgerSettings, config, program=PROGRAM)


def _perform(call: Awaitable[_T]) -> _T:
    """Runs the command; an operating error becomes one sentence and its exit code."""
    try:
        return cli.run(call)
    except FatalError as exc:
        _fail("refused", [str(exc)], exit_codes.USAGE)
    except RetryableError as exc:
        _fail("a dependency is away", [str(exc)], exit_codes.DEPENDENCY)
    except OSError as exc:
        _fail("the machine refused", [str(exc)], exit_codes.DEPENDENCY)


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # a container's user has no name
        return "-"


def _fail(what: str, problems: Iterable[str], code: int) -> NoReturn:
    cli.fail(PROGRAM, what, problems, code)


def _status_document(settings: LedgerSettings, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "chain": settings.chain.name,
        "final_block": found.get("final_number"),
        "final_hash": _shown(found.get("final_hash")),
        "promoted_at": _shown(found.get("promoted_at")),
        "open_breaks": found.get("open_breaks", 0),
        "open_quarantine": found.get("open_quarantine", 0),
        "streams": [{key: _shown(value) for key, value in stream.items()} for stream in found["streams"]],
    }


def _reconciliation_document(settings: LedgerSettings, found: service.Reconciliation) -> dict[str, Any]:
    items = [_finding_document(finding) for finding in found.findings]
    return {
        "chain": settings.chain.name,
        "block": {"number": found.block_number, "hash": found.block_hash},
        "compared": len(items),
        "differing": len(found.differing),
        "differences": [item for item in items if not item["equal"]],
        "items": items,
    }


def _finding_document(finding: Finding) -> dict[str, Any]:
    """Amounts are base units, as text."""
    item, question = finding.item, finding.item.question
    return {
        "kind": question.kind,
        "subject": question.subject,
        "book": question.book,
        "contract": question.contract,
        "asset": question.asset,
        "ledger": str(question.ledger),
        "onchain": None if item.onchain is None else str(item.onchain),
        "difference": None if item.difference is None else str(item.difference),
        "problem": item.problem,
        "equal": item.equal,
        "began_in_block": finding.began_in_block,
        "began_in_tx": finding.began_in_tx,
    }


def _print_reconciliation(found: service.Reconciliation, *, show_all: bool) -> None:
    out = Console(soft_wrap=True)
    shown = found.findings if show_all else found.differing
    if shown:
        table = Table("kind", "subject", "asset", "ledger", "chain", "difference", "began in block")
        for finding in shown:
            row = _finding_document(finding)
            answer = row["onchain"] if row["problem"] is None else f"no answer: {row['problem']}"
            cells = (row["asset"], row["ledger"], answer, row["difference"], row["began_in_block"])
            table.add_row(row["kind"], row["subject"], *("-" if cell is None else str(cell) for cell in cells))
        cli.print_table(table)
    equal = len(found.findings) - len(found.differing)
    out.print(
        f"block {found.block_number} {found.block_hash}: {len(found.findings)} comparisons, {equal} equal, "
        f"{len(found.differing)} differing (amounts in base units)",
        highlight=False,
    )


def _print_status(document: dict[str, Any]) -> None:
    out = Console(soft_wrap=True)
    table = Table("topic", "partition", "next offset", "seq", "latest", "safe", "finalized", "entries", "state")
    columns = ("topic", "partition", "next_offset", "stream_seq", "latest_number", "safe_number", "finalized_number")
    stops = []
    for s in document["streams"]:
        cells = ("-" if s[column] is None else str(s[column]) for column in (*columns, "entries"))
        table.add_row(*cells, "STOPPED" if s["stopped_reason"] else "ok")
        if s["stopped_reason"]:
            stops.append(
                f"STOPPED {s['topic']}/{s['partition']} at offset {s['stopped_offset']}: {s['stopped_reason']}"
            )
    cli.print_table(table)
    for stop in stops:
        out.print(stop, markup=False, highlight=False)
    final = document["final_block"]
    out.print(
        f"chain {document['chain']}: final balances through block {'-' if final is None else final}; "
        f"{document['open_breaks']} open breaks, {document['open_quarantine']} records in quarantine",
        highlight=False,
    )


def _plain(amount: str) -> str:
    """A decimal as people write it: no trailing zeros, never an exponent."""
    return amount.rstrip("0").rstrip(".") if "." in amount else amount


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return value.isoformat() if isinstance(value, datetime) else value


def main() -> None:
    """Entry point of ``chainbooks-ledger`` and ``python -m ledger``."""
    commands()


if __name__ == "__main__":
    main()
