"""Earlier events that rules join, and balances that they take whole: written with a batch, read before one."""

from __future__ import annotations

from typing import Any, Final

import asyncpg
import msgspec

from ledger.adapters.statements import statements
from ledger.core.fold import Folded
from ledger.core.recall import Earlier, JoinKey, Recalled, Unread

JOINS: Final = statements("joins")


async def note_join_keys(connection: asyncpg.Connection, stream_no: int, folded: Folded) -> None:
    """Under which keys later events find the entries of a batch. In the batch's db_tx."""
    rows = [
        (*key, entry.change.event_id, entry.change.event.block_timestamp)
        for entry in folded.entries
        for key in entry.keys
    ]
    if rows:
        await connection.execute(JOINS["note"], stream_no, *(list(column) for column in zip(*rows, strict=True)))


async def recalled(connection: asyncpg.Connection, stream_no: int, unread: Unread) -> Recalled:
    """What is committed. An account that does not exist has the balance 0."""
    return Recalled(
        joins=await _joins(connection, stream_no, sorted(unread.joins)) if unread.joins else {},
        balances=await _balances(connection, sorted(unread.balances)) if unread.balances else {},
    )


async def _joins(connection: asyncpg.Connection, stream_no: int, keys: list[JoinKey]) -> dict[JoinKey, list[Earlier]]:
    found: dict[JoinKey, list[Earlier]] = {key: [] for key in keys}
    columns = (list(column) for column in zip(*keys, strict=True))
    for row in await connection.fetch(JOINS["standing"], stream_no, *columns):
        args: dict[str, Any] = msgspec.json.decode(row["args"])
        found[keys[row["place"] - 1]].append(Earlier(row["event_id"], args))
    return found


async def _balances(connection: asyncpg.Connection, accounts: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    rows = await connection.fetch(JOINS["balances"], [code for code, _ in accounts], [asset for _, asset in accounts])
    return dict.fromkeys(accounts, 0) | {(row["code"], row["asset"]): int(row["net"]) for row in rows}
