"""Which breaks a promotion step opens and resolves, from what it moved on clearing accounts. Pure.

Clearing must be zero at the end of every promoted block. The result does not depend on how blocks are split into steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearingMove:
    """A block that moved a clearing account by something other than zero. Base units, positive is debit."""

    account_id: int
    block_number: int
    net: int
    net_before: int  # of the account, before the step


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakChange:
    """What happens to the break of one account at the end of one block; ``net`` is what stays."""

    account_id: int
    block_number: int
    net: int
    change: Literal["open", "change", "resolve"]


def break_changes(moves: Iterable[ClearingMove]) -> list[BreakChange]:
    """Moves in the order of accounts and blocks, as changes in the same order."""
    changes: list[BreakChange] = []
    running: dict[int, int] = {}
    for move in moves:
        before = running.get(move.account_id, move.net_before)
        after = running[move.account_id] = before + move.net
        changes.append(
            BreakChange(
                account_id=move.account_id,
                block_number=move.block_number,
                net=after,
                change="open" if before == 0 else "resolve" if after == 0 else "change",
            )
        )
    return changes


def step_end(*, over: int | None, first: int, target: int) -> int:
    """The last block of a bounded step.

    ``first`` is the first block with entries; ``over`` the block in which the bound is passed, None when it is not. A
    step ends before that block, unless it is the first one: a block is never split.

    ::

        first … over−1 │ over … target
        └─ this step ─┘
    """
    if over is None:
        return target
    return max(first, over - 1)
