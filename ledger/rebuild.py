"""Folds whole topics, from offset 0 to where they end now, into books of its own. The loop of ``rebuild``.

The same workers, stores and promotion as ``run`` has; only where the records come from is another thing: partitions are
read by assignment, a few beside each other. Positions are the database's: a rebuild that was cut off goes on from them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ledger.core.records import Stop
from ledger.errors import DatabaseRefused, DatabaseUnavailable, operating_error
from ledger.observe import Observer
from ledger.ports import OffsetsLost, OpenPromoter, OpenStore, Partition, ReaderPort, RegistryPort
from ledger.worker import Ended, Worker

OWNER: Final = "rebuild"
PARTITIONS_AT_ONCE: Final = 4
CLOSE_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a rebuild is. Offsets say how much there is (commit markers included), records what was folded."""

    stage: str
    offsets_total: int = 0
    offsets_done: int = 0
    records: int = 0
    partitions: int = 0
    partitions_done: int = 0


class Rebuild:
    """One rebuild of one chain's topics."""

    def __init__(
        self,
        *,
        chain_id: int,
        reader: ReaderPort,
        open_store: OpenStore,
        open_promoter: OpenPromoter,
        registry: RegistryPort,
        observer: Observer,
        batch_records_max: int,
        tell: Callable[[Progress], None],
    ) -> None:
        self._chain_id = chain_id
        self._reader = reader
        self._open_store = open_store
        self._open_promoter = open_promoter
        self._registry = registry
        self._observer = observer
        self._batch_records_max = batch_records_max
        self._tell = tell
        self._progress = Progress(stage="folding")
        self.not_promoted: str | None = None  # why final balances could not be moved on

    async def run(self, partitions: Sequence[Partition], ends: Mapping[Partition, int]) -> None:
        """Folds the partitions up to their ends, then promotes what is final.

        Returns also when a partition stopped: its stream's row says why. Raises RetryableError, FatalError.
        """
        self._progress = Progress(
            stage="folding",
            offsets_total=sum(ends.values()),
            records=self._progress.records,
            partitions=len(partitions),
        )
        room = asyncio.Semaphore(PARTITIONS_AT_ONCE)

        async def in_turn(partition: Partition) -> None:
            async with room:
                await self._fold(partition, ends[partition])
            self._step(partitions_done=1)

        try:
            async with asyncio.TaskGroup() as group:
                for partition in partitions:
                    group.create_task(in_turn(partition))
        except BaseExceptionGroup as failures:
            raise operating_error(failures) or failures from failures
        await self._promote()

    async def _fold(self, partition: Partition, end: int) -> None:
        store = await self._open_store()
        try:
            claim = await store.claim(partition, OWNER, held_before=False)
        except BaseException:
            await store.close()
            raise
        worker = Worker(
            claim,
            chain_id=self._chain_id,
            store=store,
            registry=self._registry,
            observer=self._observer,
            batch_records_max=self._batch_records_max,
            finalized_moved=lambda: None,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())  # cancelled with us: a db_tx that is cut off is rolled back
            await self._feed(worker, claim.state.position.next_offset, end)
            await worker.settled()
            await worker.close(timeout_s=CLOSE_TIMEOUT_S)
        _check(partition, worker.ended)

    async def _feed(self, worker: Worker, begin: int, end: int) -> None:
        partition = worker.claim.partition
        self._step(offsets_done=min(begin, end))
        done = begin
        try:
            async for records in self._reader.read(partition, begin, end):
                await worker.feed(records)
                self._step(offsets_done=records[-1].offset + 1 - done, records=len(records))
                done = records[-1].offset + 1
                if worker.ended is not None:
                    break
        except OffsetsLost:
            worker.halt(Stop(offset=done, reason=f"the topic no longer has offset {done}: it was truncated"))
        self._step(offsets_done=max(end - done, 0))

    async def _promote(self) -> None:
        self._progress = replace(self._progress, stage="promoting")
        self._step()
        promoter = await self._open_promoter()
        try:
            while await promoter.step() is not None:
                self._step()
        except DatabaseRefused as exc:
            self.not_promoted = str(exc)
        finally:
            await promoter.close()

    def _step(self, *, offsets_done: int = 0, records: int = 0, partitions_done: int = 0) -> None:
        before = self._progress
        self._progress = replace(
            before,
            offsets_done=before.offsets_done + offsets_done,
            records=before.records + records,
            partitions_done=before.partitions_done + partitions_done,
        )
        self._tell(self._progress)


def _check(partition: Partition, ended: Ended | None) -> None:
    """A worker may end when it is told to, and stop when an operator is needed; anything else was not the end."""
    if ended is None or ended.how in ("lost", "fenced"):
        reason = "it did not end" if ended is None else ended.reason
        raise DatabaseUnavailable(f"{partition.topic}/{partition.number} was not folded to its end: {reason}")
