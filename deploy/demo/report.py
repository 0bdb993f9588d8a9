"""What the demo prints at the end, for 100 columns; without colour when it is piped."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from contracts.units import format_units
from deploy.demo.actors import account_name
from deploy.demo.judge import MONEY_EVENTS, money_events
from deploy.demo.outcome import Outcome
from deploy.demo.view import WIDTH
from deploy.local.paths import REPOSITORY

FRACTION_DIGITS: Final = 6  # shown; the database has all of them
NAMES_OF_COMPARISONS: Final = {
    "custody": "custody = balanceOf, native balance",
    "claim": "claims = getters",
    "count": "money events = eventSeq",
}
NAMES_OF_KINDS: Final = {"account": "accounts", "onchain": "on chain", "contract": "unexplained outflow"}


def print_report(outcome: Outcome, console: Console) -> None:
    """Everything that a reader should see, the verdict last."""
    width = min(WIDTH, console.width)
    for part in _parts(outcome):
        console.print(part, width=width, highlight=False)


def _parts(outcome: Outcome) -> Iterator[RenderableType]:
    yield from _section("Trial balance", f"final, through block {outcome.final}")
    yield _trial_balance(outcome)
    yield from _section("Largest accounts", "final, what the gateway and the vault owe")
    yield _largest(outcome)
    yield from _section("Reconciliation with the chain", f"at final block {outcome.final}")
    yield from _reconciliation(outcome)
    yield from _section("Reorg", f"depth {outcome.reorg.depth}")
    yield _reorg(outcome)
    yield from _section("Events", f"{sum(outcome.heard.kinds.values())} stand, of {outcome.calls} calls")
    yield _events(outcome)
    yield from _section("Latency", "header received by the indexer → balance visible on another connection")
    yield _latency(outcome)
    yield from _section("Where to look next")
    yield _next(outcome)
    yield from _section("Result")
    yield _result(outcome)


def _section(title: str, note: str = "") -> Iterator[RenderableType]:
    yield Text()
    text = Text(title, style="bold")
    if note:
        text.append(f"  {note}", style="not bold dim")
    yield Rule(text, align="left", style="dim", characters="─")


def amount(text: str | None) -> str:
    """A decimal from the database with thousands separators and FRACTION_DIGITS digits, cut, not rounded.

    ``…`` or a blank follows, so that columns of it line up.
    """
    if text is None:
        return "?"
    sign, whole, fraction = _split(text)
    more = "…" if fraction[FRACTION_DIGITS:].strip("0") else " "
    return f"{sign}{int(whole):,}.{fraction[:FRACTION_DIGITS].ljust(FRACTION_DIGITS, '0')}{more}"


def _split(text: str) -> tuple[str, str, str]:
    plain = f"{Decimal(text):f}"
    sign = "-" if plain.startswith("-") else ""
    whole, _, fraction = plain.removeprefix("-").partition(".")
    return sign, whole, fraction


def _table(*columns: str, right: Sequence[int] = ()) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position in right else "left", no_wrap=True)
    return table


def _trial_balance(outcome: Outcome) -> Table:
    table = _table("asset", "book", "class", "what", "accounts", "debit", "credit", right=(4, 5, 6))
    by_asset: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in outcome.books.trial_balance:
        by_asset[row["asset"]].append(row)
    for asset, rows in by_asset.items():
        for number, row in enumerate(rows):
            table.add_row(
                asset if number == 0 else "",
                row["book"],
                row["class"],
                NAMES_OF_KINDS.get(row["kind"], row["kind"]),
                str(row["accounts"]),
                _blank_zero(row["debit"]),
                _blank_zero(row["credit"]),
            )
        sums = [amount(f"{_total(row[side] for row in rows):f}") for side in ("debit", "credit")]
        table.add_row("", "", "", "total", "", *sums, style="bold", end_section=True)
    return table


def _total(values: Iterator[str]) -> Decimal:
    """Exact: scaled to integers, because Decimal addition rounds at 28 digits."""
    scaled = [int(Decimal(value).scaleb(18).to_integral_value()) for value in values]
    return Decimal(format_units(sum(scaled), 18))


def _blank_zero(text: str) -> str:
    return "" if Decimal(text) == 0 else amount(text)


def _largest(outcome: Outcome) -> Table:
    table = _table("asset", "owner", "balance", "account", right=(2,))
    last = ""
    for row in outcome.books.largest:
        name = account_name(row["subject"]) or row["subject"][:14]
        code = row["account"]
        table.add_row(
            row["asset"] if row["asset"] != last else "",
            name,
            amount(row["balance"]),
            Text(code if len(code) <= 62 else f"{code[:44]}…{code[-16:]}", style="dim"),
        )
        last = row["asset"]
    return table


def _reconciliation(outcome: Outcome) -> Iterator[RenderableType]:
    items = outcome.reconciled.document["items"]
    table = _table("chainbooks-ledger reconcile", "book", "compared", "equal", "differ", right=(2, 3, 4))
    groups = Counter((item["kind"], item["book"]) for item in items)
    equal = Counter((item["kind"], item["book"]) for item in items if item["equal"])
    for kind, book in sorted(groups, key=lambda group: (group[1], *group)):
        differ = groups[kind, book] - equal[kind, book]
        style = "yellow" if differ else ""
        cells = (str(groups[kind, book]), str(equal[kind, book]), str(differ or ""))
        table.add_row(NAMES_OF_COMPARISONS.get(kind, kind), book, *cells, style=style)
    yield table
    yield from _breaks(outcome)
    checked = outcome.checked.document
    said = "all equal" if not checked["differences"] else f"{len(checked['differences'])} DIFFERENCES"
    yield Text(
        f"Independent check, from raw receipts: {checked['balances']} balances, {checked['receipts_events']} events, "
        f"{checked['money_events']} numbered: {said}"
    )


def _breaks(outcome: Outcome) -> Iterator[Text]:
    """Unexplained outflows first; the claims that they leave too high below them."""
    for row in outcome.books.breaks:
        if row["kind"] != "clearing":
            continue
        tx = f", tx {row['began_in_tx'][:10]}…" if row["began_in_tx"] else ""
        yield Text(
            f"FOUND  block {row['began_in_block']}: {amount(row['difference']).strip()} {row['asset']} left book "
            f"{row['book']}: {row['detail']}{tx}",
            style="bold yellow",
        )
    for row in outcome.books.breaks:
        if row["kind"] != "clearing":
            off = f"{amount(row['difference']).strip()} {row['asset']}"
            yield Text(f"       off by {off}: {row['kind']} {_short(row['subject'])}", style="yellow")


def _short(text: str) -> str:
    """Addresses and ids in a subject, cut."""
    return re.sub(r"0x([0-9a-f]{8})[0-9a-f]{8,}([0-9a-f]{4})", r"0x\1…\2", text)


def _reorg(outcome: Outcome) -> Table:
    reorg, heard = outcome.reorg, outcome.heard
    table = _table("", "")
    table.show_header = False
    dropped = [event for event in heard.retracted if event.tx_hash == reorg.dropped_tx]
    moved = [event for event in heard.standing.values() if event.tx_hash == reorg.moved_tx]
    first, last = reorg.common_ancestor + 1, reorg.common_ancestor + reorg.depth
    table.add_row("replaced", f"blocks {first} to {last}")
    table.add_row("dropped", f"{_paid(dropped)}, tx {reorg.dropped_tx[:10]}…, was in block {reorg.dropped_from_block}")
    moving = f"from block {reorg.moved_from_block} to block {reorg.moved_to_block}"
    table.add_row("moved", f"{_paid(moved)}, tx {reorg.moved_tx[:10]}…, {moving}")
    table.add_row("Kafka", f"{heard.ops['retracted']} events retracted, of {heard.ops['applied']} applied")
    table.add_row("journal", f"{outcome.books.reversed} contra entries, beside {outcome.books.posted} that post")
    return table


def _paid(events: list[Any]) -> str:
    for event in events:
        if event.event == "InvoicePaid":
            paid = event.amounts[0]
            value = amount(format_units(int(paid.base_units), paid.decimals)).strip()
            return f"payment of {value} {paid.symbol} to {account_name(event.args['merchantId'])}"
    return "payment"


def _events(outcome: Outcome) -> Table:
    table = _table(*("",) * 6, right=(1, 3, 5))
    table.show_header = False
    kinds = outcome.heard.kinds
    cells = [(name, kinds[f"payment-gateway.{name}"]) for name in MONEY_EVENTS]
    cells.append(("gateway, money", money_events(outcome)))
    cells += [(f"vault.{name}", kinds[f"legacy-vault.{name}"]) for name in ("Deposited", "Withdrawn")]
    cells.append(("token.Transfer", kinds["erc20.Transfer"]))
    for start in range(0, len(cells), 3):
        row = cells[start : start + 3]
        table.add_row(*(text for name, count in row for text in (name, str(count))))
    return table


def _latency(outcome: Outcome) -> Text:
    latency = outcome.latency
    if latency is None:
        return Text("not measured: no block was seen on both sides", style="yellow")
    return Text(
        f"p50 {latency.p50_ms:.0f} ms   p99 {latency.p99_ms:.0f} ms   max {latency.max_ms:.0f} ms   "
        f"over {latency.blocks} blocks"
    )


def _next(outcome: Outcome) -> Table:
    stage = outcome.stage
    table = _table("", "")
    table.show_header = False
    table.columns[1].no_wrap = False
    table.columns[1].overflow = "fold"
    python = ".venv/bin/python" if (REPOSITORY / ".venv").exists() else "python"
    config = f"--config {_shown(stage.config)}"
    table.add_row("the books in SQL", f"{_shown(stage.psql)}   then: \\dv finance.*")
    table.add_row("every balance", f"{python} -m ledger balances {config}")
    table.add_row("what is published", f"{python} -m indexer status {config}")
    table.add_row("the topic, line by line", f"{python} -m deploy.demo.tail {config}")
    table.add_row("what the services said", f"{_shown(stage.folder)}/indexer.log, {_shown(stage.folder)}/ledger.log")
    table.add_row("another business", f"make demo SEED={outcome.plan.seed + 1}")
    return table


def _shown(path: Path) -> str:
    return str(path).removeprefix(f"{REPOSITORY}/")


def _result(outcome: Outcome) -> Text:
    text = Text()
    phases = ", ".join(f"{title} {seconds:.1f}" for title, seconds in outcome.phases.items())
    text.append(f"seed {outcome.plan.seed}, head {outcome.head} {outcome.head_hash[:18]}…\n")
    text.append(f"digest of the books {outcome.books.digest}\n")
    text.append(f"{outcome.elapsed_s:.1f} s: {phases}\n", style="dim")
    if not outcome.problems:
        text.append("✔ the books equal the chain; the silent withdrawal was found, and nothing else", style="green")
        return text
    text.append("✘ not as it has to be:\n", style="bold red")
    for problem in outcome.problems:
        text.append(f"  {_short(problem)}\n", style="red")
    return text
