"""What is wrong with a run, in sentences; none when all is as it has to be. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deploy.demo.business import MONEY_EVENTS_MIN
from deploy.demo.outcome import Outcome

MONEY_EVENTS: Final = (
    "Deposited",
    "InvoicePaid",
    "PaymentAuthorized",
    "PaymentCaptured",
    "PaymentVoided",
    "SubscriptionCharged",
    "Refunded",
    "InternalTransfer",
    "Withdrawn",
    "Adjusted",
    "UnattributedSwept",
)
LINES_MAX: Final = 4  # of each part


def problems(outcome: Outcome) -> tuple[str, ...]:
    """Every problem, each with what it is about and where to look."""
    parts = (_coverage, _reorg, _books, _breaks, _reconciliation, _check)
    return tuple(line for part in parts for line in _limited(list(part(outcome))))


def _limited(lines: list[str]) -> list[str]:
    """The first few; summary.json has all that they are made of."""
    if len(lines) <= LINES_MAX:
        return lines
    return [*lines[:LINES_MAX], f"and {len(lines) - LINES_MAX} more like these: summary.json has all of them"]


def money_events(outcome: Outcome) -> int:
    """The gateway's money events that stand."""
    return sum(outcome.heard.kinds[f"payment-gateway.{name}"] for name in MONEY_EVENTS)


def _coverage(outcome: Outcome) -> Iterator[str]:
    missing = [name for name in MONEY_EVENTS if not outcome.heard.kinds[f"payment-gateway.{name}"]]
    if missing:
        yield f"no event of these kinds came over Kafka: {', '.join(missing)}"
    if (count := money_events(outcome)) < MONEY_EVENTS_MIN:
        yield f"only {count} money events came over Kafka; at least {MONEY_EVENTS_MIN} belong to the demo"


def _reorg(outcome: Outcome) -> Iterator[str]:
    reorg, heard = outcome.reorg, outcome.heard
    taken_back = {event.tx_hash for event in heard.retracted}
    standing: dict[str, set[int]] = {}
    for event in heard.standing.values():
        standing.setdefault(event.tx_hash, set()).add(event.block_number)
    if reorg.dropped_tx not in taken_back:
        yield f"the dropped payment {reorg.dropped_tx} was never retracted on Kafka"
    if reorg.dropped_tx in standing:
        yield f"the dropped payment {reorg.dropped_tx} still stands on Kafka"
    if reorg.moved_tx not in taken_back or standing.get(reorg.moved_tx) != {reorg.moved_to_block}:
        yield f"the moved payment {reorg.moved_tx} stands in {standing.get(reorg.moved_tx)}, not {reorg.moved_to_block}"
    if heard.ops["retracted"] != outcome.books.reversed:
        yield (
            f"{heard.ops['retracted']} retractions came over Kafka, but the journal has {outcome.books.reversed} "
            "contra entries: see finance.journal where action = 'reverse'"
        )


def _books(outcome: Outcome) -> Iterator[str]:
    heard, booked = set(outcome.heard.standing), set(outcome.books.events)
    if heard != booked:
        yield f"{len(heard ^ booked)} events stand on Kafka or in the journal only: see finance.journal"
    for row in outcome.books.quarantine:
        yield f"quarantine: {row['contract']}.{row['event']} in block {row['block_number']}: {row['reason']}"
    for row in outcome.books.incomplete:
        yield f"incomplete: {row['subject']}: {row['detail']} (finance.completeness)"


def _breaks(outcome: Outcome) -> Iterator[str]:
    silent = outcome.silent
    found = 0
    for row in outcome.books.breaks:
        same = row["book"] == silent.book and row["asset"] == silent.asset
        same = same and abs(int(row["difference_base_units"])) == silent.amount
        if same and row["kind"] == "clearing" and row["began_in_block"] == silent.block:
            found += 1
        elif not (same and row["kind"] == "claim"):
            yield f"unexpected break: {row['kind']} {row['subject']} {row['difference']} {row['asset']}: finance.breaks"
    if found != 1:
        yield (
            f"the silent withdrawal of block {silent.block} was found {found} times instead of once: "
            "see finance.breaks where kind = 'clearing'"
        )


def _reconciliation(outcome: Outcome) -> Iterator[str]:
    """All comparisons are equal but the two that the silent withdrawal leaves too high: its owner's and the sum."""
    silent, document = outcome.silent, outcome.reconciled.document
    if document["block"]["number"] != outcome.final:
        yield f"reconciled at block {document['block']['number']}, not at the final block {outcome.final}"
    if {item["kind"] for item in document["items"]} != {"custody", "claim", "count"}:
        yield "reconciliation did not compare custody, claims and counts: see chainbooks-ledger reconcile --all"
    explained = set()
    for item in document["differences"]:
        owners = f"liabilities:{silent.book}:account:{silent.owner}:available"
        name = "owner" if item["subject"] == owners else "sum" if "totalDeposits" in item["subject"] else ""
        if item["book"] == silent.book and item["difference"] == str(silent.amount) and name:
            explained.add(name)
        else:
            reason = item["problem"] or f"ledger {item['ledger']}, chain {item['onchain']}"
            yield f"unexpected difference: {item['kind']} {item['subject']} {item['asset']}: {reason} (base units)"
    if explained != {"owner", "sum"}:
        yield "the silent withdrawal is not seen in its owner's balance and in totalDeposits of the vault"


def _check(outcome: Outcome) -> Iterator[str]:
    for line in outcome.checked.document["differences"]:
        yield f"independent check: {line}"
