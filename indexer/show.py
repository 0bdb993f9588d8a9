"""An incident for people and for scripts: what is taken back, what comes instead, what to do next. Prints nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table

if TYPE_CHECKING:
    from contracts.messages import BlockRef
    from indexer.core.incident import Counts
    from indexer.resolve import Outcome


def document(outcome: Outcome, *, chain: str) -> dict[str, Any]:
    """The same as ``rendered``, as JSON."""
    incident = outcome.incident
    return {
        "chain": chain,
        "incident_id": incident.incident_id,
        "resolved": outcome.resolved,
        "ours": _ref(incident.ours),
        "canonical": _ref(incident.canonical),
        "ancestor": _ref(incident.ancestor),
        "retracted_blocks": incident.retracted_blocks,
        "revoked": _counts(incident.revoked),
        "applied": _counts(outcome.applied),
    }


def rendered(outcome: Outcome, *, chain: str) -> RenderableType:
    """For a terminal."""
    incident = outcome.incident
    facts = Table(show_header=False, title=f"incident {incident.incident_id}, chain {chain}", title_justify="left")
    for what, ref in (
        ("published as final", incident.ours),
        ("canonical now", incident.canonical),
        ("common ancestor", incident.ancestor),
    ):
        facts.add_row(what, f"block {ref.number}  {ref.hash}")
    facts.add_row("blocks below finality", f"{incident.ours.number - incident.ancestor.number} looked at again")
    facts.add_row("blocks above finality", f"{incident.retracted_blocks} retracted, as in any reorg")
    done = outcome.resolved
    counts = Table("contract", "book", "revoked" if done else "to revoke", "applied" if done else "to apply")
    for key in sorted({*incident.revoked.events, *outcome.applied.events}):
        counts.add_row(*key, str(incident.revoked.events.get(key, 0)), str(outcome.applied.events.get(key, 0)))
    counts.add_row("rejected logs", "", str(incident.revoked.rejected), str(outcome.applied.rejected))
    return Group(facts, counts)


def next_steps(outcome: Outcome) -> str:
    """What the operator does now."""
    if not outcome.resolved:
        return "The chain is still latched; nothing was published."
    restart = (
        "The latch is lifted. Start chainbooks-indexer run again (an instance that latched does not go on by itself)."
    )
    if not outcome.incident.revoked.events and not outcome.applied.events:
        return restart
    return (
        f"{restart} The ledger stops at the events of this incident, until: "
        f"chainbooks-ledger incident accept {outcome.incident.incident_id} --reason TEXT"
    )


def _ref(ref: BlockRef) -> dict[str, Any]:
    return {"number": ref.number, "hash": ref.hash}


def _counts(counts: Counts) -> dict[str, Any]:
    events = [{"contract": key[0], "book": key[1], "count": count} for key, count in sorted(counts.events.items())]
    return {"events": events, "rejected": counts.rejected}
