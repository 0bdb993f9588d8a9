"""Starts of a chain, when two instances make them at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from contracts.messages import Topics
from indexer.core.state import OWNER_KEY, Owner, block_write, cursor_write, owner_write
from indexer.errors import Fenced, StateRefused
from indexer.ports import StateRecord
from indexer.session import ChainPlan, ContractStart, _refuse_lost_state, _taken_over
from tests.fakes.broker import Broker, Producer
from tests.unit.indexer.core.branches import GENESIS, block_state, header
from tests.unit.indexer.core.test_state import cursor


class StreamsHoldRecords(Broker):
    """Somebody has published; ``records`` is what the state topic says by now."""

    def __init__(self, records: list[StateRecord]) -> None:
        super().__init__()
        self._state = records

    async def read(self, topic: str, *, to_the_very_end: bool) -> AsyncGenerator[StateRecord, None]:
        for record in self._state if to_the_very_end else []:
            yield record

    async def any_records(self, topic: str, partitions: int) -> bool:
        return True


def plan() -> ChainPlan:
    return ChainPlan(
        chain_id=31337,
        partitions=2,
        topics=Topics(chain="local"),
        instance_id="me",
        lease_ms=1_000,
        registry=[],
        starts=[ContractStart(contract="till", start_block=0)],
    )


async def test_streams_that_another_instance_has_just_begun_are_not_a_lost_state() -> None:
    with pytest.raises(Fenced):
        await _refuse_lost_state(plan(), StreamsHoldRecords([(0, *cursor_write(cursor()))]))


async def test_streams_without_any_state_are_refused() -> None:
    with pytest.raises(StateRefused, match="the state topic was lost"):
        await _refuse_lost_state(plan(), StreamsHoldRecords([]))


class CompactedWhileRead(StreamsHoldRecords):
    """A block, but not the cursor any more: what a successor's writes and a compaction leave of an old read."""

    def __init__(self, owners: list[str]) -> None:
        super().__init__([(3, *block_write(block_state(header(1, "a", GENESIS))))])
        self._owners = owners

    async def latest(self, topic: str, key: str) -> bytes | None:
        assert key == OWNER_KEY
        name = self._owners.pop(0) if len(self._owners) > 1 else self._owners[0]
        return owner_write(Owner(instance_id=name, lease_until_ms=0, started_at_ms=0))[1]


class StoppedClock:
    def now_ms(self) -> int:
        return 1_000

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody has the chain")


@pytest.mark.parametrize(("owners", "expected"), [(["before", "successor"], Fenced), (["before"], StateRefused)])
async def test_a_topic_that_a_successor_writes_to_is_not_taken_for_a_broken_one(
    owners: list[str], expected: type[Exception]
) -> None:
    state = CompactedWhileRead(owners)
    with pytest.raises(expected):
        await _taken_over(plan(), state=state, publisher=Producer(state), clock=StoppedClock(), standby=lambda _: None)
