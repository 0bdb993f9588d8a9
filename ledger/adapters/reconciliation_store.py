"""Reads the side of the books for a reconciliation, and writes down what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from contracts.document import type_document
from contracts.typed import DocumentError, TypedContract
from ledger.adapters.postgres import translated
from ledger.adapters.statements import statements
from ledger.core.compare import AccountBalance, Item
from ledger.errors import ConfigurationRefused

RECONCILIATION: Final = statements("reconciliation")


@dataclass(frozen=True, slots=True, kw_only=True)
class BooksSide:
    """One snapshot: everything is of the same final block."""

    block_number: int
    block_hash: bytes
    contracts: tuple[TypedContract, ...]
    balances: tuple[AccountBalance, ...]
    counts: dict[str, int]  # last contract_seq by address


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An item, and where its difference began, if the clearing account knows."""

    item: Item
    began_in_block: int | None = None
    began_in_tx: str | None = None


async def read_books_side(connection: asyncpg.Connection, chain_id: int) -> BooksSide:
    """Raises DatabaseUnavailable, ConfigurationRefused when nothing is final yet."""
    with translated("the books cannot be read"):
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            head = await connection.fetchrow(RECONCILIATION["head"], chain_id)
            if head is None or head["final_number"] is None:
                raise ConfigurationRefused("nothing is final yet: there is no block to reconcile at")
            if head["final_hash"] is None:
                raise ConfigurationRefused("a long promotion is under way: try again when it has arrived")
            documents = await connection.fetch(RECONCILIATION["documents"], chain_id)
            balances = await connection.fetch(RECONCILIATION["final_balances"], chain_id)
            counts = await connection.fetch(RECONCILIATION["contract_seqs"], chain_id, head["final_number"])
    return BooksSide(
        block_number=head["final_number"],
        block_hash=head["final_hash"],
        contracts=_typed([row["document"] for row in documents]),
        balances=tuple(
            AccountBalance(code=row["code"], book=row["book"], asset=row["asset"], balance=int(row["balance"]))
            for row in balances
        ),
        counts={"0x" + row["address"].hex(): int(row["last_seq"]) for row in counts},
    )


async def write_result(
    connection: asyncpg.Connection, chain_id: int, side: BooksSide, items: Sequence[Item]
) -> list[Finding]:
    """Stores the run, opens and resolves breaks. Returns every item, in order. Raises DatabaseUnavailable."""
    with translated("the reconciliation cannot be stored"):
        async with connection.transaction():
            await connection.execute(RECONCILIATION["lock_breaks"], chain_id)
            assets = {r["code"]: r["asset_id"] for r in await connection.fetch(RECONCILIATION["asset_ids"], chain_id)}
            run = await connection.fetchval(
                RECONCILIATION["add_reconciliation"],
                chain_id,
                side.block_number,
                side.block_hash,
                len(items),
                sum(1 for item in items if not item.equal),
            )
            await connection.executemany(
                RECONCILIATION["add_item"],
                [(run, number, *_item_row(item, assets)) for number, item in enumerate(items, 1)],
            )
            open_breaks = {
                (row["kind"], row["subject"], row["asset_id"])
                for row in await connection.fetch(RECONCILIATION["open_breaks"], chain_id)
            }
            return [await _judge(connection, chain_id, side, item, assets, open_breaks) for item in items]


async def _judge(
    connection: asyncpg.Connection,
    chain_id: int,
    side: BooksSide,
    item: Item,
    assets: dict[str, int],
    open_breaks: set[tuple[str, str, int | None]],
) -> Finding:
    question = item.question
    asset = assets.get(question.asset) if question.asset else None
    if item.equal:
        if (question.kind, question.subject, asset) in open_breaks:
            await connection.execute(
                RECONCILIATION["resolve_break"], chain_id, question.kind, question.subject, asset, side.block_number
            )
        return Finding(item=item)
    if item.onchain is None:
        return Finding(item=item)  # no answer is no difference, and resolves nothing
    contract = bytes.fromhex(question.contract[2:])
    origin = None
    if question.kind == "claim":
        origin = await connection.fetchrow(RECONCILIATION["origin"], chain_id, contract, asset)
    began = None if origin is None else origin["opened_block"]
    began_tx = None if origin is None else origin["opened_tx"]
    detail = "the chain says otherwise" if origin is None else f"see clearing break {origin['break_id']}"
    await connection.execute(
        RECONCILIATION["hold_break"],
        chain_id,
        question.kind,
        question.subject,
        contract,
        question.book,
        asset,
        str(question.ledger),
        str(item.onchain),
        began,
        began_tx,
        side.block_number,
        detail,
    )
    return Finding(item=item, began_in_block=began, began_in_tx=None if began_tx is None else "0x" + began_tx.hex())


def _item_row(item: Item, assets: dict[str, int]) -> tuple[Any, ...]:
    question = item.question
    return (
        question.kind,
        question.subject,
        bytes.fromhex(question.contract[2:]),
        assets.get(question.asset) if question.asset else None,
        str(question.ledger),
        None if item.onchain is None else str(item.onchain),
        item.problem,
    )


def _typed(documents: Sequence[str]) -> tuple[TypedContract, ...]:
    """The payment contracts among the descriptions."""
    try:
        typed = [type_document(json.loads(text)) for text in documents]
    except DocumentError as exc:
        raise ConfigurationRefused(f"a stored description cannot be used: {exc}; upgrade chainbooks") from exc
    return tuple(each for each in typed if isinstance(each, TypedContract))
