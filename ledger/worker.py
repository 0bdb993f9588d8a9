"""One worker per claimed partition: scans what it is fed, folds it, commits it, one db_tx after the other.

A worker lives from one claim to the next. Whatever goes wrong ends it (``Ended`` says how) and the pipeline claims the
partition again from the database's state: nothing is carried on from memory.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from ledger.core.fold import Folded, fold, needs, refusing
from ledger.core.records import Change, Item, Record, Stop, scan
from ledger.errors import Contended, DatabaseRefused, Fenced, RetryableError
from ledger.observe import Observer
from ledger.ports import Claim, RegistryPort, StorePort

_log = structlog.get_logger(__name__)

TRIES_MAX: Final = 8
MAINTENANCE_EVERY_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Why a worker is over. ``stopped``: an operator is needed; ``fenced``: somebody else has the partition."""

    how: Literal["closed", "lost", "fenced", "stopped"]
    reason: str = ""


class Worker:
    """Folds one partition. ``feed`` takes records; ``run`` is its task."""

    def __init__(
        self,
        claim: Claim,
        *,
        chain_id: int,
        store: StorePort,
        registry: RegistryPort,
        observer: Observer,
        batch_records_max: int,
        finalized_moved: Callable[[], None],
    ) -> None:
        self.claim = claim
        self.ended: Ended | None = None
        self._chain_id = chain_id
        self._store = store
        self._registry = registry
        self._observer = observer
        self._batch_records_max = batch_records_max
        self._finalized_moved = finalized_moved
        self._state = claim.state
        self._scanned = claim.state.position
        self._waiting: deque[Item] = deque()
        self._traceparent: bytes | None = None
        self._stop: Stop | None = None
        self._closing = False
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._settled = asyncio.Event()
        self._done = asyncio.Event()
        self._maintained_at = time.monotonic()

    @property
    def idle(self) -> bool:
        """Whether everything that was fed is committed."""
        return not self._waiting and self._state.position == self._scanned

    async def feed(self, records: Sequence[Record]) -> None:
        """Takes records in order; waits while a whole batch is waiting already. An ended worker takes nothing."""
        while len(self._waiting) >= self._batch_records_max and self.ended is None and not self._closing:
            self._room.clear()
            await self._room.wait()
        if self.ended is not None or self._closing or self._stop is not None:
            return
        found = scan(records, self._scanned, chain_id=self._chain_id, kind=self.claim.kind)
        self._scanned = found.position
        self._stop = found.stop
        self._waiting.extend(found.items)
        if self._traceparent is None and records:
            self._traceparent = next((v for k, v in records[-1].headers if k == "traceparent"), None)
        self._work.set()

    async def settled(self) -> None:
        """Returns when everything that was fed is committed, or the worker has ended."""
        while not self.idle and self.ended is None:
            self._settled.clear()
            await self._settled.wait()

    async def close(self, *, timeout_s: float) -> None:
        """Finishes the batch that is under way, drops the rest. Returns after the timeout in any case."""
        self._closing = True
        self._work.set()
        self._room.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self._done.wait()
        except TimeoutError:
            _log.warning("a batch did not end in time; it is fenced", partition=self.claim.partition.number)

    async def run(self) -> None:
        """Until closed, lost, fenced or stopped. Operating errors end the worker, programmers' errors raise."""
        try:
            self.ended = await self._run()
        except Fenced as exc:
            self.ended = Ended(how="fenced" if exc.by else "lost", reason=str(exc))
        except RetryableError as exc:
            self.ended = Ended(how="lost", reason=str(exc))
        finally:
            self.ended = self.ended or Ended(how="closed")
            self._room.set()
            self._settled.set()
            self._done.set()
            await self._store.close()

    async def _run(self) -> Ended:
        while True:
            while not self._waiting and self._stop is None and not self._closing:
                self._work.clear()
                await self._maintain()
                await self._work.wait()
            if self._closing:
                return Ended(how="closed")
            count = min(len(self._waiting), self._batch_records_max)
            items = [self._waiting.popleft() for _ in range(count)]
            self._room.set()
            stop = await self._settle(items) if items else None
            self._settled.set()
            if stop is None and not self._waiting:
                stop = self._stop
            if stop is not None:
                await self._store.stop(self.claim, stop.reason, stop.offset)
                self._observer.stopped(self.claim, stop.reason)
                return Ended(how="stopped", reason=stop.reason)

    async def _settle(self, items: list[Item]) -> Stop | None:
        """Commits these items, whatever is among them: a batch that the database refuses is taken apart."""
        try:
            return await self._attempt(items, careful=False)
        except DatabaseRefused as exc:
            _log.info("batch refused, looking closer", partition=self.claim.partition.number, reason=str(exc))
        try:
            return await self._attempt(items, careful=True)
        except DatabaseRefused as exc:
            if len(items) == 1:
                return await self._contain(items[0], str(exc))
        middle = len(items) // 2
        return await self._settle(items[:middle]) or await self._settle(items[middle:])

    async def _contain(self, item: Item, reason: str) -> Stop | None:
        """One record that the database will not take goes to quarantine; anything but an applied event stops."""
        if not isinstance(item, Change) or item.retracts:
            return Stop(offset=item.offset, reason=f"the database refuses the record: {reason}")
        try:
            return await self._attempt(refusing([item], item.seq, reason), careful=True)
        except DatabaseRefused as exc:
            return Stop(offset=item.offset, reason=f"the database refuses the record: {exc}")

    async def _attempt(self, items: list[Item], *, careful: bool) -> Stop | None:
        """Folds and commits; deadlocks and serialisation failures try the same batch again."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Contended),
            wait=wait_random_exponential(multiplier=0.02, max=1),
            stop=stop_after_attempt(TRIES_MAX),
            reraise=True,
        )
        folded: Folded = await retrying(self._fold_and_commit, items, careful=careful)
        self._state = folded.after
        if folded.stop is None:
            return None
        self._waiting.clear()
        return folded.stop

    async def _fold_and_commit(self, items: list[Item], *, careful: bool) -> Folded:
        with self._observer.batch(self.claim, items, self._traceparent):
            self._traceparent = None
            folded = await self._fold(items, careful=careful)
            if folded.after.position != self._state.position:
                await self._store.commit(self.claim, folded)
        self._observer.committed(self.claim, folded)
        if folded.after.finalized != folded.before.finalized:
            self._finalized_moved()
        return folded

    async def _fold(self, items: list[Item], *, careful: bool) -> Folded:
        rules = self._registry.rules
        versions = {i.event.description_version for i in items if isinstance(i, Change) and not i.retracts}
        if not versions <= rules.keys():
            await self._registry.refresh()
        wanted = needs(items, self._state, careful=careful)
        known = await self._store.read_back(self.claim, wanted)
        return fold(items, self._state, known, self._registry.rules, stream_id=self._scanned.stream_id)

    async def _maintain(self) -> None:
        if time.monotonic() - self._maintained_at > MAINTENANCE_EVERY_S:
            await self._store.maintain()
            self._maintained_at = time.monotonic()
