"""How rebuild and verify look: tables and sentences for people, documents for scripts, progress on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from contracts.posting import Posting
from deploy.runtime import cli
from ledger.comparison import AccountDifference, Comparison, EntryDifference
from ledger.core.journal import AccountAt, JournalEntry, changed_fields
from ledger.core.verification import Result
from ledger.proof import Rebuilt
from ledger.rebuild import Progress as Step

PLAIN_EVERY_S: Final = 5.0

Tell = Callable[[Step], None]


@contextmanager
def rebuild_progress() -> Iterator[Tell]:
    """A bar on a terminal, else a line now and then; on stderr in both cases."""
    out = Console(stderr=True, soft_wrap=True)
    if not out.is_terminal:
        yield _plain_progress()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[records]:,} records, {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out, transient=True) as progress:
        task = progress.add_task("reading", total=None, records=0, rate=0.0)
        began = time.monotonic()

        def tell(step: Step) -> None:
            rate = step.records / max(time.monotonic() - began, 1e-3)
            total, done = (step.offsets_total, step.offsets_done) if step.offsets_total else (None, 0)
            progress.update(task, description=step.stage, total=total, completed=done, records=step.records, rate=rate)

        yield tell


def _plain_progress() -> Tell:
    began = said_at = time.monotonic()
    stage = ""

    def tell(step: Step) -> None:
        nonlocal said_at, stage
        now = time.monotonic()
        if step.stage == stage and now - said_at < PLAIN_EVERY_S:
            return
        stage, said_at = step.stage, now
        rate = step.records / max(now - began, 1e-3)
        text = f"{stage} after {now - began:.1f} s"
        if step.offsets_total:
            text += f": {step.records:,} records, {rate:,.0f}/s, {step.offsets_done / step.offsets_total:.0%}"
            text += f", {step.partitions_done} of {step.partitions} partitions"
            if 0 < step.offsets_done < step.offsets_total:
                left = (now - began) * (step.offsets_total - step.offsets_done) / step.offsets_done
                text += f", about {left:.0f} s left"
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - progress of a command, for whoever reads its stderr

    return tell


def rebuild_document(chain: str, found: Rebuilt) -> dict[str, Any]:
    """The result for scripts. Amounts are base units, as text."""
    comparison = found.comparison
    return {
        "chain": chain,
        "schema": found.schema,
        "begun": found.begun,
        "kept": found.kept,
        "equal": comparison.equal,
        "records_folded": found.records,
        "entries_compared": comparison.entries_compared,
        "accounts_compared": comparison.accounts_compared,
        "final_block": comparison.final,
        "cut": [
            {
                "topic": cut.partition.topic,
                "partition": cut.partition.number,
                "stream_seq": cut.through,
                "live": cut.live_seq,
                "rebuilt": cut.rebuilt_seq,
            }
            for cut in comparison.cut
        ],
        "digests": [
            {"of": each.name, "live": each.live, "rebuilt": each.rebuilt, "equal": each.equal}
            for each in comparison.digests
        ],
        "problems": comparison.problems,
        "notes": comparison.notes,
        "first_differing_entries": [_entry_document(each) for each in comparison.entries],
        "accounts_differing": comparison.accounts_differing,
        "differing_accounts": [_account_document(each) for each in comparison.accounts],
    }


def print_rebuild(chain: str, found: Rebuilt) -> None:
    """The result for people."""
    out = Console(soft_wrap=True)
    comparison = found.comparison
    _say(out, f"books of chain {chain}: the live ones and those in schema {found.schema}")
    for each in comparison.digests:
        name = each.name if each.name != "final balances" else f"final balances, block {comparison.final}"
        if each.equal:
            _say(out, f"  {name:<30} equal      {each.live}")
        else:
            _say(out, f"  {name:<30} DIFFERENT  {each.live} live")
            _say(out, f"  {'':<30}            {each.rebuilt} rebuilt")
    _say(out, f"compared: {comparison.entries_compared:,} entries, {comparison.accounts_compared:,} accounts")
    for cut in comparison.cut:
        if cut.through:
            _say(out, f"  {cut.partition.topic}/{cut.partition.number} through record {cut.through:,}")
    for note in comparison.notes:
        _say(out, f"note: {note}")
    for problem in comparison.problems:
        _say(out, f"DIFFERENT {problem}")
    for entry in comparison.entries:
        _print_entry(out, entry)
    _print_accounts(out, comparison)
    _say(out, _verdict(found))


def _verdict(found: Rebuilt) -> str:
    views = f"{found.schema}_finance"
    if found.comparison.equal:
        rest = (
            f"schema {found.schema} is kept, its views are in {views}" if found.kept else "the rebuilt books are gone"
        )
        return f"EQUAL: the live books are what the topics say; {rest}"
    return (
        f"DIFFERENT: the rebuilt books stay in schema {found.schema} (views in {views}) to be looked at; next: "
        "chainbooks-ledger verify says whether the live books agree with themselves"
    )


def _print_entry(out: Console, difference: EntryDifference) -> None:
    live, rebuilt = difference.live, difference.rebuilt
    entry = live or rebuilt
    assert entry is not None
    place = f"{difference.partition.topic}/{difference.partition.number}"
    _say(out, f"DIFFERENT first in {place} at record {entry.seq}: {entry.contract} {entry.event} revision "
              f"{entry.revision}, block {entry.block_number}, tx {entry.tx_hash}, log {entry.log_index}")  # fmt: skip
    if live is None or rebuilt is None:
        _say(out, "  " + ("the live ledger does not have it" if live is None else "only the live ledger has it"))
        return
    for name, (one, other) in changed_fields(live, rebuilt).items():
        if name != "lines":
            _say(out, f"  {name}: live {one}, rebuilt {other}")
    _print_lines(out, live, rebuilt)


def _print_lines(out: Console, live: JournalEntry, rebuilt: JournalEntry) -> None:
    for number in range(max(len(live.lines), len(rebuilt.lines))):
        one, other = (e.lines[number] if number < len(e.lines) else None for e in (live, rebuilt))
        if one != other:
            _say(out, f"  line {number + 1}: live    {_line(one)}")
            _say(out, f"  line {number + 1}: rebuilt {_line(other)}")


def _line(line: Posting | None) -> str:
    return "-" if line is None else f"{line.amount} {line.asset}: debit {line.debit}, credit {line.credit}"


def _print_accounts(out: Console, comparison: Comparison) -> None:
    """Lines, not a table: codes and amounts are long, and have to be copied."""
    for difference in comparison.accounts:
        account = difference.live or difference.rebuilt
        assert account is not None
        _say(out, f"DIFFERENT account {account.code} {account.asset} (base units)")
        for name, one, other in _sums(difference):
            _say(out, f"  {name}: live {one}, rebuilt {other}")
    more = comparison.accounts_differing - len(comparison.accounts)
    if more:
        _say(out, f"and {more:,} more accounts")


def _sums(difference: AccountDifference) -> Iterator[tuple[str, str, str]]:
    """Name and both values of each sum that differs."""
    for name in ("debits", "credits", "final_debits", "final_credits"):
        one, other = (_sum(account, name) for account in (difference.live, difference.rebuilt))
        if one != other:
            yield name.replace("_", " "), one, other


def _sum(account: AccountAt | None, name: str) -> str:
    return "0" if account is None else str(getattr(account, name))


def _entry_document(difference: EntryDifference) -> dict[str, Any]:
    return {
        "topic": difference.partition.topic,
        "partition": difference.partition.number,
        "live": _entry_fields(difference.live),
        "rebuilt": _entry_fields(difference.rebuilt),
    }


def _entry_fields(entry: JournalEntry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    fields = {name: getattr(entry, name) for name in JournalEntry.__struct_fields__ if name != "lines"}
    fields["lines"] = [
        {"debit": line.debit, "credit": line.credit, "asset": line.asset, "amount": str(line.amount)}
        for line in entry.lines
    ]
    return fields


def _account_document(difference: AccountDifference) -> dict[str, Any]:
    account = difference.live or difference.rebuilt
    assert account is not None
    sums = {name.replace(" ", "_"): {"live": one, "rebuilt": other} for name, one, other in _sums(difference)}
    return {"account": account.code, "asset": account.asset, **sums}


def verify_document(chain: str, results: Sequence[Result]) -> dict[str, Any]:
    """The result for scripts."""
    return {
        "chain": chain,
        "passed": all(result.passed for result in results),
        "checks": [
            {
                "check": result.check.name,
                "compared": result.compared,
                "failing": result.failing,
                "failures": list(result.failures),
                "advice": None if result.passed else result.check.advice,
            }
            for result in results
        ],
    }


def print_verify(chain: str, results: Sequence[Result]) -> None:
    """A table of the checks; below it every failure, and what to do."""
    out = Console(soft_wrap=True)
    table = Table("check", "what was compared", "result", title=f"books of chain {chain}, against themselves")
    for result in results:
        table.add_row(result.check.name, result.compared, "ok" if result.passed else f"{result.failing:,} FAILED")
    cli.print_table(table)
    failed = [result for result in results if not result.passed]
    for result in failed:
        _say(out, f"FAILED {result.check.name}")
        for failure in result.failures:
            _say(out, f"  {failure}")
        if result.failing > len(result.failures):
            _say(out, f"  and {result.failing - len(result.failures):,} more")
        _say(out, f"  what to do: {result.check.advice}")
    _say(out, f"{len(results) - len(failed)} of {len(results)} checks passed")


def _say(out: Console, text: str) -> None:
    out.print(text, markup=False, highlight=False)
