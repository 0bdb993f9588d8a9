"""Waits until the ledger shows the whole chain, final; says who is behind when that takes too long."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import asyncpg

from deploy.demo.failure import DemoFailure
from deploy.demo.processes import command_result
from deploy.demo.stage import Stage
from deploy.demo.statements import STATEMENTS

TIMEOUT_S: Final = 180.0
LOOK_S: Final = 0.2


async def settled(stage: Stage, *, head: int, final: int) -> float:
    """Until every partition is folded through ``head`` and balances are final through ``final``; how long that took.

    Raises DemoFailure.
    """
    began = time.monotonic()
    rows: list[asyncpg.Record] = []
    connection = await asyncpg.connect(stage.reader_dsn, timeout=20)
    try:
        while time.monotonic() - began < TIMEOUT_S:
            rows = await connection.fetch(STATEMENTS["progress"])
            if rows and all(row["latest_block"] >= head and row["final_block"] >= final for row in rows):
                return time.monotonic() - began
            await asyncio.sleep(LOOK_S)
    finally:
        await connection.close()
    shown = "\n".join(f"  {row['subject']}: latest {row['latest_block']}, final {row['final_block']}" for row in rows)
    raise DemoFailure(
        f"after {TIMEOUT_S:.0f} s not everything is at block {head}, final {final}; the ledger shows\n{shown}\n"
        f"chainbooks-indexer says\n{await _said('indexer', stage)}\n"
        f"chainbooks-ledger says\n{await _said('ledger', stage)}"
    )


async def _said(module: str, stage: Stage) -> str:
    try:
        code, out, err = await command_result(module, "status", config=stage.config)
    except DemoFailure as exc:
        return str(exc)
    return f"{out}{err}(exit code {code})"
