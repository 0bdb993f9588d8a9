"""A seeded small business: from a seed to the whole plan of a run. Pure and deterministic.

Every kind of money event of the gateway occurs, in a shuffled agenda of fixed numbers; what cannot be done yet waits
for its turn. Around the reorg only payments from outside are made, so that dropping one of them upsets nothing.
"""

from __future__ import annotations

import random
from typing import Final

from deploy.demo.actors import (
    ADMIN,
    ASSETS,
    BLOCK_INTERVAL_S,
    CUSTOMERS,
    ETH,
    EURX,
    FEES,
    GATEWAY,
    GENESIS_TIMESTAMP,
    KINDS,
    STRANGER,
    TOKENS,
    USDX,
    VAULT,
    VAULT_USERS,
    account_id,
)
from deploy.demo.claims import Payment
from deploy.demo.deeds import DEFAULT_FEE_BASIS_POINTS, FEE_BASIS_POINTS, Deeds
from deploy.demo.plan import Block, Call, Plan, Ref, Reorg

DEFAULT_SEED: Final = 1
MONEY_EVENTS_MIN: Final = 300
DEPLOYED_IN_BLOCK: Final = 1  # all contracts
REORG_DEPTH: Final = 3
QUIET_BLOCKS: Final = 10
CALLS_PER_BLOCK: Final = (4, 8)  # at least, at most
UINT256_MAX: Final = 2**256 - 1

QUOTA: Final = {
    "deposit": 60,
    "invoice": 84,
    "authorize": 46,
    "capture": 42,
    "void": 14,
    "charge": 42,
    "refund": 22,
    "transfer": 20,
    "withdraw": 26,
    "stray": 10,
    "give": 5,
    "take_back": 2,
    "sweep": 5,
}
FROM_OUTSIDE: Final = ("deposit", "invoice", "authorize")


def make_plan(seed: int = DEFAULT_SEED) -> Plan:
    """The run of a seed. Any integer will do."""
    return _Planner(seed).plan()


class _Planner:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(seed)  # noqa: S311 - has to repeat, not to be secret
        self._deeds = Deeds(self._rng)
        self._agenda = [kind for kind, count in QUOTA.items() for _ in range(count)]
        self._rng.shuffle(self._agenda)
        self._steps: list[Block | Reorg] = []
        self._setup = setup_blocks()
        self._blocks = DEPLOYED_IN_BLOCK + len(self._setup)  # mined so far

    def plan(self) -> Plan:
        opening = [self._deeds.vault_deposit(user, asset) for user in VAULT_USERS for asset in (USDX, EURX, ETH)]
        self._fill(blocks=3, kinds=FROM_OUTSIDE, extra=opening)
        self._fill(blocks=22)
        self._fill(blocks=1, extra=[self._deeds.vault_withdrawal("withdraw", VAULT_USERS[0], USDX)])
        self._fill(blocks=10)
        self._reorganise()
        self._fill(blocks=8)
        silent = self._deeds.vault_withdrawal("withdrawQuietly", VAULT_USERS[1], EURX)
        self._fill(blocks=1, extra=[silent])
        while self._agenda and self._fill(blocks=1):
            pass
        return Plan(
            seed=self._seed,
            setup=self._setup,
            business=tuple(self._steps),
            quiet_blocks=QUIET_BLOCKS,
            silent=silent,
        )

    def _fill(self, *, blocks: int, kinds: tuple[str, ...] = tuple(QUOTA), extra: list[Call] | None = None) -> int:
        """Adds blocks with deeds of these kinds, ``extra`` calls spread over them. Returns how many deeds were done."""
        waiting, done = list(extra or ()), 0
        for left in range(blocks, 0, -1):
            self._begin_block()
            share = -(-len(waiting) // left)
            calls, waiting = waiting[:share], waiting[share:]
            for _ in range(self._rng.randint(*CALLS_PER_BLOCK) - len(calls)):
                call = self._next(kinds)
                if call is None:
                    break
                calls.append(call)
                done += 1
            self._steps.append(Block(calls=tuple(calls)))
        return done

    def _begin_block(self) -> None:
        self._blocks += 1
        self._deeds.now = GENESIS_TIMESTAMP + self._blocks * BLOCK_INTERVAL_S

    def _next(self, kinds: tuple[str, ...]) -> Call | None:
        """The first deed on the agenda that can be done now."""
        for position, kind in enumerate(self._agenda):
            if kind in kinds and (call := self._deeds.do(kind)) is not None:
                del self._agenda[position]
                return call
        return None

    def _reorganise(self) -> None:
        """Three blocks, then the reorg that replaces them.

        The payers of the dropped and of the moved payment do nothing else meanwhile: their nonces stay in order.
        """
        mover, dropper = self._rng.sample(CUSTOMERS, 2)
        self._deeds.busy = frozenset((mover, dropper))
        moved, dropped = self._pay(mover), self._pay(dropper)
        for first in ([moved[0]], [dropped[0]], []):
            self._fill(blocks=1, kinds=FROM_OUTSIDE, extra=first)
        self._steps.append(Reorg(depth=REORG_DEPTH, dropped=dropped[0], moved=moved[0]))
        self._deeds.claims.undo(dropped[1])
        self._deeds.busy = frozenset()

    def _pay(self, payer: str) -> tuple[Call, Payment]:
        return self._deeds.pay_invoice(payer)


def setup_blocks() -> tuple[Block, ...]:
    """What has to be there before business begins: money in wallets, allowances, listed assets, fees, accounts."""
    holders = (*CUSTOMERS, *VAULT_USERS, STRANGER)
    mint = [
        Call(
            sender=ADMIN,
            contract=asset.symbol,
            function="mint",
            args=(Ref(holder), 1_000_000 * 10**asset.decimals),
            about=f"{holder} gets {asset.symbol}",
        )
        for asset in TOKENS
        for holder in holders
    ]
    approve = [
        Call(
            sender=holder,
            contract=asset.symbol,
            function="approve",
            args=(Ref(VAULT if holder in VAULT_USERS else GATEWAY), UINT256_MAX),
            about=f"{holder} allows {asset.symbol}",
        )
        for asset in TOKENS
        for holder in (*CUSTOMERS, *VAULT_USERS)
    ]
    opened = [
        _admin("openAccount", (account_id(name), Ref(name), kind, account_id(name)), f"account of {name}")
        for name, kind in KINDS.items()
    ]
    listed = [_admin("listAsset", (Ref(asset.symbol), False), f"{asset.symbol} is accepted") for asset in ASSETS]
    fees = [_admin("setFeeSchedule", (bytes(32), DEFAULT_FEE_BASIS_POINTS, account_id(FEES), True), "usual fees")]
    fees += [
        _admin("setFeeSchedule", (account_id(merchant), points, account_id(FEES), False), f"fees of {merchant}")
        for merchant, points in FEE_BASIS_POINTS.items()
    ]
    return (Block(calls=tuple(mint)), Block(calls=tuple(approve)), Block(calls=(*opened, *listed, *fees)))


def _admin(function: str, args: tuple[object, ...], about: str) -> Call:
    return Call(sender=ADMIN, contract=GATEWAY, function=function, args=args, about=about)
