"""Simulated RPC nodes: each has a view of its own that lags, is stale or foreign, and answers that go wrong.

A node never contradicts what is final in its own view: an answer by number at or below its finalized block is true.
What it does wrong is counted by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from indexer.core.assemble import PlacedLog
from indexer.core.blocks import Header
from indexer.errors import NodeBehind, NodeUnavailable, RangeTooLarge
from indexer.ports import LogFilter
from tests.simulation.chain import Block, Chain
from tests.simulation.loop import Gate

if TYPE_CHECKING:
    from tests.simulation.faults import Faults

Tag = Literal["latest", "safe", "finalized"]


@dataclass(slots=True)
class SimNode:
    """One node with its view of the chain."""

    name: str
    chain: Chain
    faults: Faults
    head: Block = field(init=False)
    safe: Block = field(init=False)
    finalized: Block = field(init=False)
    silent: int = 0  # so many answers are omitted logs from now on
    away: int = 0  # so many answers time out from now on
    range_blocks_max: int = 1_000
    keeps_orphans: bool = True
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.sync()

    def sync(self, *, lag: int = 0) -> None:
        """Follows the canonical chain, ``lag`` blocks behind."""
        block = self.chain.head.at(max(self.chain.head.number - lag, 0))
        assert block is not None
        self.show(block)

    def show(self, head: Block) -> None:
        """Takes a block for the head. Tags are the chain's as far as this branch has them."""
        self.head = head
        self.safe = self._common(self.chain.safe)
        self.finalized = self._common(self.chain.finalized)
        self.seen.update(block.hash for block in head.blocks())

    def _common(self, block: Block) -> Block:
        number = min(block.number, self.head.number)
        while (mine := self.head.at(number)) is not block.at(number):
            number -= 1
        assert mine is not None
        return mine

    def tag(self, tag: Tag) -> Block:
        match tag:
            case "latest":
                if self.faults.happens("node says finalized above latest"):
                    return self.finalized.at(max(self.finalized.number - 1, 0)) or self.finalized
                return self.head
            case "safe":
                return self.safe
            case "finalized":
                if self.faults.happens("node's finalized tag regresses"):
                    return self.finalized.at(max(self.finalized.number - 3, 0)) or self.finalized
                return self.finalized

    def known(self, block_hash: str) -> Block | None:
        block = self.chain.blocks.get(block_hash)
        if block is None or block_hash not in self.seen:
            return None
        return block if self.keeps_orphans or self.head.descends_from(block) else None


@dataclass(slots=True)
class NodeClient:
    """A NodePort of one process to one node: each call waits for its turn, then may go wrong."""

    node: SimNode
    gate: Gate

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def count(self) -> int:
        return 1

    def distrust(self) -> None:
        """There is no other node here."""

    async def _called(self, method: str, *, may_be_null: bool = False) -> bool:
        """Waits; False: the node answers null though it has it."""
        node, faults = self.node, self.node.faults
        await self.gate.wait(f"{node.name} {method}")
        if node.away > 0:
            node.away -= 1
            raise NodeUnavailable(f"{node.name} times out")
        if faults.happens("node drops a reply"):
            raise NodeUnavailable(f"{node.name} closed the connection")
        return not (may_be_null and faults.happens("node answers null"))

    async def hashes_at(self, number: int) -> list[str]:
        header = await self.header_by_number(number)
        return [] if header is None else [header.hash]

    async def chain_id(self) -> int:
        await self._called("chainId")
        return self.node.chain.chain_id

    async def genesis_hash(self) -> str:
        await self._called("block 0")
        genesis = self.node.head.at(0)
        assert genesis is not None
        return genesis.hash

    async def header_by_tag(self, tag: Tag) -> Header | None:
        if not await self._called(tag, may_be_null=True):
            return None
        return self.node.tag(tag).header

    async def header_by_number(self, number: int) -> Header | None:
        if not await self._called("byNumber", may_be_null=True):
            return None
        block = self.node.head.at(number)
        return None if block is None else block.header

    async def header_by_hash(self, block_hash: str) -> Header | None:
        if not await self._called("byHash", may_be_null=True):
            return None
        block = self.node.known(block_hash)
        return None if block is None else block.header

    async def logs_of_block(self, header: Header, wanted: LogFilter) -> list[PlacedLog]:
        await self._called("logs")
        node = self.node
        block = node.known(header.hash)
        if block is None:
            raise NodeBehind(f"{node.name}: unknown block")
        found = _filtered(block, wanted)
        if node.silent > 0 and found:
            node.silent -= 1
            node.faults.count("node omits logs though the bloom has them")
            if node.silent % 2:
                return []
            return [log for log in found if log.address != found[0].address]
        return found

    async def logs_from_receipts(self, header: Header, wanted: LogFilter) -> list[PlacedLog]:
        await self._called("receipts")
        block = self.node.known(header.hash)
        if block is None:
            raise NodeBehind(f"{self.node.name} has no receipts of block {header.number}")
        return _filtered(block, wanted)

    async def logs_of_range(self, from_block: int, to_block: int, wanted: LogFilter) -> list[PlacedLog]:
        await self._called("range")
        node = self.node
        if to_block - from_block + 1 > node.range_blocks_max:
            node.faults.count("node refuses a range")
            raise RangeTooLarge("block range too large", blocks_max=node.range_blocks_max)
        if to_block > node.head.number:
            raise NodeBehind(f"{node.name}: block range extends beyond current head block")
        blocks = (node.head.at(number) for number in range(from_block, to_block + 1))
        return [log for block in blocks if block is not None for log in _filtered(block, wanted)]


def _filtered(block: Block, wanted: LogFilter) -> list[PlacedLog]:
    return [
        log
        for log in block.logs
        if log.address in wanted.addresses and log.topics and "0x" + log.topics[0].hex() in wanted.topic0s
    ]
