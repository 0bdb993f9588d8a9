"""A node to test contracts on: deploy, call, send, and see why something was refused.

Speaks JSON-RPC over one kept connection and encodes with eth-abi, so that nothing here is shared with what is tested
elsewhere. The node mines each transaction at once and signs for its accounts.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from eth_abi.abi import decode, encode
from eth_hash.auto import keccak

from contracts.solidity.artifacts import Artifact, load

GAS = 5_000_000
GAS_TO_DEPLOY = 10_000_000
NATIVE = "0x" + "00" * 20


class RpcError(Exception):
    """The node's error; ``data`` holds what a contract reverted with."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error.get('message')} {error.get('data')}")
        self.data = error.get("data")


class Reverted(Exception):
    """A transaction that should have gone through did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One log, decoded by the ABI of the contract that it came from. Bytes and addresses are lower-case hex."""

    address: str
    name: str
    args: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a call reverted with."""

    name: str
    args: tuple[Any, ...]


class Node:
    """One anvil."""

    def __init__(self, http_url: str) -> None:
        self.url = http_url
        self._http = http.client.HTTPConnection(urlsplit(http_url).netloc, timeout=30)
        self._contracts: dict[str, Contract] = {}
        self.accounts: list[str] = self.rpc("eth_accounts")

    def close(self) -> None:
        self._http.close()

    def rpc(self, method: str, *params: Any) -> Any:
        return self.batch([(method, params)])[0]

    def batch(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Results in the order of the requests; raises RpcError for the first error."""
        body = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
            for number, (method, params) in enumerate(requests)
        ]
        self._http.request("POST", "/", json.dumps(body).encode(), {"content-type": "application/json"})
        answers = {answer["id"]: answer for answer in json.loads(self._http.getresponse().read())}
        for number in range(len(body)):
            if "error" in answers[number]:
                raise RpcError(answers[number]["error"])
        return [answers[number]["result"] for number in range(len(body))]

    def deploy(self, name: str | Artifact, *args: Any, sender: str | None = None) -> Contract:
        """A contract of ours by its name, or any other by its artifact."""
        artifact = load(name) if isinstance(name, str) else name
        inputs = [entry for item in artifact.abi if item["type"] == "constructor" for entry in item["inputs"]]
        data = artifact.bytecode + encode(_types(inputs), args).hex()
        tx = {"from": sender or self.accounts[0], "data": data, "gas": hex(GAS_TO_DEPLOY)}
        receipt = self.transact(tx)
        contract = Contract(node=self, address=receipt["contractAddress"].lower(), abi=artifact.abi)
        self._contracts[contract.address] = contract
        return contract

    def transact(self, tx: dict[str, Any]) -> dict[str, Any]:
        """The receipt. Raises Reverted with the reason."""
        receipt: dict[str, Any] = self.rpc("eth_sendTransactionSync", {"gas": hex(GAS), **tx})  # EIP-7966
        if receipt["status"] != "0x1":
            raise Reverted(tx)
        return receipt

    def send_native(self, to: str, value: int, *, sender: str) -> None:
        self.transact({"from": sender, "to": to, "value": hex(value)})

    def native_balance(self, address: str) -> int:
        return int(self.rpc("eth_getBalance", address, "latest"), 16)

    def decode(self, logs: Sequence[dict[str, Any]]) -> list[Log]:
        """Logs of contracts that were deployed here."""
        return [self._contracts[log["address"].lower()].decode(log) for log in logs]

    def logs(self, addresses: Sequence[str]) -> list[Log]:
        """Everything that these contracts ever logged, in chain order."""
        found = self.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": list(addresses)})
        return self.decode(found)

    def now(self) -> int:
        """Seconds since 1970 by the node's clock."""
        self.rpc("evm_mine")
        return int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def pass_time(self, seconds: int) -> None:
        self.rpc("evm_increaseTime", hex(seconds))
        self.rpc("evm_mine")

    @contextmanager
    def undone(self) -> Iterator[None]:
        """What happens inside never happened."""
        snapshot = self.rpc("evm_snapshot")
        try:
            yield
        finally:
            assert self.rpc("evm_revert", snapshot) is True


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """A deployed contract, called by the names of its ABI."""

    node: Node
    address: str
    abi: list[dict[str, Any]]
    _functions: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    _errors: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    _events: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for item in self.abi:
            if item["type"] == "function":
                self._functions[item["name"]] = item
            elif item["type"] == "error":
                self._errors["0x" + _hash(item)[:4].hex()] = item
            elif item["type"] == "event":
                self._events["0x" + _hash(item).hex()] = item

    def encode(self, function: str, *args: Any) -> bytes:
        item = self._functions[function]
        return _hash(item)[:4] + encode(_types(item["inputs"]), args)

    def request(self, function: str, *args: Any) -> tuple[str, Sequence[Any]]:
        """A call for ``Node.batch``; its answer is for ``answer``."""
        return "eth_call", ({"to": self.address, "data": "0x" + self.encode(function, *args).hex()}, "latest")

    def answer(self, function: str, result: str) -> Any:
        values = decode(_types(self._functions[function]["outputs"]), bytes.fromhex(result[2:]))
        return _plain(values[0] if len(values) == 1 else values)

    def call(self, function: str, *args: Any) -> Any:
        return self.answer(function, self.node.batch([self.request(function, *args)])[0])

    def send(self, function: str, *args: Any, sender: str, value: int = 0) -> list[Log]:
        """The logs that it left, those of other contracts included. Raises Reverted with the contract's error."""
        try:
            receipt = self.node.transact(self._tx(function, args, sender=sender, value=value))
        except Reverted as exc:
            raise Reverted(self.refusal(function, *args, sender=sender, value=value)) from exc
        return self.node.decode(receipt["logs"])

    def refusal(self, function: str, *args: Any, sender: str, value: int = 0) -> Refusal:
        """What the call reverts with. Fails when it does not revert."""
        tx = self._tx(function, args, sender=sender, value=value)
        try:
            self.node.rpc("eth_call", {**tx, "gas": hex(GAS)}, "latest")
        except RpcError as error:
            data = error.data if isinstance(error.data, str) else "0x"
            item = self._errors.get(data[:10])
            if item is None:
                return Refusal(name=data, args=())
            values = decode(_types(item["inputs"]), bytes.fromhex(data[10:]))
            return Refusal(name=item["name"], args=tuple(_plain(value) for value in values))
        raise AssertionError(f"{function} was not refused")

    def decode(self, log: dict[str, Any]) -> Log:
        item = self._events[log["topics"][0]]
        indexed = [entry for entry in item["inputs"] if entry["indexed"]]
        plain = [entry for entry in item["inputs"] if not entry["indexed"]]
        values = decode(_types(plain), bytes.fromhex(log["data"][2:]))
        args = {entry["name"]: _plain(value) for entry, value in zip(plain, values, strict=True)}
        for entry, topic in zip(indexed, log["topics"][1:], strict=True):
            args[entry["name"]] = _plain(decode(_types([entry]), bytes.fromhex(topic[2:]))[0])
        return Log(address=self.address, name=item["name"], args=args)

    def _tx(self, function: str, args: Sequence[Any], *, sender: str, value: int) -> dict[str, Any]:
        data = "0x" + self.encode(function, *args).hex()
        return {"from": sender, "to": self.address, "data": data, "value": hex(value)}


def id_of(name: str) -> bytes:
    """A 32-byte id."""
    return keccak(name.encode())


def _hash(item: dict[str, Any]) -> bytes:
    return keccak(f"{item['name']}({','.join(_types(item['inputs']))})".encode())


def _types(entries: Sequence[dict[str, Any]]) -> list[str]:
    return [_type(entry) for entry in entries]


def _type(entry: dict[str, Any]) -> str:
    """As in a signature: a tuple is its components in parentheses."""
    if not entry["type"].startswith("tuple"):
        return str(entry["type"])
    return f"({','.join(_types(entry['components']))}){entry['type'].removeprefix('tuple')}"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_plain(entry) for entry in value)
    return value.lower() if isinstance(value, str) and value.startswith("0x") else value
