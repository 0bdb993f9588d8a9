"""Parts that memory has released are read again from the state topic, also when their commit is a moment old."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from indexer.durable import read_parts
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
    assert await read_parts(MarkerUnderWay(written), "state", [block]) == {block.header.hash: parts}
