"""Plays the plan on the chain, at a pace. Waits for the books where the story needs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from deploy.demo.chain import Chain, DoneReorg
from deploy.demo.failure import DemoFailure
from deploy.demo.plan import Block, Plan, Reorg
from deploy.demo.view import Progress, View

Reached = Callable[[int], Awaitable[None]]


class Performance:
    """One run of a plan on a chain."""

    def __init__(self, plan: Plan, chain: Chain, progress: Progress, *, block_period_s: float) -> None:
        self._plan = plan
        self._chain = chain
        self._progress = progress
        self._period_s = block_period_s
        self._next_at = 0.0

    async def set_up(self) -> None:
        """Contracts and accounts, before anybody looks."""
        await self._chain.prepare()
        for block in self._plan.setup:
            await self._mine(block)

    async def do_business(self, view: View, booked: Reached) -> DoneReorg:
        """All blocks in their pace. ``booked(n)`` returns when the ledger shows block n."""
        steps = list(self._plan.business)
        turn = next(number for number, step in enumerate(steps) if isinstance(step, Reorg))
        reorg = steps[turn]
        assert isinstance(reorg, Reorg)
        with view.phase("business") as phase:
            await self._play(steps[:turn])
            await booked(self._chain.head.number)  # so that it really is on the books before it is taken back
            phase.note = f"to block {self._chain.head.number}, all of it booked"
        with view.phase("reorg") as phase:
            done = await self._chain.reorganise(reorg)
            phase.note = f"{done.depth} blocks replaced from block {done.common_ancestor + 1} on"
        with view.phase("business goes on") as phase:
            await self._play(steps[turn + 1 :])
            phase.note = f"to block {self._chain.head.number}"
        return done

    async def settle(self) -> int:
        """Quiet blocks, until the last call is final; returns the last block with a call."""
        last = self._chain.head.number
        for _ in range(self._plan.quiet_blocks):
            await self._paced()
            await self._mine(Block(calls=()))
        return last

    async def _play(self, steps: list[Block | Reorg]) -> None:
        for step in steps:
            if not isinstance(step, Block):
                raise DemoFailure("the plan has more than one reorg")
            await self._paced()
            await self._mine(step)

    async def _mine(self, block: Block) -> None:
        mined = await self._chain.play(block)
        self._progress.block = mined.number
        self._progress.calls += len(block.calls)

    async def _paced(self) -> None:
        now = time.monotonic()
        await asyncio.sleep(max(self._next_at - now, 0))
        self._next_at = max(self._next_at, now) + self._period_s
