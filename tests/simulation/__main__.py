"""``python -m tests.simulation SEED STEPS [--verbose]`` runs one seed; ``… --long`` fresh seeds until stopped."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
import traceback

from tests.services import Services
from tests.simulation.arena import Arena
from tests.simulation.faults import all_names


def main() -> int:
    """Exit code 1 when a seed fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--verbose", action="store_true", help="print every event")
    parser.add_argument("--long", action="store_true", help="fresh seeds until stopped")
    parser.add_argument("--first", type=int, help="with --long: this seed and the next ones, not random ones")
    parser.add_argument("--seeds", type=int, default=0, help="with --long: stop after so many")
    options = parser.parse_args()
    services = Services()
    try:
        with Arena(services.postgres) as arena:
            return _long(arena, options) if options.long else _one(arena, options)
    except KeyboardInterrupt:
        return 0
    finally:
        services.close()


def _one(arena: Arena, options: argparse.Namespace) -> int:
    began = time.monotonic()
    try:
        world = arena.run(options.seed, options.steps, say=print if options.verbose else None)
    except Exception:
        traceback.print_exc()
        print(f"make simulate SEED={options.seed} STEPS={options.steps}")
        return 1
    _table(arena)
    print(f"seed {options.seed}: {options.steps} steps, {time.monotonic() - began:.1f} s, trace {world.digest}")
    return 0


def _long(arena: Arena, options: argparse.Namespace) -> int:
    began, done = time.monotonic(), 0
    steps: int = options.steps
    while not options.seeds or done < options.seeds:
        seed = secrets.randbelow(10**9) if options.first is None else options.first + done
        try:
            arena.run(seed, steps)
        except Exception:
            traceback.print_exc()
            print(f"seed {seed} failed after {done} good ones; again: make simulate SEED={seed} STEPS={steps}")
            return 1
        done += 1
        if done % 50 == 0:
            missing = [name for name in all_names() if not arena.counts[name]]
            print(f"{done} seeds, {time.monotonic() - began:.0f} s, never: {missing or 'nothing'}", flush=True)
    _table(arena)
    return 0


def _table(arena: Arena) -> None:
    for name in all_names():
        print(f"{arena.counts[name]:8}  {name}")


if __name__ == "__main__":
    sys.exit(main())
