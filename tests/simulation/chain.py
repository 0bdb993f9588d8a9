"""The simulated chain: a tree of blocks with payments, one canonical branch, its tags. What is true, for everybody.

Blocks are hash-linked and carry true blooms. Every block knows, per partition, a digest over all event ids from genesis
to itself: what a consumer must hold when a watermark names that block.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from indexer.core.assemble import PlacedLog
from indexer.core.blocks import Header
from tests.fakes.chain_node import bloom_of
from tests.simulation.payments import Payments, Tx
from tests.unit.ledger.story import BEGIN, BLOCK_SECONDS

PARTITION_OF = {"gateway": 0, "vault": 1, "custody": 1}
PARTITIONS = 2
TXS_MAX = 3


def event_id(chain_id: int, block_hash: str, log_index: int) -> str:
    """DESIGN's G2, written again."""
    raw = chain_id.to_bytes(8, "big") + bytes.fromhex(block_hash[2:]) + log_index.to_bytes(4, "big") + b"\0"
    return "0x" + hashlib.sha256(raw).hexdigest()


def chained(digest: bytes, identity: str) -> bytes:
    """A digest over a list of event ids, one more at its end."""
    return hashlib.sha256(digest + identity.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Block:
    """One block. ``label`` names it in traces: the same for the same seed."""

    header: Header
    label: str
    path: tuple[Block, ...]  # genesis … parent
    txs: tuple[Tx, ...]
    logs: tuple[PlacedLog, ...]
    events: tuple[tuple[str, int], ...]  # (event id, partition) of every log that becomes an event, in log order
    rejected: tuple[tuple[str, int], ...]  # the same of those that cannot be decoded
    digests: tuple[bytes, ...]  # per partition, over all events of the path including this block

    def __repr__(self) -> str:
        return f"<block {self.label}>"

    @property
    def number(self) -> int:
        return self.header.number

    @property
    def hash(self) -> str:
        return self.header.hash

    @property
    def parent(self) -> Block:
        return self.path[-1]

    def at(self, number: int) -> Block | None:
        """The ancestor (or itself) at a height."""
        if number == self.number:
            return self
        return self.path[number] if 0 <= number < self.number else None

    def descends_from(self, other: Block) -> bool:
        return self.at(other.number) is other

    def blocks(self) -> Iterable[Block]:
        yield from self.path
        yield self


@dataclass(slots=True)
class Chain:
    """Everything that was ever mined."""

    chain_id: int
    pick: random.Random
    payments: Payments = field(init=False)
    blocks: dict[str, Block] = field(default_factory=dict)
    heights: dict[int, set[str]] = field(default_factory=dict)
    heads: list[Block] = field(default_factory=list)  # of branches that were left
    head: Block = field(init=False)
    safe: Block = field(init=False)
    finalized: Block = field(init=False)
    dropped: list[Tx] = field(default_factory=list)  # txs of replaced blocks that are not mined again yet

    def __post_init__(self) -> None:
        self.payments = Payments(self.pick)
        genesis = self._block(None, ())
        self.head = self.safe = self.finalized = genesis

    def mine(self, count: int, *, empty: bool = False) -> None:
        """Blocks on top of the head."""
        for _ in range(count):
            self.head = self._block(self.head, () if empty else self._txs(self.head))

    def reorg(self, depth: int, length: int) -> bool:
        """Replaces the newest ``depth`` blocks by ``length`` others; never below finality."""
        depth = min(depth, self.head.number - self.finalized.number)
        if depth < 1 or length < 1:
            return False
        old = self.head
        ancestor = old.at(old.number - depth)
        assert ancestor is not None
        self.heads = [*self.heads[-20:], old]
        self.dropped = [tx for block in old.blocks() if block.number > ancestor.number for tx in block.txs]
        self.head = ancestor
        self.mine(length)
        self._keep_safe()
        return True

    def switch(self) -> bool:
        """Makes the head of a branch that was left the head again."""
        heads = [h for h in self.heads if h is not self.head and h.descends_from(self.finalized)]
        if not heads:
            return False
        old, self.head = self.head, self.pick.choice(heads)
        self.heads = [*self.heads[-20:], old]
        self.dropped = []
        self._keep_safe()
        return True

    def finalize(self, up_to: int) -> bool:
        """Blocks up to a height are final from now on: they are never replaced."""
        block = self.head.at(min(up_to, self.head.number))
        if block is None or block.number <= self.finalized.number:
            return False
        self.finalized = block
        self.safe = max(self.safe, block, key=lambda b: b.number)
        return True

    def set_safe(self, number: int) -> None:
        block = self.head.at(max(min(number, self.head.number), self.finalized.number))
        assert block is not None
        self.safe = block

    def is_final(self, block_hash: str) -> bool:
        block = self.blocks.get(block_hash)
        return block is not None and self.finalized.at(block.number) is block

    def _keep_safe(self) -> None:
        if not self.head.descends_from(self.safe):
            self.safe = self.finalized

    def _txs(self, parent: Block) -> tuple[Tx, ...]:
        """New payments, and some that lost their block: never one that the branch has already."""
        txs = [self.payments.tx() for _ in range(self.pick.randint(0, TXS_MAX))]
        if self.dropped:
            mined = {tx.hash for block in parent.path[-60:] for tx in block.txs} | {tx.hash for tx in parent.txs}
            again = [tx for tx in self.dropped if tx.hash not in mined and self.pick.random() < 0.5]
            self.dropped = [tx for tx in self.dropped if tx not in again]
            txs += again[: TXS_MAX - 1]
            self.pick.shuffle(txs)
        return tuple(txs)

    def _block(self, parent: Block | None, txs: tuple[Tx, ...]) -> Block:
        number = 0 if parent is None else parent.number + 1
        label = f"{number}.{len(self.heights.get(number, ()))}"
        name = f"{self.chain_id} {label} {parent.hash if parent else ''}"
        block_hash = "0x" + hashlib.sha256(name.encode()).hexdigest()
        timestamp = BEGIN + BLOCK_SECONDS * number
        logs: list[PlacedLog] = []
        events: list[tuple[str, int]] = []
        rejected: list[tuple[str, int]] = []
        digests = list(parent.digests) if parent else [bytes(32)] * PARTITIONS
        for tx_index, tx in enumerate(txs):
            for log in tx.logs:
                place = PlacedLog(
                    block_number=number,
                    block_hash=block_hash,
                    block_timestamp=timestamp,
                    tx_hash=tx.hash,
                    tx_index=tx_index,
                    log_index=len(logs),
                    address=log.address,
                    topics=log.topics,
                    data=log.data,
                )
                if log.book is not None:
                    identity, partition = event_id(self.chain_id, block_hash, len(logs)), PARTITION_OF[log.book]
                    (events if log.decodable else rejected).append((identity, partition))
                    if log.decodable:
                        digests[partition] = chained(digests[partition], identity)
                logs.append(place)
        block = Block(
            header=Header(
                number=number,
                hash=block_hash,
                parent_hash=parent.hash if parent else "0x" + "00" * 32,
                timestamp=timestamp,
                logs_bloom=bloom_of(logs),
            ),
            label=label,
            path=(*parent.path, parent) if parent else (),
            txs=txs,
            logs=tuple(logs),
            events=tuple(events),
            rejected=tuple(rejected),
            digests=tuple(digests),
        )
        self.blocks[block_hash] = block
        self.heights.setdefault(number, set()).add(block_hash)
        return block
