"""The database connection of the promotion: moves final balances on, one db_tx per bounded step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import asyncpg

from ledger.adapters.postgres import close, connect, translated
from ledger.adapters.rendering import LIVE
from ledger.adapters.statements import statements
from ledger.core.promotion import BreakChange, ClearingMove, break_changes, step_end
from ledger.errors import DatabaseRefused
from ledger.ports import Promotion

PROMOTION: Final = statements("promotion")


class PromotionStore:
    """Implements ``ledger.ports.PromoterPort`` on asyncpg."""

    def __init__(self, connection: asyncpg.Connection, *, chain_id: int, entries_max: int) -> None:
        self._connection = connection
        self._chain_id = chain_id
        self._entries_max = entries_max

    @classmethod
    async def open(cls, dsn: str, *, chain_id: int, entries_max: int, schema: str = LIVE) -> PromotionStore:
        """Connects. Raises DatabaseUnavailable, ConfigurationRefused."""
        connection = await connect(dsn, name="chainbooks-ledger promotion", schema=schema)
        return cls(connection, chain_id=chain_id, entries_max=entries_max)

    async def close(self) -> None:
        """See PromoterPort."""
        await close(self._connection)

    async def step(self) -> Promotion | None:
        """See PromoterPort."""
        with translated("final balances cannot be moved on"):
            target = await self._connection.fetchrow(PROMOTION["target"], self._chain_id)
            if target is None or _number(target["final_number"]) > target["number"]:
                return None
            if target["final_number"] == target["number"] and target["final_hash"] == target["hash"]:
                return None
            if target["hashes"] != 1:
                raise DatabaseRefused(
                    f"partitions name {target['hashes']} different hashes for finalized block {target['number']}: "
                    "nothing is promoted"
                )
            async with self._connection.transaction():
                if target["final_number"] == target["number"]:
                    await self._rename(target["number"], target["hash"])
                    return None
                return await self._step(target["number"], target["hash"])

    async def _step(self, target: int, target_hash: bytes) -> Promotion | None:
        await self._connection.execute(PROMOTION["lock_promotion"], self._chain_id)
        before = _number(await self._connection.fetchval(PROMOTION["lock_head"], self._chain_id))
        if before >= target:
            return None  # another instance was faster
        number = await self._end(before, target)
        block_hash = target_hash if number == target else None
        rows = await self._connection.fetch(PROMOTION["promote"], self._chain_id, before, number)
        moves = [
            ClearingMove(
                account_id=row["account_id"],
                block_number=row["block_number"],
                net=int(row["net"]),
                net_before=int(row["net_before"]),
            )
            for row in rows
        ]
        changes = break_changes(moves)
        await write_breaks(self._connection, self._chain_id, changes)
        await self._connection.execute(PROMOTION["move_head"], self._chain_id, number, block_hash)
        await self._connection.execute(PROMOTION["add_head_history"], self._chain_id, number, block_hash)
        return Promotion(
            number=number,
            breaks_opened=sum(1 for change in changes if change.change == "open"),
            breaks_resolved=sum(1 for change in changes if change.change == "resolve"),
        )

    async def _rename(self, number: int, block_hash: bytes) -> None:
        """The same number, another block: all partitions have passed the incident that replaced it."""
        known = await self._connection.fetchval(PROMOTION["rename_head"], self._chain_id, number, block_hash)
        if known is not None:
            await self._connection.execute(PROMOTION["add_head_history"], self._chain_id, number, block_hash)

    async def _end(self, before: int, target: int) -> int:
        """The last block of this step."""
        bounds = (self._chain_id, before, target, self._entries_max)
        over = await self._connection.fetchval(PROMOTION["next_block_with_entries"], *bounds)
        if over is None:
            return target
        first = await self._connection.fetchval(PROMOTION["first_block_with_entries"], self._chain_id, before)
        return step_end(over=over, first=first, target=target)


async def write_breaks(connection: asyncpg.Connection, chain_id: int, changes: Iterable[BreakChange]) -> None:
    """Opens, changes and resolves clearing breaks, in the db_tx that is open."""
    for change in changes:
        match change.change:
            case "open":
                tx = await connection.fetchval(
                    PROMOTION["clearing_tx"], chain_id, change.block_number, change.account_id
                )
                await connection.execute(
                    PROMOTION["open_break"], chain_id, change.account_id, str(change.net), change.block_number, tx
                )
            case "change":
                await connection.execute(
                    PROMOTION["change_break"], change.account_id, str(change.net), change.block_number
                )
            case "resolve":
                await connection.execute(PROMOTION["resolve_break"], change.account_id, change.block_number)


def _number(value: Any) -> int:
    return -1 if value is None else int(value)
