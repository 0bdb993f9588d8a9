"""What a block commits to, computed from its JSON-RPC form: header hash, bloom, roots of txs, receipts, withdrawals.

Written apart from the indexer, so that it can judge it: the tests hold these functions against blocks that anvil made.
Takes and returns what the JSON-RPC API has (0x hex), performs nothing. Fields and their order are those of the Yellow
Paper with EIP-1559, 4895, 4844, 4788 and 7685; txs and receipts are EIP-2718 envelopes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import rlp
from eth_hash.auto import keccak
from trie import HexaryTrie

Json = Mapping[str, Any]
Rlp = bytes | list[Any]
_QUANTITIES: Final = frozenset(
    {"difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "blobGasUsed", "excessBlobGas"}
)
_HEADER: Final = (
    *("parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom", "difficulty"),
    *("number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce"),
)
_LATER: Final = (  # each fork adds its fields at the end, and keeps those of the forks before
    ("London", ("baseFeePerGas",)),
    ("Shanghai", ("withdrawalsRoot",)),
    ("Cancun", ("blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot")),
    ("Prague", ("requestsHash",)),
)


def header_hash(block: Json) -> str:
    """The hash of a block's header. Raises ValueError when it has a fork's field without those before it."""
    names = list(_HEADER)
    missing = ""
    for fork, added in _LATER:
        present = [name for name in added if block.get(name) is not None]
        if present and (missing or len(present) != len(added)):
            raise ValueError(f"the header has {present[0]} ({fork}), but lacks fields of {missing or fork}")
        missing = missing or ("" if present else fork)
        names += present
    fields = [_integer(block[name]) if name in _QUANTITIES else _bytes(block[name]) for name in names]
    return _hex(keccak(rlp.encode(fields)))


def fork_of(block: Json) -> str:
    """The newest fork whose fields the header has."""
    return next((fork for fork, added in reversed(_LATER) if block.get(added[0]) is not None), "Frontier")


def logs_bloom(logs: Iterable[Json]) -> str:
    """The bloom of these logs (Yellow Paper §4.3.1)."""
    bits = 0
    for log in logs:
        for value in (log["address"], *log["topics"]):
            digest = keccak(_bytes(value))
            for i in (0, 2, 4):
                bits |= 1 << ((digest[i] << 8 | digest[i + 1]) % 2048)
    return _hex(bits.to_bytes(256, "big"))


def transactions_root(txs: Sequence[Json]) -> str:
    return ordered_root([encoded_tx(tx) for tx in txs])


def receipts_root(receipts: Sequence[Json]) -> str:
    return ordered_root([encoded_receipt(receipt) for receipt in receipts])


def withdrawals_root(withdrawals: Sequence[Json]) -> str:
    """EIP-4895."""
    return ordered_root(
        [
            rlp.encode(
                [_integer(w["index"]), _integer(w["validatorIndex"]), _bytes(w["address"]), _integer(w["amount"])]
            )
            for w in withdrawals
        ]
    )


def ordered_root(items: Sequence[bytes]) -> str:
    """The root of the Merkle Patricia trie of a list: key is the RLP of the index."""
    tree = HexaryTrie({}, prune=True)
    for index, item in enumerate(items):
        tree[rlp.encode(index)] = item
    return _hex(tree.root_hash)


def tx_hash(tx: Json) -> str:
    return _hex(keccak(encoded_tx(tx)))


def encoded_tx(tx: Json) -> bytes:
    """The EIP-2718 envelope of a signed tx: legacy, 2930, 1559, 4844 (without its blobs) or 7702."""
    kind = int(tx.get("type", "0x0"), 16)
    call: list[Rlp] = [_integer(tx["gas"]), _bytes(tx.get("to") or "0x"), _integer(tx["value"]), _bytes(tx["input"])]
    signature = [_integer(tx["r"]), _integer(tx["s"])]
    if kind == 0:
        return rlp.encode([_integer(tx["nonce"]), _integer(tx["gasPrice"]), *call, _integer(tx["v"]), *signature])
    access: list[Rlp] = [
        [_bytes(entry["address"]), [_bytes(key) for key in entry["storageKeys"]]] for entry in tx["accessList"]
    ]
    fees = ["gasPrice"] if kind == 1 else ["maxPriorityFeePerGas", "maxFeePerGas"]
    body: list[Rlp] = [_integer(tx["chainId"]), _integer(tx["nonce"]), *(_integer(tx[name]) for name in fees)]
    body += [*call, access]
    if kind == 3:
        body += [_integer(tx["maxFeePerBlobGas"]), [_bytes(blob) for blob in tx["blobVersionedHashes"]]]
    if kind == 4:
        body.append([_authorization(item) for item in tx["authorizationList"]])
    if kind > 4:
        raise ValueError(f"a tx of type {kind} is not known")
    parity = tx["yParity"] if "yParity" in tx else tx["v"]
    return bytes([kind]) + rlp.encode([*body, _integer(parity), *signature])


def encoded_receipt(receipt: Json) -> bytes:
    """The EIP-2718 envelope of a receipt (with a status, as since Byzantium)."""
    logs = [
        [_bytes(log["address"]), [_bytes(topic) for topic in log["topics"]], _bytes(log["data"])]
        for log in receipt["logs"]
    ]
    body = rlp.encode(
        [_integer(receipt["status"]), _integer(receipt["cumulativeGasUsed"]), _bytes(receipt["logsBloom"]), logs]
    )
    kind = int(receipt.get("type", "0x0"), 16)
    return (bytes([kind]) if kind else b"") + body


def faults_of(block: Json, txs: Sequence[Json], receipts: Sequence[Json]) -> list[str]:
    """What contradicts itself in a block with all its txs and receipts; empty for an honest answer."""
    logs = [log for receipt in receipts for log in receipt["logs"]]
    found = {
        "hash": header_hash(block),
        "transactionsRoot": transactions_root(txs),
        "receiptsRoot": receipts_root(receipts),
        "logsBloom": logs_bloom(logs),
    }
    faults = [name for name, value in found.items() if block[name] != value]
    faults += [f"bloom of receipt {i}" for i, r in enumerate(receipts) if r["logsBloom"] != logs_bloom(r["logs"])]
    faults += [f"hash of tx {i}" for i, tx in enumerate(txs) if tx["hash"] != tx_hash(tx)]
    return faults


def _authorization(item: Json) -> list[Rlp]:
    """EIP-7702."""
    parity = item["yParity"] if "yParity" in item else item["v"]
    return [
        *(_integer(item["chainId"]), _bytes(item["address"]), _integer(item["nonce"])),
        *(_integer(parity), _integer(item["r"]), _integer(item["s"])),
    ]


def _integer(quantity: str) -> bytes:
    value = int(quantity, 16)
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _bytes(data: str) -> bytes:
    return bytes.fromhex(data[2:])


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
