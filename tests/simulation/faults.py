"""What goes wrong, how often, and how often it has: every fault has a name, and none may stay at zero in the CI set."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Final

CHANCES: Final[dict[str, float]] = {
    # per call of a node
    "node drops a reply": 0.004,
    "node answers null": 0.004,
    "node says finalized above latest": 0.004,
    "node's finalized tag regresses": 0.01,
    # per kafka_tx
    "kafka: a send fails before the commit": 0.025,
    "kafka: commit refused, kafka_tx left open": 0.015,
    "kafka: commit times out after it committed": 0.025,
    "kafka: commit is delayed beyond the client's timeout": 0.02,
    "kafka: kafka_tx times out and surfaces as fenced": 0.015,
    "kafka: producer is wedged": 0.012,
    # per call
    "kafka: producer cannot be opened": 0.05,
    "kafka: broker away for a reader": 0.02,
    "kafka: last stable offset is stale for a reader": 0.2,
    "kafka: poll fails": 0.004,
    "kafka: poll delivers again": 0.015,
    "kafka: poll hands out the old position before the seek": 0.5,
    "kafka: poll skips records": 0.004,
    "kafka: offset out of range": 0.002,
    # per statement or connection
    "postgres: connection refused": 0.03,
    "postgres: connection dropped": 0.004,
    "postgres: connection dropped after the commit": 0.01,
}
"""Chance per opportunity. What is decided by a step of the world is not here."""

STEPS: Final = (
    "chain: fork",
    "chain: deep fork",
    "chain: orphan",
    "chain: flip-flop",
    "chain: branch ends lower",
    "chain: finality stalls",
    "chain: finality jumps",
    "chain: safe regresses",
    "chain: tx mined again in another block",
    "node lags",
    "node serves a stale branch",
    "node serves a foreign branch",
    "node times out",
    "node omits logs though the bloom has them",
    "node refuses a range",
    "kafka: rebalance",
    "kafka: member expelled while it lives",
    "kafka: state topic compacted",
    "kafka: zombie producer fenced",
    "indexer killed",
    "indexer stopped in order",
    "indexer stands by",
    "indexer superseded",
    "ledger killed",
    "ledger killed inside a db_tx",
    "ledger stopped in order",
    "process paused",
    "ledger: zombie writer fenced",
    "postgres: deadlock",
    "postgres: serialisation failure",
    "postgres: waits for a lock",
)
"""Faults that the world brings about by itself, or that show as a consequence."""


class Faults:
    """Decides and counts. ``on`` is False while the world settles."""

    def __init__(self, pick: random.Random, trace: Callable[[str], None]) -> None:
        self._pick = pick
        self._trace = trace
        self.on = True
        self.counts: Counter[str] = Counter()
        self.unexpected: list[str] = []  # what must never be; looked at after every step

    def happens(self, name: str) -> bool:
        """Whether this fault happens now; counted when it does."""
        if not self.on or self._pick.random() >= CHANCES[name]:
            return False
        self.counts[name] += 1
        self._trace(f"! {name}")
        return True

    def count(self, name: str) -> None:
        """Something from STEPS has happened."""
        assert name in STEPS, name
        self.counts[name] += 1
        self._trace(f"! {name}")


def all_names() -> tuple[str, ...]:
    """Every fault there is."""
    return (*CHANCES, *STEPS)
