"""A NodePort whose answers a test sets: what it has, what it forgets, what it lies about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from eth_hash.auto import keccak

from indexer.core.assemble import PlacedLog
from indexer.core.blocks import Header
from indexer.errors import MethodMissing, RangeTooLarge
from indexer.ports import LogFilter


def bloom_of(logs: list[PlacedLog]) -> bytes:
    """The logs bloom of a block with these logs (Yellow Paper §4.3.1), written independently of the indexer's."""
    bits = 0
    for log in logs:
        for value in (bytes.fromhex(log.address[2:]), *log.topics):
            digest = keccak(value)
            for i in (0, 2, 4):
                bits |= 1 << ((digest[i] << 8 | digest[i + 1]) % 2048)
    return bits.to_bytes(256, "big")


@dataclass(slots=True)
class ChainNode:
    """Headers by number, logs by block hash. ``shown_logs`` is what eth_getLogs says; ``logs`` is the truth."""

    headers: dict[int, Header]
    logs: dict[str, list[PlacedLog]] = field(default_factory=dict)
    shown_logs: dict[str, list[PlacedLog]] | None = None
    finalized: int = 0
    has_receipts: bool = True
    range_blocks_max: int = 10**9
    asked: list[str] = field(default_factory=list)
    name: str = "fake"

    @property
    def count(self) -> int:
        return 1

    def distrust(self) -> None:
        self.asked.append("distrust")

    async def hashes_at(self, number: int) -> list[str]:
        return [self.headers[number].hash] if number in self.headers else []

    async def chain_id(self) -> int:
        return 31337

    async def genesis_hash(self) -> str:
        return self.headers[0].hash

    async def header_by_tag(self, tag: Literal["latest", "safe", "finalized"]) -> Header | None:
        return self.headers.get(max(self.headers) if tag == "latest" else self.finalized)

    async def header_by_number(self, number: int) -> Header | None:
        return self.headers.get(number)

    async def header_by_hash(self, block_hash: str) -> Header | None:
        return next((header for header in self.headers.values() if header.hash == block_hash), None)

    async def logs_of_block(self, header: Header, wanted: LogFilter) -> list[PlacedLog]:
        self.asked.append("logs")
        shown = self.logs if self.shown_logs is None else self.shown_logs
        return list(shown.get(header.hash, []))

    async def logs_from_receipts(self, header: Header, wanted: LogFilter) -> list[PlacedLog]:
        self.asked.append("receipts")
        if not self.has_receipts:
            raise MethodMissing("the method eth_getBlockReceipts does not exist")
        return list(self.logs.get(header.hash, []))

    async def logs_of_range(self, from_block: int, to_block: int, wanted: LogFilter) -> list[PlacedLog]:
        self.asked.append("range")
        if to_block - from_block + 1 > self.range_blocks_max:
            raise RangeTooLarge("block range too large", blocks_max=self.range_blocks_max or None)
        shown = self.logs if self.shown_logs is None else self.shown_logs
        blocks = (self.headers[n] for n in range(from_block, to_block + 1) if n in self.headers)
        return [log for header in blocks for log in shown.get(header.hash, [])]
