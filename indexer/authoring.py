"""For authors of descriptions: reads blocks from a node and posts them in memory. Publishes and stores nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contracts.messages import PaymentEvent, Rejected
from contracts.posting import PostingRules
from contracts.registry import Registry, load_registry
from contracts.trial import Left, Trial, Tried
from deploy.runtime.rpc import connect
from indexer.adapters.node import Node
from indexer.core.assemble import Assembler
from indexer.errors import ConfigurationRefused, RangeTooLarge
from indexer.fetch import Fetcher

RANGE_BLOCKS: Final = 2_000
BLOCKS_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What a range gave."""

    chain_id: int
    from_block: int
    to_block: int
    tried: tuple[Tried, ...]  # in chain order
    rejected: tuple[Rejected, ...]  # logs that could not be decoded
    left: tuple[Left, ...]


async def try_range(
    paths: Sequence[Path], *, rpc_url: str, from_block: int, to_block: int | None, told: Callable[[int, int], None]
) -> TrialResult:
    """Decodes and posts the blocks of an inclusive range; ``to_block`` None is the head.

    ``told`` hears of the last block that was read and the last of all. Raises RegistryError, RetryableError,
    ConfigurationRefused.
    """
    async with connect(rpc_url, timeout_s=30.0) as rpc:
        node = Node(rpc)
        registry = load_registry(paths, chain_id=await node.chain_id())
        fetcher = _fetcher(node, registry)
        last = _last(from_block, to_block, head=(await fetcher.tips()).latest.number)
        trial = Trial({c.version: PostingRules.from_document(c.document) for c in registry.contracts})
        tried: list[Tried] = []
        rejected: list[Rejected] = []
        number, blocks = from_block, RANGE_BLOCKS
        while number <= last:
            through = min(number + blocks - 1, last)
            try:
                chunk = await fetcher.chunk(number, through)
            except RangeTooLarge as exc:
                if number == through:
                    raise
                blocks = max(min(exc.blocks_max or blocks // 2, (through - number + 1) // 2), 1)
                continue
            for record in chunk.records:
                if isinstance(record.message, PaymentEvent):
                    tried.append(trial.take(record.message))
                else:
                    rejected.append(record.message)
            told(through, last)
            number = through + 1
        return TrialResult(
            chain_id=registry.chain_id,
            from_block=from_block,
            to_block=last,
            tried=tuple(tried),
            rejected=tuple(rejected),
            left=tuple(trial.left()),
        )


def _last(from_block: int, to_block: int | None, *, head: int) -> int:
    last = head if to_block is None else to_block
    if last > head:
        raise ConfigurationRefused(f"the node's head is block {head}, --to says {last}")
    if not 0 <= last - from_block < BLOCKS_MAX:
        raise ConfigurationRefused(f"blocks {from_block} to {last} are no range of 1 to {BLOCKS_MAX:,} blocks")
    return last


def _fetcher(node: Node, registry: Registry) -> Fetcher:
    addresses, topic0s = registry.watched()
    assembler = Assembler(chain_id=registry.chain_id, dispatch=registry.dispatch, partition_of=lambda _: 0)
    return Fetcher(node, assembler=assembler, addresses=addresses, topic0s=topic0s, finality=0)
