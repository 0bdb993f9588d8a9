"""One worker per claimed partition: scans what it is fed, folds it, commits it, one db_tx after the other.

A worker lives from one claim to the next. Whatever goes wrong ends it (``Ended`` says how) and the pipeline claims the
partition again from the database's state: nothing is carried on from memory.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from ledger.core.fold import Folded, Knowledge, Needs, StreamState, fold, needs, refusing
from ledger.core.records import Change, Item, Record, Scan, Stop, scan
from ledger.errors import Contended, DatabaseRefused, Fenced, RetryableError
from ledger.observe import Observer
from ledger.ports import Claim, RegistryPort, Staged, StorePort

_log = structlog.get_logger(__name__)

TRIES_MAX: Final = 8
MAINTENANCE_EVERY_S: Final = 24 * 3600.0
THREAD_ITEMS_MIN: Final = 300
"""From so many items on, scanning and folding (about 25 µs each) leave the event loop."""

NOTHING: Final = Needs()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Why a worker is over. ``stopped``: an operator is needed; ``fenced``: somebody else has the partition."""

    how: Literal["closed", "lost", "fenced", "stopped"]
    reason: str = ""
    incident: str | None = None  # ``stopped`` until this one is accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Items of one db_tx, in order, and what they fold to, ready to be committed, if that is known."""

    items: list[Item]
    staged: Staged | None = None


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
        found = await self._scan(records)
        self._scanned = found.position
        self._stop = found.stop
        self._waiting.extend(found.items)
        if self._traceparent is None and records:
            self._traceparent = next((v for k, v in records[-1].headers if k == "traceparent"), None)
        self._work.set()

    async def _scan(self, records: Sequence[Record]) -> Scan:
        """In a thread when it takes long, as for ``_folded``."""
        chain_id, kind = self._chain_id, self.claim.kind
        if len(records) < THREAD_ITEMS_MIN:
            return scan(records, self._scanned, chain_id=chain_id, kind=kind)
        return await asyncio.to_thread(scan, records, self._scanned, chain_id=chain_id, kind=kind)

    def halt(self, stop: Stop) -> None:
        """Takes nothing more; ends as stopped, with this reason, after what it was fed before."""
        self._stop = self._stop or stop
        self._work.set()

    async def settled(self) -> None:
        """Returns when everything that was fed is committed, or the worker has ended; a stop is written down then."""
        while self.ended is None and (self._stop is not None or not self.idle):
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
        ahead: _Batch | None = None
        while True:
            batch = ahead or await self._next()
            if batch is None or self._closing:
                return Ended(how="closed")
            stop, ahead = await self._settle(batch) if batch.items else (None, None)
            self._settled.set()
            if stop is None and ahead is None and not self._waiting:
                stop = self._stop
            if stop is not None:
                await self._store.stop(self.claim, stop)
                self._observer.stopped(self.claim, stop.reason)
                return Ended(how="stopped", reason=stop.reason, incident=stop.incident)

    async def _next(self) -> _Batch | None:
        """What waits, up to a batch; waits for it. None when closing. Without items when the scan has stopped."""
        while not self._waiting and self._stop is None and not self._closing:
            self._work.clear()
            await self._maintain()
            await self._work.wait()
        return None if self._closing else self._take()

    def _take(self) -> _Batch:
        count = min(len(self._waiting), self._batch_records_max)
        items = [self._waiting.popleft() for _ in range(count)]
        self._room.set()
        return _Batch(items=items)

    async def _settle(self, batch: _Batch) -> tuple[Stop | None, _Batch | None]:
        """Commits a batch whatever is in it; returns why to stop, and the next batch if it was folded meanwhile."""
        with self._observer.batch(self.claim, batch.items, self._traceparent):
            self._traceparent = None
            try:
                staged = batch.staged
                if staged is None or staged.folded.before is not self._state:
                    staged = await self._fold(batch.items, careful=False)
                ahead = await self._commit_looking_ahead(staged)
            except DatabaseRefused as exc:
                _log.info("batch refused, looking closer", partition=self.claim.partition.number, reason=str(exc))
                return await self._settle_carefully(batch.items), None
        if staged.folded.stop is not None:
            self._waiting.clear()
        return staged.folded.stop, ahead

    async def _commit_looking_ahead(self, staged: Staged) -> _Batch | None:
        """Folds the next batch while the database works on this one: both take about as long."""
        over = asyncio.Event()
        committed, ahead = await asyncio.gather(
            self._commit(staged, over), self._look_ahead(staged.folded, over), return_exceptions=True
        )
        if isinstance(committed, BaseException):
            if isinstance(ahead, _Batch):
                self._waiting.extendleft(reversed(ahead.items))
            raise committed
        if isinstance(ahead, BaseException):
            raise ahead
        return ahead

    async def _look_ahead(self, folded: Folded, over: asyncio.Event) -> _Batch | None:
        """The next batch, folded if that needs nothing of the database. Small ones are not worth it."""
        while len(self._waiting) < THREAD_ITEMS_MIN and not over.is_set():
            self._work.clear()
            await self._work.wait()
        if over.is_set() or folded.stop is not None or self._closing:
            return None
        batch = self._take()
        known_versions = self._versions(batch.items) <= self._registry.rules.keys()
        if not known_versions or needs(batch.items, folded.after) != NOTHING:
            return batch
        staged = await self._staged(batch.items, folded.after, Knowledge())
        return batch if staged.folded.unread else replace(batch, staged=staged)

    async def _settle_carefully(self, items: list[Item]) -> Stop | None:
        """A batch that the database refused is folded with all that it knows, and taken apart if need be."""
        try:
            staged = await self._fold(items, careful=True)
            await self._commit(staged, asyncio.Event())
        except DatabaseRefused as exc:
            if len(items) == 1:
                return await self._contain(items[0], str(exc))
            middle = len(items) // 2
            return await self._settle_carefully(items[:middle]) or await self._settle_carefully(items[middle:])
        return staged.folded.stop

    async def _contain(self, item: Item, reason: str) -> Stop | None:
        """One record that the database will not take goes to quarantine; anything but an applied event stops."""
        if not isinstance(item, Change) or item.retracts:
            return Stop(offset=item.offset, reason=f"the database refuses the record: {reason}")
        try:
            staged = await self._fold(refusing([item], item.seq, reason), careful=True)
            await self._commit(staged, asyncio.Event())
        except DatabaseRefused as exc:
            return Stop(offset=item.offset, reason=f"the database refuses the record: {exc}")
        return staged.folded.stop

    async def _fold(self, items: list[Item], *, careful: bool) -> Staged:
        if not self._versions(items) <= self._registry.rules.keys():
            await self._registry.refresh()
        known = await self._store.read_back(self.claim, needs(items, self._state, careful=careful))
        while True:
            staged = await self._staged(items, self._state, known)
            if not staged.folded.unread:
                return staged
            more = await self._store.recall(self.claim, staged.folded.unread)
            known = replace(known, recalled=known.recalled.and_then(more))

    async def _staged(self, items: list[Item], state: StreamState, known: Knowledge) -> Staged:
        """In a thread when it takes long: nothing else should wait for it."""
        rules, stream_id = self._registry.rules, self._scanned.stream_id

        def work() -> Staged:
            folded = fold(items, state, known, rules, stream_id=stream_id)
            return Staged(folded=folded) if folded.unread else self._store.stage(self.claim, folded)

        return work() if len(items) < THREAD_ITEMS_MIN else await asyncio.to_thread(work)

    async def _commit(self, staged: Staged, over: asyncio.Event) -> None:
        """One db_tx; deadlocks and serialisation failures try it again. Then memory follows; ``over`` is set."""
        folded = staged.folded
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Contended),
            wait=wait_random_exponential(multiplier=0.02, max=1),
            stop=stop_after_attempt(TRIES_MAX),
            reraise=True,
        )
        try:
            if folded.after.position != folded.before.position:
                await retrying(self._store.commit, self.claim, staged)
        finally:
            over.set()
            self._work.set()
        self._state = folded.after
        self._observer.committed(self.claim, folded)
        if folded.after.finalized != folded.before.finalized:
            self._finalized_moved()

    @staticmethod
    def _versions(items: Sequence[Item]) -> set[str]:
        """Description versions whose rules are needed."""
        return {item.event.description_version for item in items if isinstance(item, Change) and not item.retracts}

    async def _maintain(self) -> None:
        if time.monotonic() - self._maintained_at > MAINTENANCE_EVERY_S:
            await self._store.maintain()
            self._maintained_at = time.monotonic()
