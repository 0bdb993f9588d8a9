"""Gets from the node what the core asks for, and checks it: tips, missing headers, the logs of blocks and ranges.

Silence is not "no logs": when the block's bloom affirms a contract that the answer has no log of, all logs of the
block decide, for together they must make that bloom.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from indexer.core.assemble import Assembler, MadeRecord, PlacedLog
from indexer.core.blocks import Header
from indexer.core.bloom import contains, may_hold_logs
from indexer.core.compose import change_bytes
from indexer.core.plan import Tips
from indexer.core.state import NewBlock, new_block
from indexer.errors import NodeBehind, NodeLied, RangeTooLarge
from indexer.ports import LogFilter, NodePort

BLOCKS_IN_FLIGHT: Final = 8
BLOCKS_AT_ONCE: Final = 16  # fetched before their weight is looked at

Finality = Literal["tags"] | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What a range of blocks below finality holds."""

    first: Header  # its parent must be what was published last
    last: Header
    records: list[MadeRecord]


class Fetcher:
    """Reads one chain through one node. Every method may raise RetryableError."""

    def __init__(
        self,
        node: NodePort,
        *,
        assembler: Assembler,
        addresses: frozenset[bytes],
        topic0s: frozenset[bytes],
        finality: Finality,
    ) -> None:
        self.node = node
        self._assembler = assembler
        self._addresses = addresses
        self._topic0s = topic0s
        self._finality = finality
        self._wanted = LogFilter(
            addresses=tuple(sorted("0x" + address.hex() for address in addresses)),
            topic0s=tuple(sorted("0x" + topic.hex() for topic in topic0s)),
        )
        self._slots = asyncio.Semaphore(BLOCKS_IN_FLIGHT)

    async def tips(self) -> Tips:
        """Latest, safe and finalized as the node sees them, brought into order (safe and finalized ≤ latest)."""
        if isinstance(self._finality, int):
            latest = await self._tag("latest")
            finalized = await self.at(max(latest.number - self._finality, 0))
            return Tips(latest=latest, safe=finalized, finalized=finalized)
        latest, safe, finalized = await asyncio.gather(
            self._tag("latest"), self._tag("safe"), self._tag("finalized")
        )  # three requests: they may come from different moments
        if finalized.number > latest.number:
            raise NodeLied(f"{self.node.name} says finalized {finalized.number} above latest {latest.number}")
        return Tips(latest=latest, safe=safe if safe.number >= finalized.number else finalized, finalized=finalized)

    async def at(self, number: int) -> Header:
        """The canonical header of a height; NodeBehind when the node does not have it."""
        header = await self.node.header_by_number(number)
        if header is None:
            raise NodeBehind(f"{self.node.name} does not have block {number}")
        return header

    async def blocks(self, headers: Sequence[Header], *, bytes_max: int | None = None) -> list[NewBlock]:
        """The blocks as they are published for the first time; no more of them once they weigh ``bytes_max``."""
        fetched: list[NewBlock] = []
        weight = 0
        for begin in range(0, len(headers), BLOCKS_AT_ONCE):
            if bytes_max is not None and weight >= bytes_max:
                break
            slice_ = headers[begin : begin + BLOCKS_AT_ONCE]
            fetched += await asyncio.gather(*(self._block(header) for header in slice_))
            weight = sum(change_bytes(block.state) for block in fetched)
        return fetched

    async def chunk(self, from_block: int, to_block: int) -> Chunk:
        """An inclusive range at or below finality: its records, its first and its last header.

        The node that is asked has to call it final itself: after a fail-over it may be one that lags, and what is not
        final for it may be another branch. The headers are asked for after the logs, so that a chain that changes in
        between is seen.
        """
        final = await self._final_number()
        if final < to_block:
            raise NodeBehind(f"{self.node.name} calls blocks up to {final} final, {to_block} is wanted")
        logs = await self._range(from_block, to_block)
        first, last = await asyncio.gather(self.at(from_block), self.at(to_block))
        hashes = {first.number: first.hash, last.number: last.hash}
        untimed = sorted({log.block_number for log in logs if not log.block_timestamp})
        headers = await asyncio.gather(*(self.at(number) for number in untimed))
        hashes |= {header.number: header.hash for header in headers}
        for log in logs:
            if hashes.setdefault(log.block_number, log.block_hash) != log.block_hash:
                raise NodeLied(f"{self.node.name} gives block {log.block_number} two hashes below finality")
        times = {header.number: header.timestamp for header in headers}
        timed = [log.at_time(times[log.block_number]) if log.block_number in times else log for log in logs]
        return Chunk(first=first, last=last, records=self._assembler.records(timed))

    async def _final_number(self) -> int:
        if isinstance(self._finality, int):
            return max((await self._tag("latest")).number - self._finality, 0)
        return (await self._tag("finalized")).number

    async def _range(self, from_block: int, to_block: int) -> list[PlacedLog]:
        if from_block < to_block:
            return await self.node.logs_of_range(from_block, to_block, self._wanted)
        try:
            return await self.node.logs_of_range(from_block, to_block, self._wanted)
        except RangeTooLarge:
            return await self.node.logs_from_receipts(await self.at(from_block), self._wanted)

    async def _block(self, header: Header) -> NewBlock:
        async with self._slots:
            logs = await self._logs(header)
        made = self._assembler.records(logs)
        return new_block(header, [m.stored() for m in made])

    async def _logs(self, header: Header) -> list[PlacedLog]:
        try:
            logs = await self.node.logs_of_block(header, self._wanted)
        except RangeTooLarge:
            return await self.node.logs_from_receipts(header, self._wanted)
        bloom = int.from_bytes(header.logs_bloom, "big")
        for log in logs:
            if not all(contains(bloom, part) for part in (bytes.fromhex(log.address[2:]), *log.topics)):
                raise NodeLied(
                    f"{self.node.name} gives a log {log.log_index} that block {header.number}'s bloom denies"
                )
        silent = self._addresses - {bytes.fromhex(log.address[2:]) for log in logs}
        if not may_hold_logs(header.logs_bloom, addresses=silent, topic0s=self._topic0s):
            return logs
        return await self.node.logs_from_receipts(header, self._wanted)

    async def _tag(self, tag: Literal["latest", "safe", "finalized"]) -> Header:
        header = await self.node.header_by_tag(tag)
        if header is None:
            raise NodeBehind(
                f"{self.node.name} has no {tag!r} block; if it never has, set [chain] finality to a depth such as 64"
            )
        return header
