"""Several nodes as one: asks the preferred one, moves on to another when it fails, lies or lags.

A node is used only after it has shown that it belongs to the chain: chain id, and the same block 0 as the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, TypeVar

import structlog

from indexer.core.assemble import PlacedLog
from indexer.core.blocks import Header
from indexer.errors import ConfigurationRefused, NodeBehind, NodeLied, NodeUnavailable, RetryableError
from indexer.ports import LogFilter, NodePort

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)
COMPARE_EVERY_S: Final = 10.0
COMPARE_S_MAX: Final = 1.0  # nobody waits longer for a node that is not needed
LAG_BLOCKS_MAX: Final = 2


class FailoverNode:
    """A NodePort over others. Errors go to the caller, who calls ``distrust`` and asks again: another node answers."""

    def __init__(self, nodes: Sequence[NodePort], *, chain_id: int) -> None:
        if not nodes:
            raise ValueError("no node")
        self._nodes = tuple(nodes)
        self._chain_id = chain_id
        self._genesis: str | None = None
        self._checked: set[int] = set()
        self._current = 0
        self._compared_at = 0.0

    @property
    def name(self) -> str:
        return self._nodes[self._current].name

    @property
    def count(self) -> int:
        return len(self._nodes)

    def distrust(self) -> None:
        if len(self._nodes) > 1:
            left, self._current = self.name, (self._current + 1) % len(self._nodes)
            _log.warning("asking another node", left=left, now=self.name)

    async def check(self) -> None:
        """Checks every node that answers. Raises ConfigurationRefused (other chain), NodeUnavailable (no answer)."""
        outcomes = await asyncio.gather(*(self._verify(i) for i in range(self.count)), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if not isinstance(failure, RetryableError):
                raise failure
        if len(failures) == self.count:
            raise NodeUnavailable("; ".join(str(failure) for failure in failures))

    async def hashes_at(self, number: int) -> list[str]:
        async def ask(index: int) -> list[str]:
            await self._verify(index)
            return await self._nodes[index].hashes_at(number)

        answers = await asyncio.gather(*(ask(i) for i in range(self.count)), return_exceptions=True)
        return [block_hash for answer in answers if not isinstance(answer, BaseException) for block_hash in answer]

    async def chain_id(self) -> int:
        return await self._ask(lambda node: node.chain_id())

    async def genesis_hash(self) -> str:
        return await self._ask(lambda node: node.genesis_hash())

    async def header_by_tag(self, tag: Literal["latest", "safe", "finalized"]) -> Header | None:
        if tag == "latest" and self.count > 1 and time.monotonic() - self._compared_at > COMPARE_EVERY_S:
            self._compared_at = time.monotonic()
            await self._leave_laggard()
        return await self._ask(lambda node: node.header_by_tag(tag))

    async def header_by_number(self, number: int) -> Header | None:
        return await self._ask(lambda node: node.header_by_number(number))

    async def header_by_hash(self, block_hash: str) -> Header | None:
        """We ask for parents of what this node told us: without them it is no use, and another is asked next time."""
        header = await self._ask(lambda node: node.header_by_hash(block_hash))
        if header is None:
            self.distrust()
        return header

    async def logs_of_block(self, header: Header, wanted: LogFilter) -> list[PlacedLog]:
        return await self._ask(lambda node: node.logs_of_block(header, wanted))

    async def logs_from_receipts(self, header: Header, wanted: LogFilter) -> list[PlacedLog]:
        return await self._ask(lambda node: node.logs_from_receipts(header, wanted))

    async def logs_of_range(self, from_block: int, to_block: int, wanted: LogFilter) -> list[PlacedLog]:
        return await self._ask(lambda node: node.logs_of_range(from_block, to_block, wanted))

    async def _ask(self, question: Callable[[NodePort], Awaitable[_T]]) -> _T:
        index = self._current
        await self._verify(index)
        return await question(self._nodes[index])

    async def _verify(self, index: int) -> None:
        """Once per node: it must be on our chain."""
        if index in self._checked:
            return
        node = self._nodes[index]
        chain_id, genesis = await node.chain_id(), await node.genesis_hash()
        if chain_id != self._chain_id:
            raise ConfigurationRefused(
                f"{node.name} is on chain id {chain_id}, [chain] id says {self._chain_id}: wrong node or wrong settings"
            )
        if self._genesis is not None and genesis != self._genesis:
            raise ConfigurationRefused(f"{node.name} has block 0 {genesis}, another node has {self._genesis}")
        self._genesis = genesis
        self._checked.add(index)

    async def _leave_laggard(self) -> None:
        """Moves to the node that is furthest when the current one is more than LAG_BLOCKS_MAX behind it."""

        async def head(index: int) -> int:
            try:
                async with asyncio.timeout(COMPARE_S_MAX):
                    await self._verify(index)
                    header = await self._nodes[index].header_by_tag("latest")
            except (NodeUnavailable, NodeBehind, NodeLied, TimeoutError):
                return -1
            return -1 if header is None else header.number

        heads = await asyncio.gather(*(head(i) for i in range(self.count)))
        best = max(range(self.count), key=lambda i: heads[i])
        if heads[best] - heads[self._current] > LAG_BLOCKS_MAX:
            _log.warning("the node lags", node=self.name, head=heads[self._current], furthest=heads[best])
            self._current = best
