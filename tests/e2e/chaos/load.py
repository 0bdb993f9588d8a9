"""The load: the demo's business at a steady rate of events, and reorgs that move and drop its calls."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Final

from deploy.demo.actors import ASSETS, BLOCK_INTERVAL_S, GENESIS_TIMESTAMP, VAULT_USERS
from deploy.demo.business import QUOTA, setup_blocks
from deploy.demo.chain import SLOTS_IN_AN_EPOCH, Chain, Sent
from deploy.demo.deeds import Deeds
from deploy.demo.plan import Call
from tests.e2e.chaos.plan import REORG_DEPTH_MAX

BLOCK_PERIOD_S: Final = 0.4
EVENTS_PER_S: Final = 75.0
"""What is aimed at; a reorg that drops calls may take a little away."""

CALLS_PER_BLOCK_MAX: Final = 80
REORG_EVERY_BLOCKS: Final = 10  # on average, beside those that a blow asks for
FINALITY_BLOCKS: Final = 2 * SLOTS_IN_AN_EPOCH


class Load:
    """Makes blocks until it is told to stop. The chain's only user, so a reorg never meets a block in the making."""

    def __init__(self, chain: Chain, seed: int) -> None:
        self.chain = chain
        self.reorgs: Counter[int] = Counter()  # depth → how many
        self.began_s = 0.0  # monotonic
        self.seconds = 0.0
        self.first_block = 0
        self._rng = random.Random(f"load {seed}")
        self._deeds = Deeds(self._rng)
        self._wanted: list[int] = []
        self._stop = False
        self._mining = asyncio.Event()

    async def set_up(self) -> None:
        """Contracts, accounts and allowances, all of it final before business begins."""
        await self.chain.prepare()
        for block in setup_blocks():
            await self.chain.play(block)
        await self.make_final()

    async def make_final(self) -> None:
        """Quiet blocks until everything so far is final."""
        for _ in range(FINALITY_BLOCKS + 1):
            await self.chain.mine()

    def ask_for_reorg(self, depth: int) -> None:
        """It comes after the block that is being made."""
        self._wanted.append(depth)

    async def next_block(self) -> None:
        """Returns when one begins to be mined."""
        await self._mining.wait()

    def stop(self) -> None:
        """``run`` returns after the block that is being made."""
        self._stop = True

    async def run(self) -> None:
        """Raises DemoFailure when the node does not do as it should."""
        self.began_s = time.monotonic()
        self.first_block = self.chain.head.number + 1
        logs_before = self.chain.logs
        next_at = self.began_s
        await self._play([self._deeds.vault_deposit(user, asset) for user in VAULT_USERS for asset in ASSETS])
        while not self._stop:
            elapsed_s = time.monotonic() - self.began_s
            behind = EVENTS_PER_S * (elapsed_s + BLOCK_PERIOD_S) - (self.chain.logs - logs_before)
            await self._play(self._calls(min(max(int(behind / 1.5), 1), CALLS_PER_BLOCK_MAX)))
            if self._rng.random() < 1 / REORG_EVERY_BLOCKS:
                self._wanted.append(self._rng.randint(1, REORG_DEPTH_MAX))
            if self._wanted:
                logs = self.chain.logs
                await self._reorganise(self._wanted.pop(0))
                logs_before += self.chain.logs - logs  # they took the place of others: no load
            next_at = max(next_at + BLOCK_PERIOD_S, time.monotonic())
            await asyncio.sleep(next_at - time.monotonic())
        self.seconds = time.monotonic() - self.began_s

    async def _play(self, calls: list[Call]) -> None:
        for call in calls:
            await self.chain.send(call)
        self._mining.set()  # wakes who waits now
        self._mining.clear()
        await self.chain.mine()

    def _calls(self, count: int) -> list[Call]:
        self._deeds.now = GENESIS_TIMESTAMP + (self.chain.head.number + 1) * BLOCK_INTERVAL_S
        kinds = self._rng.choices(list(QUOTA), weights=list(QUOTA.values()), k=count)
        calls = [call for kind in kinds if (call := self._deeds.do(kind)) is not None]
        if self._rng.random() < 0.3:
            asset, user = self._rng.choice(ASSETS), self._rng.choice(VAULT_USERS)
            both = (self._deeds.vault_deposit(user, asset), self._deeds.vault_withdrawal("withdraw", user, asset))
            calls.append(self._rng.choice(both))
        return calls

    async def _reorganise(self, depth: int) -> None:
        depth = min(depth, self.chain.head.number - self.first_block + 1)
        await self.chain.replace(rearranged(self.chain.last_blocks(depth), self._rng))
        self.reorgs[depth] += 1


def rearranged(blocks: list[list[Sent]], rng: random.Random) -> list[list[Sent]]:
    """The same calls in other blocks and places, each sender's in their order; some lose their last ones."""
    placed: list[list[tuple[float, Sent]]] = [[] for _ in blocks]
    for calls in _by_sender(blocks).values():
        dropped = rng.choices((0, 1, 2), weights=(85, 10, 5))[0]
        kept = calls[: max(len(calls) - dropped, 0)]
        stays = rng.random() < 0.5
        offsets = [offset for offset, _ in kept] if stays else sorted(rng.randrange(len(blocks)) for _ in kept)
        places = sorted(rng.random() for _ in kept)
        for (_, sent), offset, place in zip(kept, offsets, places, strict=True):
            placed[offset].append((place, sent))
    return [[sent for _, sent in sorted(block, key=lambda each: each[0])] for block in placed]


def _by_sender(blocks: list[list[Sent]]) -> dict[str, list[tuple[int, Sent]]]:
    """sender → its calls with the offset of their block, in order."""
    calls: dict[str, list[tuple[int, Sent]]] = {}
    for offset, block in enumerate(blocks):
        for sent in block:
            calls.setdefault(sent.call.sender, []).append((offset, sent))
    return calls
