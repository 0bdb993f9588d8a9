"""What an honest node answers about a chain: the few methods that are asked of it, with the errors that geth gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from tests.fakes.rpc_node.chain import Block, Chain, Json

METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
SERVER_ERROR: Final = -32000


class RpcError(Exception):
    """The error object of an answer."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.body = {"code": code, "message": message} | ({} if data is None else {"data": data})


def honest(chain: Chain, method: str, params: Sequence[Any]) -> Any:
    """The result of a call. Raises RpcError."""
    answer = _METHODS.get(method)
    if answer is None:
        raise RpcError(METHOD_NOT_FOUND, f"the method {method} does not exist/is not available")
    return answer(chain, *params)


def block_object(block: Block | None, full: bool) -> Json | None:
    if block is None:
        return None
    return block.header | {"transactions": list(block.txs) if full else [tx["hash"] for tx in block.txs]}


def _block_by_number(chain: Chain, place: str, full: bool = False) -> Json | None:
    return block_object(_at(chain, place), full)


def _block_by_hash(chain: Chain, block_hash: str, full: bool = False) -> Json | None:
    return block_object(chain.blocks.get(block_hash), full)


def _receipts(chain: Chain, place: str) -> list[Json] | None:
    block = chain.blocks.get(place) if len(place) == 66 else _at(chain, place)
    return None if block is None else list(block.receipts)


def _receipt(chain: Chain, tx_hash: str) -> Json | None:
    found = [receipt for block in chain.branch for receipt in block.receipts if receipt["transactionHash"] == tx_hash]
    return found[-1] if found else None


def _logs(chain: Chain, query: Json) -> list[Json]:
    if "blockHash" in query:
        block = chain.blocks.get(query["blockHash"])
        if block is None:
            raise RpcError(SERVER_ERROR, "unknown block")
        return matching(block.logs, query)
    first, last = (_height(chain, query.get(name, "latest")) for name in ("fromBlock", "toBlock"))
    if first > last:
        raise RpcError(INVALID_PARAMS, "invalid block range params")
    if last > chain.head.number:
        raise RpcError(INVALID_PARAMS, "block range extends beyond current head block")
    return matching([log for block in chain.branch[first : last + 1] for log in block.logs], query)


def matching(logs: Sequence[Json], query: Json) -> list[Json]:
    """The logs that a filter lets through (eth_getLogs: address or list of them; topics by place, lists mean or)."""
    wanted = query.get("address")
    addresses = None if not wanted else {wanted} if isinstance(wanted, str) else set(wanted)
    topics = [{item} if isinstance(item, str) else set(item or ()) for item in query.get("topics") or ()]
    return [
        log
        for log in logs
        if (addresses is None or log["address"] in addresses)
        and len(log["topics"]) >= len(topics)
        and all(not choice or log["topics"][i] in choice for i, choice in enumerate(topics))
    ]


def _at(chain: Chain, place: str) -> Block | None:
    tags: dict[str, Callable[[], Block]] = {
        "latest": lambda: chain.head,
        "safe": lambda: chain.safe,
        "finalized": lambda: chain.finalized,
        "earliest": lambda: chain.branch[0],
    }
    return tags[place]() if place in tags else chain.at(int(place, 16))


def _height(chain: Chain, place: str) -> int:
    block = None if place.startswith("0x") else _at(chain, place)
    return int(place, 16) if block is None else block.number


_METHODS: Final[dict[str, Callable[..., Any]]] = {
    "eth_chainId": lambda chain: hex(chain.chain_id),
    "net_version": lambda chain: str(chain.chain_id),
    "web3_clientVersion": lambda chain: "Scripted/v1",
    "eth_blockNumber": lambda chain: chain.head.header["number"],
    "eth_syncing": lambda chain: False,
    "eth_getBlockByNumber": _block_by_number,
    "eth_getBlockByHash": _block_by_hash,
    "eth_getBlockReceipts": _receipts,
    "eth_getTransactionReceipt": _receipt,
    "eth_getLogs": _logs,
}
