"""Parts that memory has released are read again from the state topic, also when their commit is a moment old."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import pytest

from indexer.core.state import Owner, block_tombstones, owner_write
from indexer.durable import read_parts
from indexer.errors import Fenced, StateRefused
from indexer.ports import StateRecord
from tests.unit.indexer.core.branches import GENESIS, block_state, header, parts_of


class MarkerUnderWay:
    """The commit has returned, but its marker is not on the state topic yet: readers have to wait for it."""

    def __init__(self, records: list[StateRecord]) -> None:
        self._records = records

    async def read(self, topic: str, *, to_the_very_end: bool) -> AsyncGenerator[StateRecord, None]:
        for record in self._records if to_the_very_end else []:
            yield record

    async def read_at(self, topic: str, offsets: Sequence[int]) -> list[StateRecord]:
        return []

    async def latest(self, topic: str, key: str) -> bytes | None:
        return None

    async def any_records(self, topic: str, partitions: int) -> bool:
        return True


async def test_parts_are_waited_for_until_their_marker_is_written() -> None:
    block = block_state(header(1, "a", GENESIS), events=2)
    parts = parts_of(block)
    written = [(7 + i, key, value) for i, (key, value) in enumerate(zip(block.part_keys, parts, strict=True))]
    assert await read_parts(MarkerUnderWay(written), "state", [block], instance_id="me") == {block.header.hash: parts}


@pytest.mark.parametrize(("owner", "expected"), [("another", Fenced), ("me", StateRefused)])
async def test_parts_that_another_owner_has_finished_are_no_damage(owner: str, expected: type[Exception]) -> None:
    """A zombie finds its blocks gone: it was superseded. The same without another owner is a topic that was changed."""
    block = block_state(header(1, "a", GENESIS), events=2)
    writes = [*zip(block.part_keys, parts_of(block), strict=True), *block_tombstones(block)]
    writes.append(owner_write(Owner(instance_id=owner, lease_until_ms=0, started_at_ms=0)))
    written = [(7 + i, key, value) for i, (key, value) in enumerate(writes)]
    with pytest.raises(expected):
        await read_parts(MarkerUnderWay(written), "state", [block], instance_id="me")
