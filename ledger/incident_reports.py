"""How incidents look: a table and sentences for people, documents for scripts."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from ledger.adapters.incident_store import Incident
from ledger.incidents import Accepted, Shown


def document(incident: Incident) -> dict[str, Any]:
    """One incident for scripts."""
    return {
        "incident_id": incident.incident_id,
        "state": _state(incident),
        "accepted_at": None if incident.accepted_at is None else incident.accepted_at.isoformat(),
        "accepted_by": incident.accepted_by,
        "reason": incident.reason,
        "entries": incident.entries,
        "waiting": [
            {
                "topic": each.topic,
                "partition": each.partition,
                "offset": each.offset,
                "since": each.since.isoformat(),
                "reason": each.reason,
            }
            for each in incident.waiting
        ],
    }


def shown_document(found: Shown) -> dict[str, Any]:
    """With what it has changed so far; amounts are base units, debit less credit, as text."""
    effect = [
        {"account": each.account, "asset": each.asset, "net_base_units": str(each.net_base_units)}
        for each in found.effect
    ]
    return {**document(found.incident), "effect": effect}


def print_all(incidents: list[Incident]) -> None:
    """One line each."""
    out = Console(soft_wrap=True)
    if not incidents:
        _say(out, "no incidents: nothing has changed below finality")
        return
    table = Table("incident", "state", "entries", "partitions waiting", "accepted by", "at", "reason")
    for each in incidents:
        at = "-" if each.accepted_at is None else f"{each.accepted_at:%Y-%m-%d %H:%M:%S}Z"
        cells = (str(each.entries), str(len(each.waiting)), each.accepted_by or "-", at, each.reason or "-")
        table.add_row(each.incident_id, _state(each), *cells)
    out.print(table)


def print_one(found: Shown) -> None:
    """Who waits or accepted, and the accounts that it has changed."""
    out, incident = Console(soft_wrap=True), found.incident
    _say(out, f"incident {incident.incident_id}: {_state(incident)}, {incident.entries} entries posted")
    if incident.accepted_at is not None:
        at = f"{incident.accepted_at:%Y-%m-%d %H:%M:%S}Z"
        _say(out, f"accepted {at} by {incident.accepted_by}: {incident.reason}")
    for each in incident.waiting:
        _say(out, f"{each.topic}/{each.partition} waits at offset {each.offset}: {each.reason}")
    for line in found.effect:
        _say(out, f"{line.net_base_units:>+30} base units of {line.asset} on {line.account}")


def print_accepted(done: Accepted) -> None:
    """What happens next."""
    out, incident = Console(soft_wrap=True), done.incident
    if done.before:
        _say(
            out,
            f"incident {incident.incident_id} was accepted before, by {incident.accepted_by}: {incident.reason}; "
            "nothing has changed",
        )
        return
    _say(out, f"incident {incident.incident_id} is accepted by {incident.accepted_by}: {incident.reason}")
    _say(out, "running ledgers go on by themselves; see chainbooks-ledger status, and finance.incidents")


def _state(incident: Incident) -> str:
    return "waiting" if incident.accepted_at is None else "accepted"


def _say(out: Console, text: str) -> None:
    out.print(text, markup=False, highlight=False)
