"""Folds stories into books in memory with a real worker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from deploy.runtime import telemetry
from ledger.observe import Observer
from ledger.ports import Partition, RegistryPort
from ledger.worker import Worker
from tests.unit.ledger.fake_store import FakeStore, Shelf
from tests.unit.ledger.story import CHAIN, CHAIN_ID, Raw, rules


class StaticRegistry(RegistryPort):
    """Rules that are known; refreshing finds nothing new."""

    def __init__(self, known: Any = None) -> None:
        self.known = rules() if known is None else known
        self.refreshed = 0

    @property
    def rules(self) -> Any:
        return self.known

    async def refresh(self) -> None:
        self.refreshed += 1


def make_observer(lag_max_s: float = 10.0) -> Observer:
    measures = telemetry.start(service="chainbooks-ledger", instance="test", chain=CHAIN)
    return Observer(measures, chain=CHAIN, lag_max_s=lag_max_s)


async def make_worker(shelf: Shelf, *, registry: Any = None, batch_records_max: int = 4_000) -> Worker:
    store = FakeStore(shelf)
    return Worker(
        await store.claim(Partition("events", 0), "elsewhere", held_before=False),
        chain_id=CHAIN_ID,
        store=store,
        registry=registry or StaticRegistry(),
        observer=make_observer(),
        batch_records_max=batch_records_max,
        finalized_moved=lambda: None,
    )


async def fold_into(shelf: Shelf, polls: Sequence[Sequence[Raw]], *, registry: Any = None) -> Worker:
    """One worker from claim to close; each poll is committed before the next."""
    worker = await make_worker(shelf, registry=registry)
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        for poll in polls:
            await worker.feed(poll)
            await worker.settled()
        await worker.close(timeout_s=5)
    return worker
