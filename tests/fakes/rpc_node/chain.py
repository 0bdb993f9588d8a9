"""A tree of blocks with txs, receipts and logs, all in the JSON-RPC form of geth and with the hashes that belong to it.

Several nodes may look at one tree, each with its own head: ``chain.view()``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Self

from eth_hash.auto import keccak

from tests.fakes.rpc_node import consensus

Json = dict[str, Any]
FORKS: Final = ("Frontier", "London", "Shanghai", "Cancun", "Prague")
GENESIS_TIME: Final = 1_700_000_000
BLOCK_S: Final = 12
GAS_PER_TX: Final = 50_000
NO_REQUESTS: Final = "0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # EIP-7685: sha256 of nothing
NO_UNCLES: Final = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What a contract emits; where it stands is the block's affair."""

    address: str
    topics: tuple[str, ...]
    data: str = "0x"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block; ``header`` has the fields of eth_getBlockByHash except its transactions."""

    header: Json
    txs: tuple[Json, ...]
    receipts: tuple[Json, ...]

    @property
    def number(self) -> int:
        return int(self.header["number"], 16)

    @property
    def hash(self) -> str:
        return str(self.header["hash"])

    @property
    def parent_hash(self) -> str:
        return str(self.header["parentHash"])

    @property
    def logs(self) -> list[Json]:
        return [log for receipt in self.receipts for log in receipt["logs"]]


class Chain:
    """One node's view of a tree: the branch from genesis to ``head``, and the depth of its safe and finalized blocks.

    ``mine`` puts a block on the head; ``fork`` takes the head back, so that what is mined next makes another branch.
    """

    def __init__(
        self, *, chain_id: int = 31337, fork: str = "Prague", safe_depth: int = 4, finalized_depth: int = 8
    ) -> None:
        self.chain_id = chain_id
        self.safe_depth = safe_depth
        self.finalized_depth = finalized_depth
        self.forks = FORKS[: FORKS.index(fork) + 1]
        self.blocks: dict[str, Block] = {}  # every block of the tree, by hash
        self._serials = count()
        self._branch: list[Block] = []
        self.mine()

    @property
    def head(self) -> Block:
        return self._branch[-1]

    @property
    def safe(self) -> Block:
        return self._branch[max(self.head.number - self.safe_depth, 0)]

    @property
    def finalized(self) -> Block:
        return self._branch[max(self.head.number - self.finalized_depth, 0)]

    @property
    def branch(self) -> Sequence[Block]:
        """From genesis to the head."""
        return self._branch

    def at(self, number: int) -> Block | None:
        """The block of this branch at a height."""
        return self._branch[number] if 0 <= number < len(self._branch) else None

    def mine(self, *txs: Sequence[Log]) -> Block:
        """A block on the head; each tx is the logs that it emits. No two mined blocks are the same."""
        block = self._made(txs)
        self.blocks[block.hash] = block
        self._branch.append(block)
        return block

    def mine_empty(self, blocks: int) -> Block:
        """So many blocks without txs; the newest."""
        for _ in range(blocks):
            self.mine()
        return self.head

    def fork(self, at: int) -> Block:
        """Takes the head back to height ``at``; returns the head that was left, for ``switch``."""
        left = self.head
        del self._branch[at + 1 :]
        return left

    def switch(self, head: Block) -> None:
        """Makes any block of the tree the head."""
        branch = [head]
        while branch[-1].number:
            branch.append(self.blocks[branch[-1].parent_hash])
        self._branch = branch[::-1]

    def view(self, at: int | None = None) -> Self:
        """The same tree as another node sees it: its own head, here or ``at`` a lower height."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._branch = self._branch[: None if at is None else at + 1]
        return other

    def _made(self, txs: Sequence[Sequence[Log]]) -> Block:
        number = len(self._branch)
        made = tuple(self._tx(next(self._serials), index) for index in range(len(txs)))
        receipts = _receipts(made, txs)
        logs = [log for receipt in receipts for log in receipt["logs"]]
        header: Json = {
            "number": hex(number),
            "parentHash": self._branch[-1].hash if number else "0x" + "00" * 32,
            "sha3Uncles": NO_UNCLES,
            "miner": "0x" + "fe" * 20,
            "stateRoot": _digest("state", next(self._serials)),
            "transactionsRoot": consensus.transactions_root(made),
            "receiptsRoot": consensus.receipts_root(receipts),
            "logsBloom": consensus.logs_bloom(logs),
            "difficulty": "0x0",
            "gasLimit": hex(60_000_000),
            "gasUsed": hex(GAS_PER_TX * len(txs)),
            "timestamp": hex(GENESIS_TIME + BLOCK_S * number),
            "extraData": "0x" + b"scripted".hex(),
            "mixHash": _digest("mix", number),
            "nonce": "0x" + "00" * 8,
            "size": hex(600),
            "uncles": [],
        }
        header |= self._later_fields(number)
        header["hash"] = consensus.header_hash(header)
        _place(made, receipts, header)
        return Block(header=header, txs=made, receipts=receipts)

    def _later_fields(self, number: int) -> Json:
        withdrawals = [{"index": hex(number), "validatorIndex": "0x7", "address": "0x" + "77" * 20, "amount": "0x64"}]
        fields: dict[str, Json] = {
            "London": {"baseFeePerGas": hex(10**9)},
            "Shanghai": {"withdrawals": withdrawals, "withdrawalsRoot": consensus.withdrawals_root(withdrawals)},
            "Cancun": {
                "blobGasUsed": "0x0",
                "excessBlobGas": hex(131_072),
                "parentBeaconBlockRoot": _digest("beacon", number),
            },
            "Prague": {"requestsHash": NO_REQUESTS},
        }
        return {name: value for fork in self.forks for name, value in fields.get(fork, {}).items()}

    def _tx(self, serial: int, index: int) -> Json:
        """A tx of type 0, 1 or 2 by turns, signed by nobody."""
        kind = index % 3
        tx: Json = {
            "type": hex(kind),
            "chainId": hex(self.chain_id),
            "nonce": hex(serial),
            "gas": hex(GAS_PER_TX),
            "gasPrice": hex(2 * 10**9),
            "to": "0x" + "aa" * 20,
            "from": "0x" + "bb" * 20,
            "value": "0x0",
            "input": "0x" + serial.to_bytes(4, "big").hex(),
            "v": hex(2 * self.chain_id + 35) if kind == 0 else "0x1",
            "r": _digest("r", serial),
            "s": _digest("s", serial),
        }
        if kind:
            tx |= {"accessList": [], "yParity": "0x1"}
        if kind == 2:
            tx |= {"maxFeePerGas": hex(3 * 10**9), "maxPriorityFeePerGas": "0x1"}
        return tx | {"hash": consensus.tx_hash(tx), "transactionIndex": hex(index)}


def _receipts(txs: Sequence[Json], emitted: Sequence[Sequence[Log]]) -> tuple[Json, ...]:
    indexes = count()
    receipts = []
    for place, (tx, logs) in enumerate(zip(txs, emitted, strict=True)):
        placed = [
            {
                "address": log.address,
                "topics": list(log.topics),
                "data": log.data,
                "logIndex": hex(next(indexes)),
                "transactionHash": tx["hash"],
                "transactionIndex": hex(place),
                "removed": False,
            }
            for log in logs
        ]
        receipts.append(
            {
                "type": tx["type"],
                "status": "0x1",
                "transactionHash": tx["hash"],
                "transactionIndex": hex(place),
                "cumulativeGasUsed": hex(GAS_PER_TX * (place + 1)),
                "gasUsed": hex(GAS_PER_TX),
                "logs": placed,
                "logsBloom": consensus.logs_bloom(placed),
            }
        )
    return tuple(receipts)


def _place(txs: Sequence[Json], receipts: Sequence[Json], header: Json) -> None:
    """Tells everything in the block where it is; none of it counts for a hash."""
    place = {"blockHash": header["hash"], "blockNumber": header["number"]}
    for item in (*txs, *receipts):
        item.update(place)
    for receipt in receipts:
        for log in receipt["logs"]:
            log.update(place, blockTimestamp=header["timestamp"])


def _digest(what: str, number: int) -> str:
    return "0x" + keccak(f"{what} {number}".encode()).hex()
