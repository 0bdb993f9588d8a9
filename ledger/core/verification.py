"""What verify looks at, in which words it tells, and what to do about a failure. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

RESTORE: Final = (
    "somebody changed the books outside of the ledger: stop it, keep the database for the investigation, and rebuild "
    "(chainbooks-ledger rebuild --into SCHEMA) to see what is right"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One law of the books. ``statement`` names its SQL; None: the record chain, which is recomputed here."""

    name: str
    compares: str  # with fields of ``sizes`` in braces
    statement: str | None
    advice: str = RESTORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a check found. ``failures`` are the first few, readable; ``failing`` counts all of them."""

    check: Check
    compared: str
    failing: int
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.failing


CHECKS: Final = (
    Check(
        name="record chain",
        compares="{entries:,} entries hashed again, with {batches:,} batches and {streams} streams",
        statement=None,
    ),
    Check(name="lines of entries", compares="{entries:,} entries with {transfers:,} transfers", statement="lines"),
    Check(name="accounts of transfers", compares="{transfers:,} transfers", statement="line_accounts"),
    Check(
        name="debits = credits",
        compares="{accounts:,} balances in {assets:,} assets, latest and final",
        statement="trial",
        advice="the next check says which account's balance is not the sum of its postings",
    ),
    Check(
        name="balances = postings",
        compares="{accounts:,} balances, latest and final, with {transfers:,} transfers",
        statement="balances",
    ),
    Check(name="ordinals", compares="{entries:,} entries, by event", statement="ordinals"),
    Check(name="contra entries", compares="{contras:,} contra entries with their originals", statement="contras"),
    Check(name="stream positions", compares="{streams} streams with entries and batches", statement="streams"),
    Check(name="places of entries", compares="{entries:,} entries with their batches", statement="entry_places"),
    Check(name="batches in a row", compares="{batches:,} batches", statement="batch_spans"),
    Check(
        name="promotion",
        compares="final block {final_number} with {streams} streams and its history",
        statement="promotion",
    ),
    Check(
        name="clearing",
        compares="{clearing:,} clearing accounts with open breaks",
        statement="clearing",
        advice="a final clearing balance without its break was not judged: look at that account's finance."
        "account_statement, then " + RESTORE,
    ),
    Check(name="quarantine", compares="{quarantined:,} quarantined records with streams and entries",
          statement="quarantine"),
    Check(name="incidents", compares="{entries:,} entries with {incidents:,} accepted incidents",
          statement="incidents"),
    Check(
        name="descriptions",
        compares="{entries:,} entries with {descriptions:,} descriptions",
        statement="descriptions",
        advice="the description must come back before anything is posted with it again: restart chainbooks-ledger "
        "run, which reads the registry topic; if it is not there, " + RESTORE,
    ),
)  # fmt: skip


def compared(check: Check, sizes: Mapping[str, int | None]) -> str:
    """What was compared, with its counts."""
    return check.compares.format_map({name: "-" if size is None else size for name, size in sizes.items()})
