"""The run's books, read with the reader's role through the finance views. Nothing here writes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import asyncpg

from deploy.demo.statements import STATEMENTS

LARGEST_PER_ASSET: Final = 4
TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the ledger says at the end. Amounts are text in units of the asset, or in base units where named so."""

    trial_balance: tuple[dict[str, Any], ...]
    largest: tuple[dict[str, Any], ...]
    breaks: tuple[dict[str, Any], ...]
    quarantine: tuple[dict[str, Any], ...]
    incomplete: tuple[dict[str, Any], ...]
    posted: int  # entries that post
    reversed: int  # contra entries
    transfers: int
    events: tuple[str, ...]  # ids of those that stand
    digest: str  # of final balances and standing events


async def read_books(dsn: str) -> Books:
    """One snapshot of everything. Raises asyncpg.PostgresError, OSError."""
    connection = await asyncpg.connect(dsn, timeout=TIMEOUT_S)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):

            async def rows(name: str, *args: object) -> tuple[dict[str, Any], ...]:
                return tuple(dict(row) for row in await connection.fetch(STATEMENTS[name], *args, timeout=TIMEOUT_S))

            journal = (await rows("journal"))[0]
            balances = [(row["account"], row["asset_code"], row["net"]) for row in await rows("balances", "final")]
            events = tuple(row["event_id"] for row in await rows("standing_events"))
            return Books(
                trial_balance=await rows("trial_balance"),
                largest=await rows("largest", LARGEST_PER_ASSET),
                breaks=await rows("breaks"),
                quarantine=await rows("quarantine"),
                incomplete=await rows("incomplete"),
                posted=journal["posted"],
                reversed=journal["reversed"],
                transfers=journal["transfers"],
                events=events,
                digest=digest(balances, events),
            )
    finally:
        await connection.close()


def digest(balances: list[tuple[str, str, str]], events: tuple[str, ...]) -> str:
    """sha256 over the sorted final balances (base units, zeros left out) and the sorted ids of standing events."""
    lines = [f"{account} {asset} {int(Decimal(net))}" for account, asset, net in sorted(balances) if Decimal(net) != 0]
    lines += sorted(events)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
