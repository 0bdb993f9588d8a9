"""From a header's arrival at the indexer to its balances on another connection: pairs blocks and sums them up. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds over ``blocks`` blocks."""

    blocks: int
    p50_ms: float
    p99_ms: float
    max_ms: float


def pair(received_ms: Mapping[tuple[int, str], int], visible_ms: Mapping[int, float], *, blocks: range) -> list[float]:
    """Milliseconds from header to balance, for each block in the range that both sides saw.

    A number that a reorg used twice counts once, as it was first received and first seen.
    """
    first: dict[int, int] = {}
    for (number, _), at_ms in received_ms.items():
        first[number] = min(at_ms, first.get(number, at_ms))
    return [visible_ms[number] - first[number] for number in blocks if number in first and number in visible_ms]


def summarise(samples: list[float]) -> Latency | None:
    """None without samples. Percentiles are those of the nearest rank."""
    if not samples:
        return None
    ordered = sorted(samples)

    def percentile(hundredths: int) -> float:
        return ordered[-(-len(ordered) * hundredths // 100) - 1]

    return Latency(blocks=len(ordered), p50_ms=percentile(50), p99_ms=percentile(99), max_ms=ordered[-1])
