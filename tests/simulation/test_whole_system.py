"""The whole system from a seed: a fixed set and a few fresh ones, and none of the faults may stay out.

``SIMULATION_SECONDS`` bounds the time that this takes (default 50); ``make simulate-long`` is for more.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator

import pytest

from tests.simulation.arena import Arena
from tests.simulation.faults import all_names

SECONDS = float(os.environ.get("SIMULATION_SECONDS", "50"))
FIXED_SEEDS = range(1, 13)
FRESH_SEEDS_MAX = 8
STEPS = 400


@pytest.fixture(scope="module")
def arena(postgres_admin_url: str) -> Iterator[Arena]:
    with Arena(postgres_admin_url) as arena:
        yield arena


def run(arena: Arena, seed: int) -> None:
    try:
        arena.run(seed, STEPS)
    except BaseException as exc:
        exc.add_note(f"make simulate SEED={seed} STEPS={STEPS}")
        raise


def test_every_history_ends_with_books_that_equal_the_chain(arena: Arena) -> None:
    began = time.monotonic()
    for seed in FIXED_SEEDS:
        run(arena, seed)
    fresh = [secrets.randbelow(10**9) for _ in range(FRESH_SEEDS_MAX)]
    for seed in fresh:
        if time.monotonic() - began > SECONDS:
            break
        print(f"fresh seed {seed}")
        run(arena, seed)
    for name in all_names():
        print(f"{arena.counts[name]:8}  {name}")
    assert [name for name in all_names() if not arena.counts[name]] == []


def test_a_seed_gives_the_same_history_again(arena: Arena) -> None:
    first = {seed: arena.run(seed, 150).digest for seed in (31, 32, 33)}
    assert {seed: arena.run(seed, 150).digest for seed in (33, 31, 32)} == first
    assert len(set(first.values())) == 3
