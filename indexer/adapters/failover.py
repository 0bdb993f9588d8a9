"""Several nodes as one: asks the preferred one, moves on to the next when it fails.

Every node must belong to the chain: ``check`` asks all of them for chain id and genesis hash.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

import structlog

from indexer.core.assemble import PlacedLog
from indexer.core.blocks import Header
from indexer.errors import ConfigurationRefused, NodeBehind, NodeLied, NodeUnavailable
from indexer.ports import LogFilter, NodePort

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class FailoverNode:
    """A NodePort over others. An error is raised to the caller, who asks again: then the next node answers."""

    def __init__(self, nodes: Sequence[NodePort]) -> None:
        if not nodes:
            raise ValueError("no node")
        self._nodes = tuple(nodes)
        self._current = 0

    @property
    def name(self) -> str:
        return self._nodes[self._current].name

    async def check(self, chain_id: int) -> None:
        """Refuses nodes of another chain. Raises ConfigurationRefused; NodeUnavailable when none answers."""
        genesis: dict[str, str] = {}
        away: list[str] = []
        for node in self._nodes:
            try:
                actual = await node.chain_id()
                if actual != chain_id:
                    raise ConfigurationRefused(
                        f"{node.name} is on chain id {actual}, [chain] id says {chain_id}: wrong node or wrong settings"
                    )
                genesis[node.name] = await node.genesis_hash()
            except (NodeUnavailable, NodeBehind, NodeLied) as exc:
                away.append(str(exc))
        if not genesis:
            raise NodeUnavailable("; ".join(away))
        if len(set(genesis.values())) > 1:
            raise ConfigurationRefused(f"the nodes disagree on block 0: {genesis}")

    async def chain_id(self) -> int:
        return await self._ask(lambda node: node.chain_id())

    async def genesis_hash(self) -> str:
        return await self._ask(lambda node: node.genesis_hash())

    async def header_by_tag(self, tag: Literal["latest", "safe", "finalized"]) -> Header | None:
        return await self._ask(lambda node: node.header_by_tag(tag))

    async def header_by_number(self, number: int) -> Header | None:
        return await self._ask(lambda node: node.header_by_number(number))

    async def header_by_hash(self, block_hash: str) -> Header | None:
        return await self._ask(lambda node: node.header_by_hash(block_hash))

    async def logs_of_block(self, header: Header, wanted: LogFilter) -> list[PlacedLog]:
        return await self._ask(lambda node: node.logs_of_block(header, wanted))

    async def logs_from_receipts(self, header: Header, wanted: LogFilter) -> list[PlacedLog]:
        return await self._ask(lambda node: node.logs_from_receipts(header, wanted))

    async def logs_of_range(self, from_block: int, to_block: int, wanted: LogFilter) -> list[PlacedLog]:
        return await self._ask(lambda node: node.logs_of_range(from_block, to_block, wanted))

    async def _ask(self, question: Callable[[NodePort], Awaitable[_T]]) -> _T:
        asked = self._current
        try:
            return await question(self._nodes[asked])
        except (NodeUnavailable, NodeBehind, NodeLied):
            if len(self._nodes) > 1 and self._current == asked:
                self._current = (asked + 1) % len(self._nodes)
                _log.warning("asking another node", left=self._nodes[asked].name, now=self.name)
            raise
