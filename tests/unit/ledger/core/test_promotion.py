"""Breaks by block: they do not depend on how blocks are split into steps."""

from __future__ import annotations

import random

import pytest

from ledger.core.promotion import BreakChange, ClearingMove, break_changes, step_end


def test_a_break_opens_changes_and_is_resolved_at_its_own_block() -> None:
    moves = [(5, 40), (7, -10), (9, -30), (12, 1)]
    changes = break_changes(
        ClearingMove(account_id=1, block_number=block, net=net, net_before=0) for block, net in moves
    )
    assert [(c.block_number, c.change, c.net) for c in changes] == [
        (5, "open", 40),
        (7, "change", 30),
        (9, "resolve", 0),
        (12, "open", 1),
    ]


@pytest.mark.parametrize("seed", range(30))
def test_any_split_into_steps_gives_the_same_changes(seed: int) -> None:
    rng = random.Random(seed)
    moves = [(block, rng.choice([-2, -1, 1, 2])) for block in range(30)]

    def stepped(size: int) -> list[BreakChange]:
        found: list[BreakChange] = []
        before = 0
        for start in range(0, len(moves), size):
            step = moves[start : start + size]
            found += break_changes(
                ClearingMove(account_id=1, block_number=b, net=n, net_before=before) for b, n in step
            )
            before += sum(net for _, net in step)
        return found

    assert stepped(1) == stepped(30) == stepped(rng.randrange(2, 9))


@pytest.mark.parametrize(
    ("over", "first", "target", "end"),
    [(None, 3, 90, 90), (50, 3, 90, 49), (3, 3, 90, 3), (90, 3, 90, 89)],
)
def test_a_step_ends_before_the_block_that_is_too_much_unless_it_is_the_first(
    over: int | None, first: int, target: int, end: int
) -> None:
    assert step_end(over=over, first=first, target=target) == end
