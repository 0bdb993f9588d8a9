"""Consumes: joins the group, claims what it is assigned, feeds the workers, promotes. The only loop of ``run``.

Records of a partition that is not claimed are discarded, not judged: the claim seeks back to where the database stands.
Whatever fails is waited for with jitter, one log line when a stage begins to fail and one when it recovers.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_random_exponential,
)

from ledger.core.records import Stop
from ledger.errors import BrokerUnavailable, DatabaseRefused, FatalError, RetryableError
from ledger.observe import Observer
from ledger.ports import (
    Claim,
    ConsumerPort,
    Lag,
    MakeConsumer,
    OffsetsLost,
    OpenPromoter,
    OpenStore,
    Partition,
    PromoterPort,
    RegistryPort,
    StorePort,
)
from ledger.worker import Worker

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

POLL_S: Final = 0.25
LAG_EVERY_S: Final = 0.5
PROMOTION_LOOK_EVERY_S: Final = 2.0
INCIDENTS_EVERY_S: Final = 2.0
CLOSE_TIMEOUT_S: Final = 3.0
REJOIN_JITTER_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """See ledger.settings.FoldSettings."""

    batch_records_max: int
    outage_max_s: float
    stall_max_s: float


class _Rejoin(Exception):
    """This membership of the group is over; a new one begins."""


class Pipeline:
    """One process's part in folding one chain."""

    def __init__(
        self,
        *,
        chain_id: int,
        instance_id: str,
        limits: Limits,
        make_consumer: MakeConsumer,
        open_store: OpenStore,
        open_promoter: OpenPromoter,
        registry: RegistryPort,
        observer: Observer,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._chain_id = chain_id
        self._owner = f"{instance_id}#{secrets.token_hex(4)}"  # tells processes of one name apart
        self._held: set[Partition] = set()  # claimed at least once by this process
        self._failure: FatalError | None = None  # of the last assignment
        self._failing_since: dict[str, float] = {}
        self._limits = limits
        self._make_consumer = make_consumer
        self._open_store = open_store
        self._open_promoter = open_promoter
        self._registry = registry
        self._observer = observer
        self._sleep = sleep
        self._workers: dict[Partition, Worker] = {}
        self._assigned: frozenset[Partition] = frozenset()  # empty while the group is being rebalanced
        self._stopped: dict[Partition, str | None] = {}  # the incident that it waits for, if it is one
        self._incidents_at = 0.0
        self._claiming = asyncio.Lock()
        self._consumer: ConsumerPort | None = None
        self._group: asyncio.TaskGroup | None = None
        self._promote = asyncio.Event()
        self._moved: dict[Partition, tuple[int, float]] = {}
        self._lag_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set. Raises RetryableError after an outage that lasted too long, FatalError."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            promoting = group.create_task(self._promotion())
            try:
                while not stop.is_set():
                    await self._membership(stop)
            finally:
                promoting.cancel()

    # one membership of the consumer group

    async def _membership(self, stop: asyncio.Event) -> None:
        consumer = self._consumer = self._make_consumer()
        try:
            await self.persistently("kafka", lambda: consumer.start(self), stop)
            while not stop.is_set():
                await self._turn(consumer, stop)
        except _Rejoin as exc:
            _log.warning("joining the group again", reason=str(exc))
            await self._pause(random.uniform(0.1, REJOIN_JITTER_S), stop)  # noqa: S311 - jitter, no secret
        finally:
            self._consumer = None
            self._assigned = frozenset()
            await self._close_workers(list(self._workers))
            await consumer.stop()

    async def _turn(self, consumer: ConsumerPort, stop: asyncio.Event) -> None:
        if self._failure is not None:
            raise self._failure
        await self._look_at_incidents()
        await self._claim_missing(stop)
        try:
            polled = await consumer.poll(POLL_S)
        except OffsetsLost as exc:
            self._halt_lost(exc)
            polled = {}
        except BrokerUnavailable as exc:
            if self._fails_too_long("records", self._limits.outage_max_s):
                raise
            self._observer.waiting("records", str(exc))
            raise _Rejoin(str(exc)) from exc
        self._recovered("records")
        # Between the poll's return and this line nothing else runs: what a worker gets here is of its own claim.
        fed = [(self._workers[p], records) for p, records in polled.items() if p in self._workers]
        for worker, records in fed:
            await worker.feed(records)
        if self._reap(consumer):
            await self._pause(random.uniform(0.02, 0.3), stop)  # noqa: S311 - jitter, no secret
        if time.monotonic() - self._lag_at > LAG_EVERY_S:
            self._lag_at = time.monotonic()
            self._watch(await consumer.lag())

    def _reap(self, consumer: ConsumerPort) -> bool:
        """Takes leave of workers that are over. Says whether one was lost."""
        lost = False
        for partition, worker in list(self._workers.items()):
            ended = worker.ended
            if ended is None:
                continue
            del self._workers[partition]
            self._observer.released(partition)
            consumer.pause(partition)
            if ended.how == "stopped":
                self._stopped[partition] = ended.incident
            elif ended.how == "fenced":
                raise _Rejoin(f"{partition.topic}/{partition.number}: {ended.reason}")
            else:
                lost = True
                _log.warning("claiming again", topic=partition.topic, partition=partition.number, reason=ended.reason)
        return lost

    def _watch(self, lags: Mapping[Partition, Lag]) -> None:
        """A partition that is behind and does not move, though nothing of it waits here: join again."""
        now = time.monotonic()
        self._observer.lag(lags)
        for partition, lag in lags.items():
            worker = self._workers.get(partition)
            known = self._moved.get(partition)
            if known is None or known[0] != lag.position or lag.records <= 0 or worker is None or not worker.idle:
                self._moved[partition] = (lag.position, now)
            elif now - known[1] > self._limits.stall_max_s:
                self._moved.clear()
                raise _Rejoin(f"{partition.topic}/{partition.number} is {lag.records} behind and does not move")

    def _halt_lost(self, lost: OffsetsLost) -> None:
        """The workers write it down; one that cannot is lost, claimed again, and hears of it again."""
        for partition, offset in lost.offsets.items():
            if (worker := self._workers.get(partition)) is not None:
                reason = (
                    f"offset {offset} is not in {partition.topic}/{partition.number}: the topic was truncated or made "
                    "again; restore it, or rebuild the books from a whole topic"
                )
                worker.halt(Stop(offset=offset, reason=reason))

    # rebalances and claims

    async def revoked(self, partitions: Sequence[Partition]) -> None:
        """The group takes these back: the batch under way may end, the rest is dropped, nothing is claimed."""
        self._assigned = frozenset()
        await self._close_workers(partitions)

    async def assigned(self, partitions: Sequence[Partition]) -> None:
        """These are ours now: nothing of them counts until each is claimed and sought."""
        consumer = self._consumer
        if consumer is None:
            return
        self._stopped.clear()
        self._moved.clear()
        self._assigned = frozenset(partitions)
        for partition in partitions:
            consumer.pause(partition)
        self._observer.assigned(self._assigned)
        try:
            await self._claim_all(consumer)
        except RetryableError as exc:
            _log.info("claims are tried again", reason=str(exc))
        except FatalError as exc:
            self._failure = exc  # whatever a listener raises is swallowed: the next turn raises it

    async def _claim_missing(self, stop: asyncio.Event) -> None:
        consumer = self._consumer
        if consumer is None or not self._missing():
            return
        await self.persistently("postgres", lambda: self._claim_all(consumer), stop)

    def _missing(self) -> list[Partition]:
        return sorted(self._assigned - self._workers.keys() - self._stopped.keys())

    async def _look_at_incidents(self) -> None:
        """A partition that waits for an incident is claimed again when that was accepted."""
        waiting = {partition: incident for partition, incident in self._stopped.items() if incident is not None}
        if not waiting or time.monotonic() - self._incidents_at < INCIDENTS_EVERY_S:
            return
        self._incidents_at = time.monotonic()
        try:
            store = await self._open_store()
            try:
                accepted = await store.accepted(frozenset(waiting.values()))
            finally:
                await store.close()
        except RetryableError:
            return  # they wait anyway
        for partition, incident in waiting.items():
            if incident in accepted:
                self._stopped.pop(partition, None)
                _log.info("incident accepted", incident=incident, topic=partition.topic, partition=partition.number)

    async def _claim_all(self, consumer: ConsumerPort) -> None:
        async with self._claiming:
            for partition in self._missing():
                await self._claim(consumer, partition)

    async def _claim(self, consumer: ConsumerPort, partition: Partition) -> None:
        store: StorePort = await self._open_store()
        try:
            claim: Claim = await store.claim(partition, self._owner, held_before=partition in self._held)
        except BaseException:
            await store.close()
            raise
        self._held.add(partition)
        position = claim.state.position
        ours = self._consumer is consumer and partition in self._assigned and self._group is not None
        # From here on nothing else runs until the worker is there: seek and worker are one step.
        if not ours or not consumer.seek(partition, position.next_offset):
            await store.close()
            return
        worker = Worker(
            claim,
            chain_id=self._chain_id,
            store=store,
            registry=self._registry,
            observer=self._observer,
            batch_records_max=self._limits.batch_records_max,
            finalized_moved=self._promote.set,
        )
        self._workers[partition] = worker
        assert self._group is not None
        self._group.create_task(worker.run())
        self._observer.claimed(claim)
        _log.info(
            "partition claimed",
            topic=partition.topic,
            partition=partition.number,
            epoch=claim.epoch,
            offset=position.next_offset,
        )

    async def _close_workers(self, partitions: Sequence[Partition]) -> None:
        workers = [worker for p in partitions if (worker := self._workers.pop(p, None)) is not None]
        await asyncio.gather(*(worker.close(timeout_s=CLOSE_TIMEOUT_S) for worker in workers))
        for worker in workers:
            self._observer.released(worker.claim.partition)

    # promotion

    async def _promotion(self) -> None:
        promoter: PromoterPort | None = None
        while True:
            try:
                promoter = promoter or await self._open_promoter()
                await self._promote_all(promoter)
                self._observer.recovered("promotion")
            except (RetryableError, DatabaseRefused) as exc:
                self._observer.waiting("promotion", str(exc))
                _log.warning("promotion waits", reason=str(exc))
                if promoter is not None:
                    await promoter.close()
                promoter = None
                await self._sleep(random.uniform(0.5, 2.0))  # noqa: S311 - jitter, no secret
            except asyncio.CancelledError:
                if promoter is not None:
                    await promoter.close()
                raise
            await self._wait(self._promote, PROMOTION_LOOK_EVERY_S)

    async def _promote_all(self, promoter: PromoterPort) -> None:
        self._promote.clear()
        while (step := await promoter.step()) is not None:
            self._observer.promotion_pending()
            self._observer.promoted(step)
        self._observer.promotion_settled()

    # waiting

    async def persistently(
        self, stage: str, call: Callable[[], Awaitable[_T]], stop: asyncio.Event, *, patience_s: float | None = None
    ) -> _T | None:
        """Calls until it succeeds, with jitter; None when ``stop`` was set before. Raises what lasts too long."""

        def failing(attempt: RetryCallState) -> None:
            reason = str(attempt.outcome.exception()) if attempt.outcome else ""
            self._observer.waiting(stage, reason)
            if attempt.attempt_number == 1:
                _log.warning("waiting", stage=stage, reason=reason)

        async def unless_stopped() -> _T | None:
            return None if stop.is_set() else await call()

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(RetryableError),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            stop=lambda _: self._fails_too_long(stage, self._limits.outage_max_s if patience_s is None else patience_s),
            before_sleep=failing,
            sleep=lambda delay: self._pause(delay, stop),
            reraise=True,
        )
        result: _T | None = await retrying(unless_stopped)
        if stop.is_set():
            return result
        tries = retrying.statistics.get("attempt_number", 1)
        if tries > 1:
            _log.info("recovered", stage=stage, tries=tries)
        self._recovered(stage)
        return result

    def _fails_too_long(self, stage: str, limit_s: float) -> bool:
        """The limit counts from the stage's first failure since it last succeeded."""
        now = time.monotonic()
        return now - self._failing_since.setdefault(stage, now) >= limit_s

    def _recovered(self, stage: str) -> None:
        self._failing_since.pop(stage, None)
        self._observer.recovered(stage)

    async def _pause(self, delay_s: float, stop: asyncio.Event) -> None:
        await self._wait(stop, delay_s)

    @staticmethod
    async def _wait(event: asyncio.Event, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return
