"""Asks a node about one block by its hash (EIP-1898), through web3 over the shared provider. Reads only.

Every call names the block's hash: whatever the node's head does meanwhile, all answers are of one block.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from web3.types import RPCEndpoint

from deploy.runtime.rpc import Rpc, RpcTransportError, connect
from ledger.core.compare import Call
from ledger.errors import CallFailed, ConfigurationRefused, NodeUnavailable

CONCURRENT_MAX: Final = 16
TRIES_MAX: Final = 5
REFUSALS: Final = ("revert", "invalid opcode", "out of gas", "stack underflow")
"""What nodes say when it was the contract that refused."""


class Node:
    """The first of the configured nodes that answers. Use as an async context."""

    def __init__(self, urls: Sequence[str], *, timeout_s: float) -> None:
        self._rpcs: list[Rpc] = [connect(url, timeout_s=timeout_s) for url in urls]
        self._places = asyncio.Semaphore(CONCURRENT_MAX)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for rpc in self._rpcs:
            await rpc.provider.disconnect()

    async def check_chain(self, chain_id: int) -> None:
        """Raises ConfigurationRefused when the node is of another chain, NodeUnavailable."""
        actual = int(await self._ask("eth_chainId", []), 16)
        if actual != chain_id:
            raise ConfigurationRefused(f"[chain] id is {chain_id}, the node reports {actual}")

    async def call(self, call: Call, block_hash: str) -> bytes:
        """The answer of a contract, or 32 bytes of native balance. Raises CallFailed, NodeUnavailable."""
        block = {"blockHash": block_hash, "requireCanonical": True}
        if call.data is None:
            return int(await self._ask("eth_getBalance", [call.to, block]), 16).to_bytes(32, "big")
        answer = await self._ask("eth_call", [{"to": call.to, "data": "0x" + call.data.hex()}, block])
        return bytes.fromhex(answer[2:])

    async def _ask(self, method: str, params: list[Any]) -> str:
        """Tries each node, several rounds with jitter."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(NodeUnavailable),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            stop=stop_after_attempt(TRIES_MAX),
            reraise=True,
        )
        async with self._places:
            answer: str = await retrying(self._round, method, params)
        return answer

    async def _round(self, method: str, params: list[Any]) -> str:
        failure = ""
        for rpc in self._rpcs:
            try:
                answer = await rpc.provider.make_request(RPCEndpoint(method), params)
            except RpcTransportError as exc:
                failure = str(exc)  # names the node
                continue
            except (json.JSONDecodeError, OSError) as exc:
                failure = f"{rpc.name}: {exc}"
                continue
            error = answer.get("error")
            result = answer.get("result")
            if error is None and isinstance(result, str):
                return result
            message = str(error.get("message", error) if isinstance(error, dict) else error or "no result")[:200]
            if any(word in message.lower() for word in REFUSALS):
                raise CallFailed(message)
            failure = f"{rpc.name}: {message}"
        raise NodeUnavailable(f"no node answers {method} at that block: {failure}")
