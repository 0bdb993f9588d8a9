"""The blows of a run, drawn from its seed: what is killed when, and what happens while it is down. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PARTS: Final = ("indexer", "ledger", "kafka", "postgres")
ROUND: Final = (*PARTS, "indexer", "indexer", "ledger")
"""What a round strikes; services come back sooner than servers, so they can be hit more often."""

REORG_DEPTH_MAX: Final = 8  # anvil's finalized block is that far behind its head: deeper would be a finality violation
DOWN_S_MAX: Final = 2.0
PAUSE_S_MAX: Final = 2.0
AIM_S_MAX: Final = 0.15
AGAIN_S_MAX: Final = 6.0  # starting, waiting for the lease and catching up take about as long


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """One ``kill -9`` of one or two parts at once."""

    parts: tuple[str, ...]
    pause_s: float  # after everything was ready again
    aim_s: float  # from the next block to the kill: so that publishing and folding it is cut off, sometimes
    down_s: float  # from the kill to the start
    reorg_depth: int  # of a reorg while they are down; 0: none
    again_after_s: float | None  # the first one is killed once more, so long after its start, ready or not

    def __str__(self) -> str:
        words = [f"kill {' and '.join(self.parts)}, down {self.down_s:.1f} s"]
        words += [f"reorg of {self.reorg_depth} meanwhile"] if self.reorg_depth else []
        words += [f"again {self.again_after_s:.1f} s after the start"] if self.again_after_s is not None else []
        return ", ".join(words)


def blows(seed: int) -> Iterator[Blow]:
    """Without end: rounds in random order."""
    rng = random.Random(f"blows {seed}")
    while True:
        for turn, part in enumerate(rng.sample(ROUND, len(ROUND))):
            others = [other for other in PARTS if other != part]
            yield Blow(
                parts=(part, rng.choice(others)) if rng.random() < 0.25 else (part,),
                pause_s=rng.uniform(0.2, PAUSE_S_MAX),
                aim_s=rng.uniform(0.0, AIM_S_MAX),
                down_s=rng.uniform(0.0, DOWN_S_MAX),
                reorg_depth=rng.randint(1, REORG_DEPTH_MAX) if turn == 0 or rng.random() < 0.6 else 0,
                again_after_s=rng.uniform(0.0, AGAIN_S_MAX) if rng.random() < 0.4 else None,
            )


def service_settings(seed: int) -> dict[str, str]:
    """Settings that bring failures about sooner than the defaults; some differ from seed to seed."""
    rng = random.Random(f"settings {seed}")
    start_timeout_s = str(rng.choice((4, 120)))  # with 4 a service that finds a dependency away exits with 3
    return {
        "CHAINBOOKS_INDEXER__LEASE_S": "2",
        "CHAINBOOKS_INDEXER__KAFKA_TIMEOUT_S": str(rng.choice((4, 15))),
        "CHAINBOOKS_INDEXER__START_TIMEOUT_S": start_timeout_s,
        "CHAINBOOKS_LEDGER__INSTANCE_ID": "chaos",
        "CHAINBOOKS_LEDGER__SESSION_TIMEOUT_S": "10",
        "CHAINBOOKS_LEDGER__START_TIMEOUT_S": start_timeout_s,
    }
