"""What an operator does about an incident: look at it, accept it. Changes below finality wait for that.

Accepting writes one row and nothing else: the partitions that wait notice by themselves, within seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from ledger.adapters import books, incident_store
from ledger.adapters.incident_store import Effect, Incident
from ledger.adapters.postgres import close, connect
from ledger.errors import ConfigurationRefused
from ledger.settings import LedgerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One incident, and what it has changed so far."""

    incident: Incident
    effect: tuple[Effect, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An incident that is accepted now; ``before``: it was already."""

    incident: Incident
    before: bool


async def read_all(settings: LedgerSettings) -> list[Incident]:
    """Incidents that wait, and those that were accepted. Raises DatabaseUnavailable, ConfigurationRefused."""
    async with _books(settings) as connection:
        return await incident_store.read_incidents(connection, settings.chain.id)


async def read_one(settings: LedgerSettings, incident_id: str) -> Shown:
    """Raises DatabaseUnavailable, and ConfigurationRefused when nobody knows it."""
    chain_id = settings.chain.id
    async with _books(settings) as connection:
        known = {each.incident_id: each for each in await incident_store.read_incidents(connection, chain_id)}
        incident = _named(known, incident_id)
        return Shown(
            incident=incident, effect=tuple(await incident_store.read_effect(connection, chain_id, incident_id))
        )


async def accept(settings: LedgerSettings, incident_id: str, *, by: str, reason: str) -> Accepted:
    """Accepts what a partition waits for; an id that none waits for is refused, it may be mistyped.

    Raises DatabaseUnavailable, ConfigurationRefused.
    """
    if not by.strip() or not reason.strip():
        raise ConfigurationRefused("--reason and --by say who accepts it and why: they cannot be empty")
    chain_id = settings.chain.id
    async with _books(settings) as connection:
        known = {each.incident_id: each for each in await incident_store.read_incidents(connection, chain_id)}
        _named(known, incident_id)
        new = await incident_store.accept(connection, chain_id, incident_id, by=by.strip(), reason=reason.strip())
        (incident,) = await incident_store.read_incidents(connection, chain_id, incident_id)
    return Accepted(incident=incident, before=not new)


@asynccontextmanager
async def _books(settings: LedgerSettings) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(settings.postgres.dsn.get_secret_value(), name="chainbooks-ledger incident")
    try:
        await books.check_schema(connection)
        yield connection
    finally:
        await close(connection)


def _named(known: dict[str, Incident], incident_id: str) -> Incident:
    if (found := known.get(incident_id)) is not None:
        return found
    waiting = sorted(name for name, each in known.items() if each.accepted_at is None)
    raise ConfigurationRefused(
        f"no partition waits for incident {incident_id!r}; "
        + (f"they wait for: {', '.join(waiting)}" if waiting else "none waits for any")
    )
