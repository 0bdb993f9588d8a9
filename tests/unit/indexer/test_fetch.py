"""What the indexer believes of a node: bloom against logs, empty answers, ranges, and the records that come of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from eth_abi import encode

from contracts.registry import Registry
from indexer.core.assemble import Assembler, PlacedLog
from indexer.core.blocks import Header
from indexer.core.parts import decode_parts
from indexer.errors import MethodMissing, NodeBehind, NodeLied
from indexer.fetch import Fetcher, Finality
from tests.fakes.chain_node import ChainNode, bloom_of
from tests.integration.indexer.rig import PAID
from tests.unit.indexer.core.branches import GENESIS, block_hash, branch
from tests.unit.indexer.following import ADDRESS


def paid(at: Header, log_index: int, *, tx: str = "tx", data: bytes | None = None) -> PlacedLog:
    return PlacedLog(
        block_number=at.number,
        block_hash=at.hash,
        block_timestamp=at.timestamp,
        tx_hash=block_hash(f"{tx} {at.hash}"),
        tx_index=0,
        log_index=log_index,
        address=ADDRESS,
        topics=(PAID, b"\x07" * 32),
        data=encode(["uint256", "uint64"], [5, log_index]) if data is None else data,
    )


def with_logs(at: Header, *indices: int) -> tuple[Header, list[PlacedLog]]:
    logs = [paid(at, i) for i in indices]
    return replace(at, logs_bloom=bloom_of(logs)), logs


def fetcher(registry: Registry, node: ChainNode, *, finality: Finality = "tags") -> Fetcher:
    addresses, topic0s = registry.watched()
    assembler = Assembler(chain_id=31337, dispatch=registry.dispatch, partition_of=lambda _: 0)
    return Fetcher(node, assembler=assembler, addresses=addresses, topic0s=topic0s, finality=finality)


async def test_an_empty_answer_that_the_bloom_contradicts_is_not_no_logs(registry: Registry) -> None:
    header, logs = with_logs(branch(GENESIS, "a", 1)[0], 0, 1)
    node = ChainNode(headers={0: GENESIS, 1: header}, logs={header.hash: logs}, shown_logs={})
    (block,) = await fetcher(registry, node).blocks([header])
    assert node.asked == ["logs", "receipts"]
    assert block.state.records == 2


async def test_a_node_that_cannot_prove_its_silence_is_not_believed(registry: Registry) -> None:
    header, _ = with_logs(branch(GENESIS, "a", 1)[0], 0)
    node = ChainNode(headers={0: GENESIS, 1: header}, shown_logs={}, has_receipts=False)
    with pytest.raises(MethodMissing):
        await fetcher(registry, node).blocks([header])


async def test_a_contract_that_the_bloom_affirms_is_looked_for_although_another_has_logs() -> None:
    shown, hidden = bytes(20), b"\xaa" * 20
    at, _ = with_logs(branch(GENESIS, "a", 1)[0], 0)
    logs = [replace(paid(at, i), address="0x" + who.hex()) for i, who in enumerate((shown, hidden))]
    header = replace(at, logs_bloom=bloom_of(logs))
    node = ChainNode(headers={1: header}, logs={header.hash: logs}, shown_logs={header.hash: logs[:1]})
    assembler = Assembler(chain_id=31337, dispatch=lambda *_: None, partition_of=lambda _: 0)
    watching = Fetcher(
        node,
        assembler=assembler,
        addresses=frozenset({shown, hidden}),
        topic0s=frozenset({logs[0].topics[0]}),
        finality="tags",
    )
    await watching.blocks([header])
    assert node.asked == ["logs", "receipts"]
    node.shown_logs = None
    await watching.blocks([header])
    assert node.asked == ["logs", "receipts", "logs"]


async def test_an_empty_block_costs_one_question(registry: Registry) -> None:
    (header,) = branch(GENESIS, "a", 1)
    node = ChainNode(headers={0: GENESIS, 1: header})
    await fetcher(registry, node).blocks([header])
    assert node.asked == ["logs"]


async def test_a_log_that_the_bloom_denies_is_a_lie(registry: Registry) -> None:
    (header,) = branch(GENESIS, "a", 1)
    node = ChainNode(headers={0: GENESIS, 1: header}, logs={header.hash: [paid(header, 0)]})
    with pytest.raises(NodeLied, match="bloom denies"):
        await fetcher(registry, node).blocks([header])


async def test_the_last_event_of_each_tx_closes_it(registry: Registry) -> None:
    (at,) = branch(GENESIS, "a", 1)
    logs = [paid(at, 0, tx="x"), paid(at, 1, tx="x"), paid(at, 2, tx="y"), paid(at, 3, tx="x", data=b"broken")]
    header = replace(at, logs_bloom=bloom_of(logs))
    node = ChainNode(headers={0: GENESIS, 1: header}, logs={header.hash: logs})
    (block,) = await fetcher(registry, node).blocks([header])
    records = decode_parts(block.parts)
    bodies = [json.loads(bytes(record.value)) for record in records]
    assert [(b.get("closes_tx"), r.topic) for b, r in zip(bodies, records, strict=True)] == [
        (False, "events"),
        (True, "events"),
        (True, "events"),
        (None, "rejected"),
    ]


async def test_a_range_takes_timestamps_from_headers_where_the_node_gives_none(registry: Registry) -> None:
    (at,) = branch(GENESIS, "a", 1)
    header, logs = with_logs(at, 0)
    untimed = [replace(log, block_timestamp=0) for log in logs]
    node = ChainNode(headers={0: GENESIS, 1: header}, logs={header.hash: untimed}, finalized=1)
    chunk = await fetcher(registry, node).chunk(1, 1)
    assert (chunk.first, chunk.last) == (header, header)
    assert chunk.records[0].message.block_timestamp == header.timestamp


async def test_a_range_whose_logs_name_another_block_than_its_header_is_a_lie(registry: Registry) -> None:
    (at,) = branch(GENESIS, "a", 1)
    header, logs = with_logs(at, 0)
    foreign = [replace(log, block_hash=block_hash("foreign")) for log in logs]
    node = ChainNode(headers={0: GENESIS, 1: header}, logs={header.hash: foreign}, finalized=1)
    with pytest.raises(NodeLied, match="two hashes"):
        await fetcher(registry, node).chunk(1, 1)
    node.logs[header.hash] = [replace(log, block_timestamp=0) for log in foreign]
    with pytest.raises(NodeLied, match="two hashes"):
        await fetcher(registry, node).chunk(1, 1)


async def test_a_range_is_final_only_for_a_node_that_says_so(registry: Registry) -> None:
    """After a fail-over the node may lag, and be on a branch that never becomes final."""
    (at,) = branch(GENESIS, "a", 1)
    header, logs = with_logs(at, 0)
    lagging = ChainNode(headers={0: GENESIS, 1: header}, logs={header.hash: logs}, finalized=0)
    with pytest.raises(NodeBehind, match="final"):
        await fetcher(registry, lagging).chunk(1, 1)
    with pytest.raises(NodeBehind, match="final"):
        await fetcher(registry, lagging, finality=1).chunk(1, 1)
    assert "range" not in lagging.asked


async def test_one_block_that_is_too_much_for_get_logs_is_read_from_receipts(registry: Registry) -> None:
    (at,) = branch(GENESIS, "a", 1)
    header, logs = with_logs(at, 0, 1)
    node = ChainNode(headers={0: GENESIS, 1: header}, logs={header.hash: logs}, range_blocks_max=0, finalized=1)
    assert len((await fetcher(registry, node).chunk(1, 1)).records) == 2


async def test_a_height_that_the_node_does_not_have_is_lag(registry: Registry) -> None:
    with pytest.raises(NodeBehind):
        await fetcher(registry, ChainNode(headers={0: GENESIS})).at(5)


async def test_finalized_above_latest_is_a_lie_and_depth_counts_from_the_head(registry: Registry) -> None:
    blocks = branch(GENESIS, "a", 5)
    node = ChainNode(headers={h.number: h for h in (GENESIS, *blocks)}, finalized=3)
    tips = await fetcher(registry, node).tips()
    assert (tips.latest.number, tips.finalized.number) == (5, 3)
    addresses, topic0s = registry.watched()
    assembler = Assembler(chain_id=31337, dispatch=registry.dispatch, partition_of=lambda _: 0)
    by_depth = Fetcher(node, assembler=assembler, addresses=addresses, topic0s=topic0s, finality=4)
    assert (await by_depth.tips()).finalized.number == 1


async def test_an_event_too_large_for_a_record_is_rejected_and_the_rest_goes_on(registry: Registry) -> None:
    (at,) = branch(GENESIS, "a", 1)
    logs = [paid(at, 0), paid(at, 1, data=b"\xee" * 2_000_000), paid(at, 2)]
    header = replace(at, logs_bloom=bloom_of(logs))
    node = ChainNode(headers={0: GENESIS, 1: header}, logs={header.hash: logs})
    (block,) = await fetcher(registry, node).blocks([header])
    records = decode_parts(block.parts)
    assert [record.topic for record in records] == ["events", "rejected", "events"]
    rejected = json.loads(bytes(records[1].value))
    assert rejected["data_length"] == 2_000_000
    assert len(records[1].value) < 200_000
