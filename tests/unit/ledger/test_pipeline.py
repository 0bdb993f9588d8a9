"""The pipeline with a scripted consumer: claims before judging, rebalances, outages, lost offsets, stalls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from ledger.core.records import Stop
from ledger.errors import BrokerUnavailable, ConfigurationRefused, DatabaseUnavailable, LedgerError, Superseded
from ledger.pipeline import Limits, Pipeline
from ledger.ports import Claim, ConsumerPort, Lag, Listener, OffsetsLost, Partition, PromoterPort, Promotion
from tests.unit.ledger.fake_store import FakeStore, Shelf
from tests.unit.ledger.folding import StaticRegistry, fold_into, make_observer
from tests.unit.ledger.random_story import random_story
from tests.unit.ledger.story import CHAIN_ID, Raw, Story

HERE = Partition("events", 0)


@pytest.fixture(autouse=True)
def _rejoin_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.pipeline.REJOIN_JITTER_S", 0.1)


class Stage:
    """One broker and one database for the pipeline under test."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.shelf = Shelf()
        self.position = 0  # index of the next record that the consumer hands out
        self.failures: deque[Exception] = deque()  # of opening a store
        self.stops: deque[Exception] = deque()  # of writing down a stop
        self.polls: deque[Exception] = deque()  # instead of a poll
        self.taken_over_at: int | None = None  # record from which on another instance folds for a while
        self.starts = 0
        self.sought: list[int] = []
        self.hand_out_unclaimed = False
        self.begins_at = 0  # offset of the oldest record that the broker still has
        self.lags: Mapping[Partition, Lag] = {}
        self.observer = make_observer()

    def start(self) -> None:
        self.starts += 1

    async def open_store(self) -> FakeStore:
        if self.failures:
            raise self.failures.popleft()
        return UnluckyStore(self)

    async def open_promoter(self) -> PromoterPort:
        return NoPromoter()

    def pipeline(self, *, stall_max_s: float = 60, outage_max_s: float = 30) -> Pipeline:
        return Pipeline(
            chain_id=CHAIN_ID,
            instance_id="test",
            limits=Limits(batch_records_max=50, outage_max_s=outage_max_s, stall_max_s=stall_max_s),
            make_consumer=lambda: FakeConsumer(self),
            open_store=self.open_store,
            open_promoter=self.open_promoter,
            registry=StaticRegistry(),
            observer=self.observer,
        )

    async def run_to_failure(self, **options: Any) -> LedgerError:
        """Runs the pipeline until it fails; why."""
        async with asyncio.timeout(10):
            with pytest.raises(ExceptionGroup) as caught:
                await self.pipeline(**options).run(asyncio.Event())
        (failure,) = caught.value.exceptions
        assert isinstance(failure, LedgerError)
        return failure

    async def run_until(self, holds: Callable[[], bool], **options: Any) -> None:
        """Runs the pipeline until something is true, then stops it as SIGTERM does."""
        stop = asyncio.Event()

        async def watch() -> None:
            async with asyncio.timeout(10):
                while not holds():  # noqa: ASYNC110 - the state of another task is waited for
                    await asyncio.sleep(0)
            stop.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(self.pipeline(**options).run(stop))
            group.create_task(watch())

    def complete(self) -> bool:
        return self.shelf.state.position.stream_seq == len(self.story.records)


class UnluckyStore(FakeStore):
    """Fails as its stage says."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage.shelf)
        self.troubles = stage.stops

    async def stop(self, claim: Claim, stop: Stop) -> None:
        if self.troubles:
            raise self.troubles.popleft()
        await super().stop(claim, stop)


class NoPromoter(PromoterPort):
    async def step(self) -> Promotion | None:
        return None

    async def close(self) -> None:
        return


class FakeConsumer(ConsumerPort):
    """Hands records out in small polls; paused until sought, unless told to be as bad as the real one can be."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.paused = True

    async def start(self, listener: Listener) -> None:
        self.stage.start()
        self.listener = listener
        self.paused = False
        await listener.assigned([HERE])

    async def poll(self, timeout_s: float) -> Mapping[Partition, Sequence[Raw]]:
        del timeout_s
        await asyncio.sleep(0)
        stage = self.stage
        if stage.polls:
            raise stage.polls.popleft()
        if stage.taken_over_at is not None and stage.position > stage.taken_over_at:
            await self._rebalanced()
        if self.paused and not stage.hand_out_unclaimed:
            return {}
        if stage.sought[-1:] < [stage.begins_at]:
            raise OffsetsLost({HERE: stage.sought[-1]})
        records = stage.story.records[stage.position : stage.position + 7]
        stage.position += len(records)
        return {HERE: records} if records else {}

    async def _rebalanced(self) -> None:
        """Another instance has the partition, folds some of it and gives it back."""
        stage, self.stage.taken_over_at = self.stage, None
        await self.listener.revoked([HERE])
        done = stage.shelf.state.position.stream_seq
        await fold_into(stage.shelf, [stage.story.records[: done + 20]])
        await self.listener.assigned([HERE])

    def seek(self, partition: Partition, offset: int) -> bool:
        assert partition == HERE
        stage = self.stage
        stage.sought.append(offset)
        stage.position = next(
            (i for i, r in enumerate(stage.story.records) if r.offset >= offset), len(stage.story.records)
        )
        self.paused = False
        stage.hand_out_unclaimed = False
        return True

    def pause(self, partition: Partition) -> None:
        assert partition == HERE
        self.paused = True

    async def lag(self) -> Mapping[Partition, Lag]:
        return self.stage.lags

    async def stop(self) -> None:
        return


async def expected(story: Story) -> object:
    shelf = Shelf()
    await fold_into(shelf, [story.records])
    return shelf.digest()


async def test_everything_is_folded_and_the_service_is_ready() -> None:
    stage = Stage(random_story(41))
    await stage.run_until(stage.complete)
    assert stage.shelf.digest() == await expected(stage.story)
    assert stage.sought == [0]


async def test_records_that_come_before_the_claim_are_discarded_not_judged() -> None:
    """The consumer hands out records from an old position while the database is away."""
    stage = Stage(random_story(42))
    stage.failures.extend([DatabaseUnavailable("away"), DatabaseUnavailable("away")])
    stage.hand_out_unclaimed = True
    stage.position = 30
    await stage.run_until(stage.complete)
    assert stage.shelf.stopped is None
    assert stage.shelf.digest() == await expected(stage.story)


async def test_a_partition_that_comes_back_begins_where_the_other_instance_stopped() -> None:
    """Nothing of before the rebalance is carried on."""
    stage = Stage(random_story(42))
    stage.taken_over_at = 40
    await stage.run_until(stage.complete)
    assert stage.shelf.digest() == await expected(stage.story)
    assert stage.starts == 1
    first, second = stage.sought
    assert first == 0 < second


async def test_a_broker_that_fails_is_joined_again() -> None:
    stage = Stage(random_story(43))
    stage.polls.extend([BrokerUnavailable("coordinator gone")])
    await stage.run_until(stage.complete)
    assert stage.starts == 2
    assert stage.shelf.epoch == 2
    assert stage.shelf.digest() == await expected(stage.story)


async def test_a_broker_that_fails_for_too_long_ends_the_service() -> None:
    stage = Stage(random_story(43))
    stage.polls.extend([BrokerUnavailable("coordinator gone")])
    assert isinstance(await stage.run_to_failure(outage_max_s=0.0), BrokerUnavailable)


async def test_patience_counts_from_the_first_failure_not_from_the_start_of_a_long_call() -> None:
    """A claim that hangs for longer than the limit before it fails is tried again."""
    stage = Stage(random_story(43))

    async def hang_once() -> FakeStore:
        if stage.failures:
            await asyncio.sleep(0.2)  # longer than the limit: what a connection's own timeout does
            raise stage.failures.popleft()
        return FakeStore(stage.shelf)

    stage.open_store = hang_once  # type: ignore[method-assign]
    stage.failures.extend([DatabaseUnavailable("connection timed out"), DatabaseUnavailable("connection timed out")])
    await stage.run_until(stage.complete, outage_max_s=0.15)


async def test_what_is_fatal_in_a_rebalance_ends_the_service() -> None:
    """Whatever the callback raises, the client library swallows."""
    stage = Stage(random_story(43))
    stage.failures.append(ConfigurationRefused("the schema lacks something"))
    assert isinstance(await stage.run_to_failure(), ConfigurationRefused)


async def test_a_process_whose_name_another_one_took_ends() -> None:
    stage = Stage(random_story(43))
    stage.polls.append(BrokerUnavailable("fenced: another member has this instance id"))
    started = stage.start

    def taken_over() -> None:
        started()
        if stage.starts == 2:
            stage.shelf.owner = "test#another process"

    stage.start = taken_over  # type: ignore[method-assign]
    assert isinstance(await stage.run_to_failure(), Superseded)


@pytest.mark.parametrize("trouble", [[], [DatabaseUnavailable("away")]])
async def test_offsets_that_are_gone_stop_the_partition_and_say_so(trouble: list[Exception]) -> None:
    """Also when the database is away at that moment: the partition is claimed again, and its loss is found again."""
    stage = Stage(random_story(44))
    stage.begins_at = 4
    stage.stops.extend(trouble)
    await stage.run_until(lambda: stage.shelf.stopped is not None)
    assert stage.shelf.stopped is not None
    reason, offset = stage.shelf.stopped
    assert offset == 0
    assert "offset 0 is not in events/0: the topic was truncated or made again" in reason
    assert stage.shelf.entries == []
    assert any("truncated" in reason for reason in stage.observer.readiness().reasons)


async def test_a_partition_goes_on_when_its_incident_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a restart, also when the database is away for one look."""
    monkeypatch.setattr("ledger.pipeline.INCIDENTS_EVERY_S", 0.0)
    stage = Stage(random_story(4, incidents=True))
    assert len(stage.story.incidents) > 2
    seen: list[str] = []

    def done() -> bool:
        waits = [name for name in stage.story.incidents - stage.shelf.accepted if name in str(stage.shelf.stopped)]
        if waits and not stage.observer.readiness().ready:
            seen.extend(waits)
            stage.failures.append(DatabaseUnavailable("away"))
            stage.shelf.accepted.update(waits)
        return stage.complete() and stage.observer.readiness().ready

    await stage.run_until(done)
    assert set(seen) == stage.story.incidents
    assert stage.starts == 1
    shelf = Shelf(accepted=stage.story.incidents)
    await fold_into(shelf, [stage.story.records])
    assert stage.shelf.digest() == shelf.digest()


async def test_a_partition_that_is_behind_and_does_not_move_is_joined_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.pipeline.LAG_EVERY_S", 0.0)
    stage = Stage(Story())
    stage.lags = {HERE: Lag(records=5, position=0)}
    await stage.run_until(lambda: stage.starts >= 2, stall_max_s=0.01)


async def test_not_ready_before_the_claim_nor_when_behind_for_long() -> None:
    observer = make_observer(lag_max_s=0.0)
    assert observer.readiness().reasons == ["not a member of the consumer group yet"]
    observer.assigned(frozenset({HERE}))
    assert observer.readiness().reasons == ["events/0 is not claimed"]
    claim = await FakeStore(Shelf()).claim(HERE, "test")
    observer.claimed(claim)
    assert observer.readiness().ready
    observer.lag({HERE: Lag(records=3, position=1)})
    await asyncio.sleep(0.001)
    assert "is behind for" in observer.readiness().reasons[0]
    observer.lag({HERE: Lag(records=0, position=4)})
    observer.waiting("postgres", "away")
    assert observer.readiness().reasons == ["waiting for postgres: away"]
    observer.recovered("postgres")
    assert observer.readiness().ready
