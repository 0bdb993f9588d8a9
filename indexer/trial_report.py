"""What ``registry try`` found, as a document and for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from contracts.messages import asset_address
from contracts.posting import Rejection
from contracts.trial import Left, Tried

if TYPE_CHECKING:
    from indexer.authoring import TrialResult


def clean(found: TrialResult) -> bool:
    """Whether everything is posted and clearing came back to zero in every tx."""
    return not (found.rejected or found.left or _refused(found))


def document(found: TrialResult) -> dict[str, Any]:
    """For scripts; amounts are decimal strings of base units."""
    return {
        "chain_id": found.chain_id,
        "from_block": found.from_block,
        "to_block": found.to_block,
        "events": [_event(tried) for tried in found.tried],
        "quarantined": len(_refused(found)),
        "rejected": [
            {"block": r.block_number, "tx": r.tx_hash, "log": r.log_index, "code": r.code, "reason": r.reason}
            for r in found.rejected
        ],
        "clearing": [
            {
                "block": left.block_number,
                "tx": left.tx_hash,
                "account": left.account,
                "asset": left.asset,
                "base_units": str(left.amount),
                "goes_to": left.goes_to,
            }
            for left in found.left
        ],
    }


def show(found: TrialResult) -> None:
    """For people, on stdout."""
    out = Console(soft_wrap=True, highlight=False)
    for tried in found.tried:
        event = tried.event
        out.print(Text(f"{event.contract}.{event.event}", "bold"), f"block {event.block_number} log {event.log_index}")
        if isinstance(tried.outcome, Rejection):
            out.print(Text("  quarantined", "red"), Text(f"{tried.outcome.code}: {tried.outcome.reason}"))
            continue
        for line in tried.outcome:
            out.print(
                Text(f"  debit  {line.debit}\n  credit {line.credit}\n         {line.amount} {_short(line.asset)}")
            )
        if not tried.outcome:
            out.print("  posts nothing")
    for log in found.rejected:
        where = f"block {log.block_number} log {log.log_index}"
        out.print(Text("rejected", "red"), Text(f"{where} {log.code}: {log.reason}"))
    for left in found.left:
        out.print(Text("clearing", "yellow"), Text(_sentence(left)))
    out.print(
        f"blocks {found.from_block} to {found.to_block}: {len(found.tried)} events, {len(_refused(found))} would be "
        f"quarantined; {len(found.rejected)} logs cannot be decoded; clearing stays open {len(found.left)} times"
    )


def _refused(found: TrialResult) -> list[Tried]:
    return [tried for tried in found.tried if isinstance(tried.outcome, Rejection)]


def _event(tried: Tried) -> dict[str, Any]:
    event, outcome = tried.event, tried.outcome
    said: dict[str, Any] = {
        "block": event.block_number,
        "tx": event.tx_hash,
        "log": event.log_index,
        "contract": event.contract,
        "event": event.event,
        "book": event.book,
        "subject": event.subject,
        "args": event.args,
    }
    if isinstance(outcome, Rejection):
        return said | {"quarantined": {"code": outcome.code, "reason": outcome.reason}}
    lines = [{"debit": p.debit, "credit": p.credit, "asset": p.asset, "base_units": str(p.amount)} for p in outcome]
    return said | {"postings": lines}


def _sentence(left: Left) -> str:
    if left.amount > 0:
        what, then = "inflow that nobody claims", f"goes to {left.goes_to}"
    else:
        what, then = "outflow that nobody claims", "is a break"
    amount = f"{abs(left.amount)} {_short(left.asset)}"
    return f"block {left.block_number} tx {left.tx_hash} {left.account}: {what}, {amount}, {then}"


def _short(asset: str) -> str:
    return asset_address(asset)[1]
