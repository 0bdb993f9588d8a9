"""One node over real HTTP: whatever it answers becomes the truth or an error of ours, never a wrong value."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from deploy.runtime import rpc as rpc_module
from deploy.runtime.rpc import connect
from indexer.adapters.node import Node
from indexer.errors import IndexerError, MethodMissing, NodeBehind, NodeLied, NodeUnavailable, RangeTooLarge
from indexer.ports import LogFilter
from tests.fakes.rpc_node import Call, Log, RpcError, ScriptedNode, faults
from tests.fakes.rpc_node.node import Lie
from tests.integration.indexer.rig import PAID

TILL = "0x" + "cc" * 20
OTHER = "0x" + "dd" * 20
WANTED = LogFilter(addresses=(TILL,), topic0s=("0x" + PAID.hex(),))
Question = Callable[[Node], Awaitable[Any]]


def paid(number: int = 1, address: str = TILL) -> Log:
    return Log(address=address, topics=("0x" + PAID.hex(), f"0x{number:064x}"), data=f"0x{number:0128x}")


@pytest.fixture
async def script() -> AsyncIterator[ScriptedNode]:
    """Blocks 1 to 12; the newest holds two logs of ours, and one of somebody else's."""
    async with ScriptedNode() as script:
        script.chain.mine_empty(11)
        script.chain.mine([paid(1)], [paid(3, OTHER), paid(2)])
        yield script


@pytest.fixture
async def node(script: ScriptedNode) -> AsyncIterator[Node]:
    async with connect(script.http_url, timeout_s=0.5) as rpc:
        yield Node(rpc)


async def head_logs(node: Node) -> list[tuple[int, bytes]]:
    head = await node.header_by_tag("latest")
    assert head is not None
    return [(log.log_index, log.data) for log in await node.logs_of_block(head, WANTED)]


async def head_receipts(node: Node) -> list[tuple[int, bytes]]:
    head = await node.header_by_tag("latest")
    assert head is not None
    return [(log.log_index, log.data) for log in await node.logs_from_receipts(head, WANTED)]


async def all_logs(node: Node) -> list[tuple[int, bytes]]:
    return [(log.log_index, log.data) for log in await node.logs_of_range(0, 12, WANTED)]


LATEST: Question = lambda node: node.header_by_tag("latest")  # noqa: E731 - a table of questions
FIRST: Question = lambda node: node.header_by_number(1)  # noqa: E731
CHAIN_ID: Question = lambda node: node.chain_id()  # noqa: E731
QUESTIONS: list[tuple[str, Question]] = [
    ("eth_getBlockByNumber", LATEST),
    ("eth_chainId", CHAIN_ID),
    ("eth_getLogs", head_logs),
    ("eth_getBlockReceipts", head_receipts),
]
TRUTH = [(0, bytes.fromhex(paid(1).data[2:])), (2, bytes.fromhex(paid(2).data[2:]))]


async def test_an_honest_node_is_understood(script: ScriptedNode, node: Node) -> None:
    head = script.chain.head
    header = await node.header_by_tag("latest")
    assert header is not None
    assert (header.number, header.hash, header.parent_hash) == (12, head.hash, head.parent_hash)
    assert await node.header_by_hash(head.hash) == header == await node.header_by_number(12)
    assert await node.chain_id() == 31337
    assert await node.genesis_hash() == script.chain.branch[0].hash
    assert await head_logs(node) == await head_receipts(node) == await all_logs(node) == TRUTH
    assert await node.header_by_number(13) is None
    assert await node.header_by_hash("0x" + "12" * 32) is None


@pytest.mark.parametrize(("method", "question"), QUESTIONS)
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.status(429, "slow down", retry_after_s=1), NodeUnavailable),
        (faults.status(500, "oops"), NodeUnavailable),
        (faults.status(503, "<html>maintenance</html>"), NodeUnavailable),
        (faults.status(400, "what?"), NodeUnavailable),
        (faults.resets, NodeUnavailable),
        (faults.cuts, NodeUnavailable),
        (faults.not_http, NodeUnavailable),
        (faults.says("no gzip", headers={"Content-Encoding": "gzip"}), NodeUnavailable),
        (faults.says("<html>a portal</html>"), NodeLied),
        (faults.says(""), NodeLied),
        (faults.says(b'{"jsonrpc": "2.0", "id": 1, "result": "\xff\xfe"}'), NodeLied),
        (faults.says("null"), NodeLied),
        (faults.says("[" * 100_000), NodeLied),
        (faults.says('{"id": 1, "error": {"code": -32000, "message": "", "data": ' + "[" * 100_000), NodeLied),
        (faults.in_a_batch(), NodeLied),
        (faults.foreign_id(), NodeLied),
        (faults.rewritten(lambda answer: answer | {"result": 7}), NodeLied),
        (faults.rewritten(lambda answer: answer | {"result": {"number": []}}), NodeLied),
        (faults.rewritten(lambda answer: answer | {"error": "no"}), NodeLied),
    ],
)
async def test_what_goes_wrong_on_the_way_is_an_error_of_ours_and_the_next_question_works(
    script: ScriptedNode, node: Node, method: str, question: Question, fault: faults.Fault, error: type[IndexerError]
) -> None:
    rule = script.misbehave(fault, method, times=1)
    with pytest.raises(error):
        await question(node)
    assert rule.hits == 1
    script.behave()
    await asyncio.wait_for(patient(question, node), 5)


async def patient(question: Question, node: Node) -> Any:
    """The answer, however often the node has to be asked."""
    while True:
        try:
            return await question(node)
        except NodeUnavailable:
            await asyncio.sleep(0.02)  # a Retry-After runs: no event tells when it is over


async def test_a_redirection_is_not_followed(script: ScriptedNode, node: Node) -> None:
    async with ScriptedNode(script.chain) as elsewhere:
        script.misbehave(faults.moved(elsewhere.http_url))
        with pytest.raises(NodeUnavailable, match="HTTP 307"):
            await LATEST(node)
        assert elsewhere.asked == []


@pytest.mark.parametrize("fault", [faults.hangs, faults.stalls])
async def test_a_node_that_keeps_us_waiting_is_given_up_in_time(
    script: ScriptedNode, node: Node, fault: faults.Fault
) -> None:
    script.misbehave(fault)
    with pytest.raises(NodeUnavailable, match="no answer in time"):
        await LATEST(node)
    with pytest.raises(RangeTooLarge, match="no answer in time"):  # less may be quicker
        await all_logs(node)


async def test_gzip_is_understood(script: ScriptedNode, node: Node) -> None:
    rule = script.misbehave(faults.zipped())
    assert await head_logs(node) == TRUTH
    assert rule.hits == 2


async def test_a_large_body_is_read_and_a_huge_one_is_not(
    script: ScriptedNode, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_module, "RESPONSE_BYTES_MAX", 8_000_000)
    script.misbehave(faults.oversized(7_000_000), times=2)
    assert await head_logs(node) == TRUTH
    for fault in (faults.oversized(9_000_000), faults.zipped(blanks=9_000_000)):
        script.behave()
        script.misbehave(fault, "eth_getLogs")
        with pytest.raises(RangeTooLarge, match="more than 8000000 bytes"):
            await all_logs(node)
        script.misbehave(fault, "eth_getBlockReceipts")
        with pytest.raises(NodeUnavailable, match="more than 8000000 bytes"):
            await head_receipts(node)


async def test_a_gzip_bomb_is_not_unpacked(script: ScriptedNode, node: Node) -> None:
    script.misbehave(faults.zipped(blanks=400_000_000))
    before = peak_mb()
    with pytest.raises(NodeUnavailable):
        await LATEST(node)
    assert peak_mb() - before < 200


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


async def test_a_node_that_asks_for_a_pause_gets_it(script: ScriptedNode, node: Node) -> None:
    script.misbehave(faults.status(429, "slow down", retry_after_s=0.3), times=1)
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(NodeUnavailable, match=r"429|pause"):
            await LATEST(node)
    assert len(script.asked) == 1  # the second and third question never left
    await patient(LATEST, node)
    assert time.monotonic() - began >= 0.3


def changed(**fields: Any) -> Lie:
    """The honest block, or every log of an answer, with other fields."""

    def lie(call: Call, result: Any) -> Any:
        return [item | fields for item in result] if isinstance(result, list) else result | fields

    return lie


@pytest.mark.parametrize(
    ("lie", "question"),
    [
        (changed(number="0x2"), FIRST),
        (changed(number=None), LATEST),
        (changed(hash="0x12"), LATEST),
        (changed(hash="0x" + "ab " * 20 + "abab"), LATEST),
        (changed(parentHash=None), LATEST),
        (changed(logsBloom="0x00"), LATEST),
        (changed(timestamp="yesterday"), LATEST),
        (changed(timestamp="0x" + "f" * 17), LATEST),
    ],
)
async def test_a_malformed_or_other_block_is_a_lie(
    script: ScriptedNode, node: Node, lie: Lie, question: Question
) -> None:
    rule = script.answer("eth_getBlockByNumber", lie)
    with pytest.raises(NodeLied):
        await question(node)
    assert rule.hits == 1


async def test_another_block_for_the_hash_asked_for_is_a_lie(script: ScriptedNode, node: Node) -> None:
    head, parent = script.chain.head, script.chain.branch[-2]
    script.answer("eth_getBlockByHash", {**parent.header, "transactions": []})
    with pytest.raises(NodeLied, match="for hash"):
        await node.header_by_hash(head.hash)


def without_first(call: Call, result: Any) -> Any:
    return result[1:]


def twice(call: Call, result: Any) -> Any:
    return [result[0], *result]


def backwards(call: Call, result: Any) -> Any:
    return result[::-1]


@pytest.mark.parametrize(
    "lie",
    [
        changed(removed=True),
        changed(blockHash="0x" + "12" * 32),
        changed(blockNumber="0x5"),
        changed(blockHash=None),
        changed(transactionHash="0x"),
        changed(logIndex="0x1ffffffff"),
        changed(topics=["0x" + "01" * 31]),
        changed(topics=["0x" + "01" * 32] * 5),
        changed(topics=None),
        changed(data="zz"),
        changed(address="0x" + "cc" * 19),
        lambda call, result: None,
        twice,
        backwards,
    ],
)
async def test_logs_that_are_not_of_this_block_or_not_in_order_are_a_lie(
    script: ScriptedNode, node: Node, lie: Lie
) -> None:
    rule = script.answer("eth_getLogs", lie)
    with pytest.raises(NodeLied):
        await head_logs(node)
    assert rule.hits == 1


async def test_logs_outside_the_range_are_a_lie(script: ScriptedNode, node: Node) -> None:
    script.answer("eth_getLogs", changed(blockNumber="0xd"))
    with pytest.raises(NodeLied, match="outside"):
        await all_logs(node)


@pytest.mark.parametrize(
    "lie",
    [
        lambda call, result: [],
        without_first,
        lambda call, result: [result[0], {**result[1], "logs": []}],
        lambda call, result: [{**r, "logs": [log | {"address": OTHER} for log in r["logs"]]} for r in result],
        lambda call, result: [
            {**r, "logs": [log | {"topics": log["topics"][:1]} for log in r["logs"]]} for r in result
        ],
    ],
)
async def test_receipts_that_do_not_make_the_bloom_are_a_lie(script: ScriptedNode, node: Node, lie: Lie) -> None:
    rule = script.answer("eth_getBlockReceipts", lie)
    with pytest.raises(NodeLied, match="bloom"):
        await head_receipts(node)
    assert rule.hits == 1


async def test_null_is_lag_never_no_logs(script: ScriptedNode, node: Node) -> None:
    for method in ("eth_getBlockByNumber", "eth_getBlockByHash"):
        script.answer(method, None)
    assert await LATEST(node) is None
    script.behave()
    script.answer("eth_getBlockReceipts", None)
    with pytest.raises(NodeBehind):
        await head_receipts(node)


async def test_an_unknown_block_is_lag_never_no_logs(script: ScriptedNode, node: Node) -> None:
    orphan = await node.header_by_tag("latest")
    assert orphan is not None
    del script.chain.blocks[orphan.hash]
    script.chain.fork(at=11)
    with pytest.raises(NodeBehind):
        await node.logs_of_block(orphan, WANTED)
    with pytest.raises(NodeBehind):
        await node.logs_from_receipts(orphan, WANTED)
    with pytest.raises(NodeBehind):
        await node.logs_of_range(0, 12, WANTED)


@pytest.mark.parametrize(
    "refusal",
    [
        RpcError(-32601, "the method eth_getBlockReceipts does not exist/is not available"),
        RpcError(-32601, "Method not found"),
        RpcError(-32004, "The method 'eth_getBlockReceipts' is not supported."),
        RpcError(-32600, "Unsupported method: eth_getBlockReceipts"),
        RpcError(-32603, "method eth_getBlockReceipts not supported"),
    ],
)
async def test_a_node_without_receipts_is_asked_for_every_log_instead(
    script: ScriptedNode, node: Node, refusal: RpcError
) -> None:
    rule = script.answer("eth_getBlockReceipts", refusal)
    assert await head_receipts(node) == TRUTH
    assert rule.hits == 1
    script.answer("eth_getLogs", without_first)
    with pytest.raises(NodeLied, match="bloom"):
        await head_receipts(node)


async def test_a_method_that_does_not_exist_says_so(script: ScriptedNode, node: Node) -> None:
    script.answer("eth_getLogs", RpcError(-32601, "Method not found"))
    with pytest.raises(MethodMissing):
        await head_logs(node)


async def test_a_refused_range_says_the_limit_also_with_http_400(script: ScriptedNode, node: Node) -> None:
    text = "eth_getLogs is limited to a 10,000 range"
    script.answer("eth_getLogs", RpcError(-32614, text))
    with pytest.raises(RangeTooLarge) as caught:
        await all_logs(node)
    assert caught.value.blocks_max == 10_000
    script.behave()
    refusal = {"jsonrpc": "2.0", "id": None, "error": {"code": -32614, "message": text}}
    script.misbehave(faults.status(400, json.dumps(refusal)), "eth_getLogs")
    with pytest.raises(RangeTooLarge) as caught:
        await all_logs(node)
    assert caught.value.blocks_max == 10_000


async def test_an_error_for_all_questions_may_have_no_id(script: ScriptedNode, node: Node) -> None:
    script.misbehave(faults.says('{"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "parse error"}}'))
    with pytest.raises(NodeUnavailable, match="parse error"):
        await LATEST(node)


@pytest.mark.parametrize("error", [{"code": "-32005"}, {"message": None, "code": -1}, {"code": 1.5, "message": "no"}])
async def test_an_odd_error_object_is_still_an_error(script: ScriptedNode, node: Node, error: dict[str, Any]) -> None:
    script.misbehave(faults.rewritten(lambda answer: {"id": answer["id"], "error": error}))
    with pytest.raises((NodeUnavailable, NodeLied)):
        await LATEST(node)
