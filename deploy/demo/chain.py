"""The demo's own anvil: fresh, and the same again for the same calls, down to the block hashes.

Blocks are mined on demand, ``BLOCK_INTERVAL_S`` apart, transactions in the order of sending, nonces given by us; so
nothing depends on the clock.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from eth_abi.abi import encode
from eth_hash.auto import keccak

from contracts.solidity.artifacts import Artifact, load
from deploy.demo.actors import (
    ADMIN,
    BLOCK_INTERVAL_S,
    ETH,
    GATEWAY,
    GENESIS_TIMESTAMP,
    NATIVE,
    PEOPLE,
    TOKENS,
    VAULT,
)
from deploy.demo.failure import DemoFailure
from deploy.demo.plan import Block, Call, Ref, Reorg

SLOTS_IN_AN_EPOCH: Final = 4  # safe is 4 blocks behind the head, finalized 8
OPTIONS: Final = (
    "--silent",
    "--no-mining",
    *("--order", "fifo"),
    *("--accounts", str(len(PEOPLE))),
    *("--timestamp", str(GENESIS_TIMESTAMP)),
    *("--gas-limit", "200000000"),
    *("--slots-in-an-epoch", str(SLOTS_IN_AN_EPOCH)),
)
GAS: Final = 1_000_000
DEPLOYMENT_GAS: Final = 10_000_000
GAS_PRICE_WEI: Final = 2_000_000_000  # above the first block's base fee, which then only falls
RPC_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MinedBlock:
    """One block as it was mined."""

    number: int
    hash: str
    tx_hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneReorg:
    """What the reorg did to the chain."""

    depth: int
    common_ancestor: int  # number of the last block that stayed
    dropped_tx: str
    dropped_from_block: int
    moved_tx: str
    moved_from_block: int
    moved_to_block: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A call as it went to the node."""

    call: Call
    tx_hash: str


@dataclass(slots=True)
class _Branch:
    """The calls of each mined block, by its number."""

    blocks: dict[int, list[Sent]] = field(default_factory=dict)


class Chain:
    """A session with the node. Use as an async context manager.

    ``calls_may_fail``: a call that reverts is counted in ``failed`` instead of ending the run.
    """

    def __init__(self, url: str, *, calls_may_fail: bool = False) -> None:
        self._url = url
        self._calls_may_fail = calls_may_fail
        self._http: aiohttp.ClientSession | None = None
        self._ids = itertools.count(1)
        self._accounts: dict[str, str] = {}
        self._nonces: dict[str, int] = dict.fromkeys(PEOPLE, 0)
        self._pool: list[Sent] = []
        self._branch = _Branch()
        self._functions: dict[tuple[str, str], tuple[bytes, list[str]]] = {}
        self.addresses: dict[str, str] = {ETH.symbol: NATIVE}
        self.head = MinedBlock(number=0, hash="", tx_hashes=())
        self.logs = 0  # of all mined blocks, replaced ones included
        self.failed = 0  # calls that reverted, as often as they were mined

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=RPC_TIMEOUT_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def rpc(self, method: str, *params: Any) -> Any:
        """One JSON-RPC call. Raises DemoFailure when the node is away or refuses."""
        if self._http is None:
            raise RuntimeError("Chain is used outside of its context")
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        try:
            async with self._http.post(self._url, json=body) as response:
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise DemoFailure(f"anvil does not answer {method}: {type(exc).__name__} {exc}") from exc
        if "error" in answer:
            raise DemoFailure(f"anvil refuses {method}: {answer['error'].get('message')}")
        return answer["result"]

    async def prepare(self) -> None:
        """Learns the accounts and deploys the contracts, all in block 1."""
        await self.rpc("anvil_setBlockTimestampInterval", BLOCK_INTERVAL_S)
        self._accounts = dict(zip(PEOPLE, await self.rpc("eth_accounts"), strict=True))
        self.addresses |= self._accounts
        deployments: list[tuple[str, Artifact, tuple[Any, ...]]] = [
            (asset.symbol, load("DemoToken"), (asset.name, asset.symbol, asset.decimals)) for asset in TOKENS
        ]
        deployments.append((GATEWAY, load("PaymentGateway"), (self._accounts[ADMIN],)))
        deployments.append((VAULT, load("LegacyVault"), ()))
        for name, artifact, args in deployments:
            types = _types(next((part for part in artifact.abi if part["type"] == "constructor"), {"inputs": []}))
            data = artifact.bytecode + encode(types, args).hex()
            call = Call(sender=ADMIN, contract=name, function="constructor", args=args, about=f"{name} is deployed")
            await self._submit(call, to=None, data=data, gas=DEPLOYMENT_GAS)
            for part in artifact.abi:
                if part["type"] == "function":
                    types = _types(part)
                    selector = keccak(f"{part['name']}({','.join(types)})".encode())[:4]
                    self._functions[name, part["name"]] = (selector, types)
        block = await self.mine()
        for (name, _, _), tx_hash in zip(deployments, block.tx_hashes, strict=True):
            receipt = await self.rpc("eth_getTransactionReceipt", tx_hash)
            self.addresses[name] = receipt["contractAddress"].lower()

    async def send(self, call: Call) -> None:
        """Puts a call into the pool; it stands in the next block."""
        selector, types = self._functions[call.contract, call.function]
        args = [self.addresses[arg.name] if isinstance(arg, Ref) else arg for arg in call.args]
        data = "0x" + (selector + encode(types, args)).hex()
        await self._submit(call, to=self.addresses[call.contract], data=data, gas=GAS)

    async def mine(self) -> MinedBlock:
        """Mines one block of everything in the pool. Raises DemoFailure when a call failed or was left out."""
        await self.rpc("evm_mine")
        sent, self._pool = self._pool, []
        block = await self._block(self.head.number + 1)
        expected = tuple(each.tx_hash for each in sent)
        if block.tx_hashes != expected:
            raise DemoFailure(f"block {block.number} holds {len(block.tx_hashes)} calls in another order than sent")
        self._branch.blocks[block.number] = sent
        await self._check(block)
        self.head = block
        return block

    async def play(self, block: Block) -> MinedBlock:
        """Sends the calls of a block and mines it."""
        for call in block.calls:
            await self.send(call)
        return await self.mine()

    async def reorganise(self, reorg: Reorg) -> DoneReorg:
        """Replaces the last blocks in one request to the node. Raises DemoFailure when the branch is not as planned."""
        ancestor = self.head.number - reorg.depth
        branch: list[list[Sent]] = [[] for _ in range(reorg.depth)]
        places: dict[str, int] = {}
        for offset, block in enumerate(self.last_blocks(reorg.depth)):
            for sent in block:
                if sent.call is reorg.dropped:
                    places["dropped"] = ancestor + 1 + offset
                    dropped = sent
                elif sent.call is reorg.moved:
                    places["moved"] = ancestor + 1 + offset
                    moved = sent
                else:
                    branch[offset].append(sent)
        branch[-1].append(moved)
        await self.replace(branch)
        return DoneReorg(
            depth=reorg.depth,
            common_ancestor=ancestor,
            dropped_tx=dropped.tx_hash,
            dropped_from_block=places["dropped"],
            moved_tx=moved.tx_hash,
            moved_from_block=places["moved"],
            moved_to_block=self.head.number,
        )

    def last_blocks(self, depth: int) -> list[list[Sent]]:
        """The calls of the newest blocks, oldest block first."""
        return [list(self._branch.blocks[self.head.number - depth + 1 + offset]) for offset in range(depth)]

    async def replace(self, branch: list[list[Sent]]) -> None:
        """Puts a branch in place of as many of the newest blocks, in one request to the node.

        It holds calls of those blocks, each sender's in their order; what it leaves out is gone for good, which can
        only be a sender's last ones. Raises DemoFailure when the node made something else of it.
        """
        before = [sent for block in self.last_blocks(len(branch)) for sent in block]
        pairs = [
            [await self.rpc("eth_getRawTransactionByHash", sent.tx_hash), offset]
            for offset, block in enumerate(branch)
            for sent in block
        ]
        await self.rpc("anvil_reorg", len(branch), pairs)
        kept = {sent.tx_hash for block in branch for sent in block}
        for sent in before:
            if sent.tx_hash not in kept:
                self._nonces[sent.call.sender] -= 1
        ancestor = self.head.number - len(branch)
        for offset, calls in enumerate(branch):
            block = await self._block(ancestor + 1 + offset)
            if block.tx_hashes != tuple(sent.tx_hash for sent in calls):
                raise DemoFailure(f"after the reorg block {block.number} holds other calls than planned")
            self._branch.blocks[block.number] = calls
            await self._check(block)
            self.head = block

    def block_of(self, call: Call) -> int:
        """The block that a call stands in now. LookupError when it is in none."""
        for number, sent in self._branch.blocks.items():
            if any(each.call is call for each in sent):
                return number
        raise LookupError(call.about)

    async def _submit(self, call: Call, *, to: str | None, data: str, gas: int) -> None:
        tx = {
            "from": self._accounts[call.sender],
            "data": data,
            "value": hex(call.value_wei),
            "gas": hex(gas),
            "gasPrice": hex(GAS_PRICE_WEI),
            "nonce": hex(self._nonces[call.sender]),
        }
        tx_hash = await self.rpc("eth_sendTransaction", tx if to is None else tx | {"to": to})
        self._nonces[call.sender] += 1
        self._pool.append(Sent(call=call, tx_hash=tx_hash))

    async def _block(self, number: int) -> MinedBlock:
        found = await self.rpc("eth_getBlockByNumber", hex(number), False)
        if found is None:
            raise DemoFailure(f"anvil has no block {number}")
        expected = GENESIS_TIMESTAMP + number * BLOCK_INTERVAL_S
        if int(found["timestamp"], 16) != expected:
            raise DemoFailure(f"block {number} has time {int(found['timestamp'], 16)}, not {expected}")
        return MinedBlock(number=number, hash=found["hash"], tx_hashes=tuple(found["transactions"]))

    async def _check(self, block: MinedBlock) -> None:
        receipts = await self.rpc("eth_getBlockReceipts", hex(block.number))
        for sent, receipt in zip(self._branch.blocks[block.number], receipts, strict=True):
            self.logs += len(receipt["logs"])
            if receipt["status"] != "0x1":
                self.failed += 1
                if self._calls_may_fail:
                    continue
                call = sent.call
                raise DemoFailure(f"block {block.number}: {call.contract}.{call.function} failed ({call.about})")


def _types(part: dict[str, Any]) -> list[str]:
    return [given["type"] for given in part["inputs"]]
