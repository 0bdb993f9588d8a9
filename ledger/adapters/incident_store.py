"""Incidents in the database: which there are, what they have changed, and the one row that accepts one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from ledger.adapters.postgres import translated
from ledger.adapters.statements import statements

INCIDENTS: Final = statements("incidents")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A partition that does not go on before its incident is accepted."""

    topic: str
    partition: int
    offset: int
    since: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A change of the chain below its finality, as far as the books know it."""

    incident_id: str
    entries: int  # posted so far
    waiting: tuple[Waiting, ...]
    accepted_at: datetime | None
    accepted_by: str | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """By how much an incident has changed one account so far."""

    account: str
    asset: str
    net_base_units: int  # debit less credit


async def read_incidents(
    connection: asyncpg.Connection, chain_id: int, incident_id: str | None = None
) -> list[Incident]:
    """All of the chain, or the one that is named. Raises DatabaseUnavailable."""
    with translated("incidents cannot be read"):
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            known = await connection.fetch(INCIDENTS["known"], chain_id, incident_id)
            waiting = await connection.fetch(INCIDENTS["waiting"], chain_id)
    return [
        Incident(
            incident_id=row["incident_id"],
            entries=row["entries"],
            waiting=tuple(_waiting(each) for each in waiting if each["incident_id"] == row["incident_id"]),
            accepted_at=row["accepted_at"],
            accepted_by=row["accepted_by"],
            reason=row["reason"],
        )
        for row in known
    ]


async def read_effect(connection: asyncpg.Connection, chain_id: int, incident_id: str) -> list[Effect]:
    """Accounts that it has changed. Raises DatabaseUnavailable."""
    with translated("what an incident has changed cannot be read"):
        rows = await connection.fetch(INCIDENTS["effect"], chain_id, incident_id)
    return [
        Effect(account=row["account"], asset=row["asset"], net_base_units=int(row["net_base_units"])) for row in rows
    ]


async def accept(connection: asyncpg.Connection, chain_id: int, incident_id: str, *, by: str, reason: str) -> bool:
    """Writes the acceptance down for ever. False when there was one already: it stays. Raises DatabaseUnavailable."""
    with translated("an incident cannot be accepted"):
        return await connection.fetchval(INCIDENTS["accept"], chain_id, incident_id, by, reason) is not None


def _waiting(row: Any) -> Waiting:
    return Waiting(
        topic=row["topic"],
        partition=row["partition"],
        offset=row["stopped_offset"],
        since=row["stopped_at"],
        reason=row["stopped_reason"],
    )
