"""A chain, topics and an indexer process for one test; and what its topics must always look like."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition
from eth_abi import encode
from eth_hash.auto import keccak

from contracts.messages import Topics
from deploy.runtime.rpc import Rpc, connect
from indexer.adapters.kafka_topics import KafkaTopics, plans
from tests.fakes.log_emitter import call_data, creation_code
from tests.services import Anvil

DEADLINE_S = 30.0
PAID = keccak(b"Paid(bytes32,uint256,uint64)")
REGISTRY = """\
kind: contract
contract: till
book: till
custody: false
sequence: seq
chains:
  31337: {{addresses: ["{address}"], start_block: {start_block}}}
abi:
  - type: event
    name: Paid
    inputs:
      - {{name: account, type: bytes32, indexed: true}}
      - {{name: amount, type: uint256, indexed: false}}
      - {{name: seq, type: uint64, indexed: false}}
events:
  Paid:
    kind: money
    subject: account
    amounts: [{{arg: amount, asset: native}}]
    postings:
      - {{debit: clearing, credit: "liabilities:{{book}}:account:{{account}}:available", asset: native, amount: amount}}
"""
ASSETS = """\
kind: assets
chains:
  31337: {native: {symbol: ETH, decimals: 18, source: events}}
"""


class Till:
    """A chain under the test's control, with a contract that emits any log."""

    def __init__(self, rpc: Rpc) -> None:
        self.rpc = rpc
        self.sender = ""
        self.address = ""
        self.seq = 0

    async def call(self, method: str, *params: Any) -> Any:
        answer: Any = await self.rpc.provider.make_request(method, list(params))  # type: ignore[arg-type]
        assert "error" not in answer, answer
        return answer["result"]

    async def deploy(self) -> None:
        self.sender = (await self.call("eth_accounts"))[0]
        tx = await self.call("eth_sendTransaction", {"from": self.sender, "data": "0x" + creation_code().hex()})
        await self.mine(1)
        self.address = (await self.call("eth_getTransactionReceipt", tx))["contractAddress"].lower()

    async def emit(self, topics: Sequence[bytes], data: bytes) -> str:
        """Sends a tx with one log; it waits in the pool until ``mine`` when the node does not mine by itself."""
        payload = "0x" + call_data(topics, data).hex()
        tx = {"from": self.sender, "to": self.address, "data": payload, "gas": hex(3_000_000)}
        sent: str = await self.call("eth_sendTransaction", tx)
        return sent

    async def pay(self, amount: int = 1, account: bytes = b"\x01" * 32) -> str:
        self.seq += 1
        return await self.emit([PAID, account], encode(["uint256", "uint64"], [amount, self.seq]))

    async def mine(self, blocks: int = 1) -> None:
        await self.call("anvil_mine", hex(blocks))

    async def head(self) -> int:
        return int(await self.call("eth_blockNumber"), 16)


@dataclass(slots=True)
class Rig:
    """Settings, topics and processes of one test."""

    till: Till
    node: Anvil
    kafka: str
    prefix: str
    folder: Path
    extra: dict[str, str] = field(default_factory=dict)
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def topics(self) -> Topics:
        return Topics(chain="local", prefix=self.prefix)

    def write_registry(self, *, start_block: int = 0, chain_id: int = 31337) -> None:
        registry = self.folder / "registry"
        registry.mkdir(exist_ok=True)
        (registry / "assets.yaml").write_text(ASSETS.replace("31337", str(chain_id)))
        till = REGISTRY.format(address=self.till.address, start_block=start_block)
        (registry / "till.yaml").write_text(till.replace("31337", str(chain_id)))

    async def ensure_topics(self) -> None:
        admin = KafkaTopics(bootstrap_servers=self.kafka, replication_factor=1)
        await admin.ensure(plans(self.topics, partitions=2))

    def environment(self, **settings: str) -> dict[str, str]:
        values = {
            "CHAIN__NAME": "local",
            "CHAIN__ID": "31337",
            "CHAIN__RPC_HTTP": self.node.http_url,
            "CHAIN__RPC_WS": self.node.ws_url,
            "KAFKA__BOOTSTRAP_SERVERS": self.kafka,
            "KAFKA__TOPIC_PREFIX": self.prefix,
            "KAFKA__PARTITIONS": "2",
            "REGISTRY__PATHS": str(self.folder / "registry"),
            "INDEXER__LEASE_S": "2",
            "INDEXER__POLL_S": "0.2",
            **self.extra,
            **settings,
        }
        return os.environ | {f"CHAINBOOKS_{name}": value for name, value in values.items()}

    async def command(self, *arguments: str, **settings: str) -> tuple[int, str]:
        """Runs a command to its end; its exit code and everything it printed."""
        process = await self._spawn(*arguments, stdout=asyncio.subprocess.PIPE, **settings)
        out, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
        return process.returncode or 0, out.decode()

    async def start(self, **settings: str) -> asyncio.subprocess.Process:
        """Starts ``run``; its log goes to indexer-<n>.log."""
        log = self.folder / f"indexer-{len(self.processes)}.log"
        with log.open("wb") as out:
            process = await self._spawn("run", stdout=out, **settings)
        self.processes.append(process)
        return process

    def log(self, number: int = -1) -> str:
        logs = sorted(self.folder.glob("indexer-*.log"), key=lambda path: int(path.stem.split("-")[1]))
        return logs[number].read_text()

    async def _spawn(self, *arguments: str, stdout: Any, **settings: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "indexer",
            *arguments,
            stdout=stdout,
            stderr=asyncio.subprocess.STDOUT,
            env=self.environment(**settings),
        )

    async def stop(self, process: asyncio.subprocess.Process, how: int = signal.SIGTERM) -> int:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(how)
        return await asyncio.wait_for(process.wait(), 10)

    async def stop_all(self) -> None:
        for process in self.processes:
            await self.stop(process, signal.SIGKILL)

    async def read(self, topic: str, isolation_level: str = "read_committed") -> list[ConsumerRecord[bytes, bytes]]:
        """Everything that a consumer of a topic sees now, in order per partition."""
        async with consumer(self.kafka, isolation_level) as reader:
            count = 1 if "state" in topic or "registry" in topic else 2
            parts = [TopicPartition(topic, p) for p in range(count)]
            reader.assign(parts)
            ends = await reader.end_offsets(parts)
            await reader.seek_to_beginning(*parts)
            records: list[Any] = []
            for part in parts:
                while await reader.position(part) < ends[part]:
                    batches = await reader.getmany(part, timeout_ms=200)
                    records += [record for batch in batches.values() for record in batch]
            return records

    async def ends(self, isolation_level: str) -> dict[TopicPartition, int]:
        """End offsets of the events topic: the last stable ones under read_committed."""
        async with consumer(self.kafka, isolation_level) as reader:
            offsets: dict[TopicPartition, int] = await reader.end_offsets(
                [TopicPartition(self.topics.events, p) for p in range(2)]
            )
            return offsets

    async def events(self) -> list[dict[str, Any]]:
        """The bodies of the events topic without watermarks."""
        return [json.loads(r.value) for r in await self.read(self.topics.events) if header(r, "op") != "watermark"]

    async def until(
        self, what: str, holds: Callable[[], Any], process: asyncio.subprocess.Process | None = None
    ) -> Any:
        """Polls until ``holds()`` gives something true; fails with the indexer's log."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if process is not None and process.returncode is not None:
                break
            if found := await holds():
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"never: {what}\n{self.log()}")

    async def until_published(self, block: int) -> None:
        async def published() -> bool:
            marks = [r for r in await self.read(self.topics.events) if header(r, "op") == "watermark"]
            return any(json.loads(r.value)["latest"]["number"] >= block for r in marks)

        await self.until(f"block {block} published", published)

    async def check_streams(self) -> None:
        """The laws of every stream: numbers without gap or repetition, revisions that alternate."""
        for topic in (self.topics.events, self.topics.final, self.topics.rejected):
            seqs: dict[int, int] = {}
            streams = set()
            revisions: dict[str, int] = {}
            for record in await self.read(topic):
                seq = int(header(record, "stream_seq"))
                assert seq == seqs.get(record.partition, 0) + 1, (topic, record.partition, seq)
                seqs[record.partition] = seq
                streams.add(header(record, "stream_id"))
                body = json.loads(record.value)
                if body["op"] == "watermark":
                    continue
                before = revisions.get(body["event_id"], 0)
                assert body["revision"] > before if topic == self.topics.final else body["revision"] == before + 1
                assert (body["revision"] % 2 == 1) == (body["op"] in ("applied", "finalized", "rejected"))
                revisions[body["event_id"]] = body["revision"]
            assert len(streams) <= 1

    async def standing(self) -> list[dict[str, Any]]:
        """The events that stand after all retractions, in chain order."""
        standing: dict[str, dict[str, Any]] = {}
        for event in await self.events():
            if event["op"] == "applied":
                standing[event["event_id"]] = event
            else:
                del standing[event["event_id"]]
        return sorted(standing.values(), key=lambda e: (e["block_number"], e["log_index"]))

    async def finals(self) -> list[tuple[int, str, int]]:
        """What stands on the final topic, in chain order: (block, block hash, log index)."""
        standing: dict[str, tuple[int, str, int]] = {}
        for record in await self.read(self.topics.final):
            if header(record, "op") == "watermark":
                continue
            body = json.loads(record.value)
            if body["op"] == "finalized":
                assert body["event_id"] not in standing
                standing[body["event_id"]] = (body["block_number"], body["block_hash"], body["log_index"])
            else:
                del standing[body["event_id"]]
        return sorted(standing.values())

    async def on_chain(self) -> list[tuple[int, str, int]]:
        """What the node says now: (block, block hash, log index) of every log of the contract."""
        logs = await self.till.call("eth_getLogs", {"fromBlock": "0x0", "address": self.till.address})
        return [(int(log["blockNumber"], 16), log["blockHash"], int(log["logIndex"], 16)) for log in logs]

    async def check_equals_chain(self) -> None:
        await self.check_streams()
        standing = [(e["block_number"], e["block_hash"], e["log_index"]) for e in await self.standing()]
        assert standing == await self.on_chain()


def header(record: ConsumerRecord[bytes, bytes], name: str) -> str:
    return next((value.decode() for key, value in record.headers if key == name), "")


@contextlib.asynccontextmanager
async def consumer(bootstrap: str, isolation_level: str) -> AsyncIterator[AIOKafkaConsumer]:
    reader = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level=isolation_level,
        enable_auto_commit=False,
        auto_offset_reset="none",
    )
    await reader.start()
    try:
        yield reader
    finally:
        await reader.stop()


@contextlib.asynccontextmanager
async def rig_on(node: Anvil, *, kafka: str, prefix: str, folder: Path) -> AsyncIterator[Rig]:
    """A rig with the contract deployed in block 1, and topics made."""
    async with connect(node.http_url) as rpc:
        till = Till(rpc)
        await till.deploy()
        rig = Rig(till=till, node=node, kafka=kafka, prefix=prefix, folder=folder)
        rig.write_registry()
        await rig.ensure_topics()
        try:
            yield rig
        finally:
            await rig.stop_all()
