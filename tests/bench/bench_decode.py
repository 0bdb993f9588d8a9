"""What decoding costs: ours, eth-abi and web3's own path in one run: ``python -m tests.bench.bench_decode``.

Prints µs of CPU per log, the best of five runs. Never a gate: it measures this machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from eth_abi.abi import decode as abi_decode
from rich.console import Console
from rich.table import Table
from web3 import Web3
from web3.types import LogReceipt

from contracts.abi import AbiEvent, parse_abi
from contracts.codec import Decoded, EventCodec
from contracts.messages import PaymentEvent, encode, event_id
from contracts.posting import PostingRules
from contracts.registry import Registry
from tests.unit.contracts.build import CHAIN_ID, GATEWAY, STRANGER, TOKEN, log, payment_event, shipped_registry

TX = "0x" + "cc" * 32
BLOCK = "0x" + "bb" * 32
DYNAMIC = parse_abi(
    [
        {
            "type": "event",
            "name": "Noted",
            "inputs": [
                {"name": "id", "type": "bytes32", "indexed": True},
                {"name": "amount", "type": "uint256"},
                {"name": "note", "type": "string"},
                {"name": "proof", "type": "bytes"},
            ],
        }
    ]
).events[0]


class RawLog(msgspec.Struct, rename="camel"):
    """A log as eth_getLogs returns it."""

    address: str
    topics: list[str]
    data: str
    block_number: str
    block_hash: str
    transaction_hash: str
    transaction_index: str
    log_index: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One log in all the forms that the candidates take."""

    name: str
    event: AbiEvent
    address: str
    topics: Sequence[bytes]
    data: bytes

    def raw(self) -> bytes:
        topics = ["0x" + topic.hex() for topic in self.topics]
        fields = {"address": self.address, "topics": topics, "data": "0x" + self.data.hex(), "blockNumber": "0x64"}
        fields |= {"blockHash": BLOCK, "transactionHash": TX, "transactionIndex": "0x0", "logIndex": "0x1"}
        return json.dumps(fields).encode()


def cost(call: Callable[[], Any], seconds: float) -> float:
    """µs of CPU per call, the best of five."""
    count = 1
    while True:
        start = time.process_time()
        for _ in range(count):
            call()
        spent = time.process_time() - start
        if spent > seconds / 10:
            break
        count *= 2
    best = spent / count
    for _ in range(4):
        start = time.process_time()
        for _ in range(count):
            call()
        best = min(best, (time.process_time() - start) / count)
    return best * 1e6


def whole_path(registry: Registry, sample: Sample) -> Callable[[], bytes]:
    """JSON bytes of a log to the bytes of its message: what a service pays at the least."""
    parse = msgspec.json.Decoder(RawLog).decode
    raw = sample.raw()
    block_hash = bytes.fromhex(BLOCK[2:])

    def run() -> bytes:
        found = parse(raw)
        topics = [bytes.fromhex(topic[2:]) for topic in found.topics]
        codec = registry.dispatch(bytes.fromhex(found.address[2:]), topics, int(found.block_number, 16))
        assert codec is not None
        decoded = codec.decode(topics, bytes.fromhex(found.data[2:]))
        assert isinstance(decoded, Decoded)
        log_index = int(found.log_index, 16)
        return encode(
            PaymentEvent(
                op="applied",
                event_id=event_id(chain_id=CHAIN_ID, block_hash=block_hash, position=log_index),
                revision=1,
                chain_id=CHAIN_ID,
                block_number=100,
                block_hash=BLOCK,
                block_timestamp=1_700_000_000,
                tx_hash=found.transaction_hash,
                tx_index=int(found.transaction_index, 16),
                log_index=log_index,
                address=found.address,
                contract=codec.contract,
                event=codec.event,
                book=decoded.book,
                subject=decoded.subject,
                args=decoded.args,
                amounts=decoded.amounts,
                correlation=decoded.correlation,
                description_version=codec.version,
                contract_seq=decoded.contract_seq,
            )
        )

    return run


def eth_abi_path(sample: Sample) -> Callable[[], Any]:
    indexed = [item.type.canonical for item in sample.event.inputs if item.indexed]
    names = [item.type.canonical for item in sample.event.inputs if not item.indexed]

    def run() -> Any:
        return [abi_decode([name], topic) for name, topic in zip(indexed, sample.topics[1:], strict=True)], abi_decode(
            names, sample.data
        )

    return run


def web3_path(sample: Sample) -> Callable[[], Any]:
    """``process_log``, after web3's formatters have made AttributeDicts (they cost another 83 µs a log)."""
    inputs = [{"name": i.name, "type": i.type.canonical, "indexed": i.indexed} for i in sample.event.inputs]
    contract = Web3().eth.contract(
        abi=[{"type": "event", "name": sample.event.name, "inputs": inputs, "anonymous": False}]
    )
    event = contract.events[sample.event.name]()
    receipt: dict[str, Any] = {
        "address": Web3.to_checksum_address(sample.address),
        "topics": list(sample.topics),
        "data": sample.data,
    }
    receipt |= {"blockNumber": 100, "blockHash": bytes.fromhex(BLOCK[2:]), "transactionHash": bytes.fromhex(TX[2:])}
    receipt |= {"transactionIndex": 0, "logIndex": 1, "removed": False}
    found = LogReceipt(**receipt)  # type: ignore[typeddict-item]  # plain bytes where HexBytes are declared
    return lambda: event.process_log(found)


def postings_path(registry: Registry, sample: Sample, codec: EventCodec) -> Callable[[], Any]:
    decoded = codec.decode(sample.topics, sample.data)
    assert isinstance(decoded, Decoded)
    event = payment_event(codec, decoded, address=sample.address)
    rules = PostingRules.from_document(registry.contract(codec.contract).document)
    return lambda: rules.postings(event)


def samples(registry: Registry) -> list[Sample]:
    transfer = registry.contract("erc20").codecs["Transfer"].abi
    deposited = registry.contract("payment-gateway").codecs["Deposited"].abi
    made = []
    for name, event, address, values in (
        ("Transfer", transfer, TOKEN, {"from": STRANGER, "to": GATEWAY, "value": 10**18}),
        ("Transfer, nobody's", transfer, TOKEN, {"from": STRANGER, "to": STRANGER, "value": 10**18}),
        (
            "Deposited",
            deposited,
            GATEWAY,
            {"accountId": b"\1" * 32, "asset": TOKEN, "payer": STRANGER, "received": 10**18}
            | {"balanceAfter": 10**19, "ref": b"\2" * 32, "seq": 7},
        ),
        (
            "Noted (string, bytes)",
            DYNAMIC,
            GATEWAY,
            {"id": b"\1" * 32, "amount": 5, "note": "thank you" * 5, "proof": b"\3" * 65},
        ),
    ):
        topics, data = log(event, values)
        made.append(Sample(name=name, event=event, address=address, topics=topics, data=data))
    return made


def dynamic_codec(sample: Sample) -> Callable[[], Any]:
    """The string and bytes event has no description among the shipped ones: its arguments are decoded alone."""
    from tests.unit.contracts.test_decoder import decoder

    decode = decoder(sample.event)
    return lambda: decode(sample.topics, sample.data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.5, help="CPU time for each number, about")
    seconds = parser.parse_args().seconds
    table = Table(title="µs of CPU per log, best of five")
    table.add_column("log")
    for column in ("dispatch", "decode", "JSON to message", "postings", "eth-abi", "web3 process_log"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        registry = shipped_registry(Path(folder))
    for sample in samples(registry):
        address = bytes.fromhex(sample.address[2:])
        codec = registry.dispatch(address, sample.topics, 100)
        numbers: list[float | None] = [None] * 4
        if codec is None:
            numbers[1] = cost(dynamic_codec(sample), seconds)
        else:
            numbers[0] = cost(lambda a=address, s=sample: registry.dispatch(a, s.topics, 100), seconds)  # type: ignore[misc]  # bound now
            numbers[1] = cost(lambda d=codec.decode, s=sample: d(s.topics, s.data), seconds)  # type: ignore[misc]  # bound now
            if codec.decode(sample.topics, sample.data) is not None:
                numbers[2] = cost(whole_path(registry, sample), seconds)
                numbers[3] = cost(postings_path(registry, sample, codec), seconds)
        numbers += [cost(eth_abi_path(sample), seconds), cost(web3_path(sample), seconds)]
        table.add_row(sample.name, *("-" if number is None else f"{number:.2f}" for number in numbers))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
