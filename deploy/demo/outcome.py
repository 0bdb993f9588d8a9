"""Everything that a run found out, and its machine-readable summary."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from deploy.demo.actors import PEOPLE
from deploy.demo.books import Books
from deploy.demo.chain import DoneReorg
from deploy.demo.latency import Latency
from deploy.demo.plan import Plan
from deploy.demo.stage import Stage
from deploy.demo.tap import Heard


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a command that compares said: its exit code and its JSON."""

    exit_code: int
    document: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentWithdrawal:
    """The one break that has to be found. Base units."""

    block: int
    book: str
    asset: str  # symbol
    decimals: int
    amount: int
    owner: str  # address, lower case


@dataclass(slots=True, kw_only=True)
class Outcome:
    """One run."""

    plan: Plan
    stage: Stage
    heard: Heard
    reorg: DoneReorg
    silent: SilentWithdrawal
    books: Books
    reconciled: Verdict
    checked: Verdict
    latency: Latency | None
    calls: int
    head: int
    head_hash: str
    final: int
    elapsed_s: float
    phases: dict[str, float]  # title → seconds
    problems: tuple[str, ...] = field(default=())

    def summary(self) -> dict[str, Any]:
        """JSON-ready; keys are stable."""
        return {
            "ok": not self.problems,
            "problems": list(self.problems),
            "seed": self.plan.seed,
            "digest": self.books.digest,
            "head": {"number": self.head, "hash": self.head_hash, "final": self.final},
            "people": len(PEOPLE),
            "calls": self.calls,
            "events": {kind: count for kind, count in sorted(self.heard.kinds.items()) if count},
            "published": dict(self.heard.ops),
            "journal": {
                "posted": self.books.posted,
                "reversed": self.books.reversed,
                "transfers": self.books.transfers,
            },
            "reorg": asdict(self.reorg),
            "silent_withdrawal": asdict(self.silent),
            "trial_balance": list(self.books.trial_balance),
            "breaks": list(self.books.breaks),
            "reconciliation": self.reconciled.document,
            "check": self.checked.document,
            "latency_ms": asdict(self.latency) if self.latency else None,
            "seconds": {"total": round(self.elapsed_s, 1), **{t: round(s, 1) for t, s in self.phases.items()}},
            "topics": self.stage.topic_prefix,
            "database": self.stage.database,
        }
