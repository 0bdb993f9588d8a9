"""The first start of a chain, when two instances make it at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from contracts.messages import Topics
from indexer.core.state import cursor_write
from indexer.errors import Fenced, StateRefused
from indexer.ports import StateRecord
from indexer.session import ChainPlan, ContractStart, _refuse_lost_state
from tests.fakes.broker import Broker
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
