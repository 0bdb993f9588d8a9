"""The whole indexer on two nodes that a test scripts, into a real broker: whatever one of them does, the topics end up
as the chain is, without a gap, a doublet or a record that was never true."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.rpc_node import Block, Call, Chain, Log, RpcError, ScriptedNode, faults
from tests.fakes.rpc_node.answers import honest
from tests.fakes.rpc_node.node import Lie, Rule
from tests.integration.indexer.rig import PAID, Rig, header

TILL = "0x" + "cc" * 20


@dataclass(slots=True)
class ScriptedTill:
    """What the rig wants of a till: its address, and what the honest chain says."""

    chain: Chain
    address: str = TILL
    paid: int = 0

    async def call(self, method: str, *params: Any) -> Any:
        return honest(self.chain, method, params)

    def pay(self) -> Log:
        self.paid += 1
        return Log(address=TILL, topics=("0x" + PAID.hex(), "0x" + "01" * 32), data=f"0x{7:064x}{self.paid:064x}")


@dataclass(slots=True)
class World:
    """A chain, two nodes that look at it, an indexer that prefers the first."""

    rig: Rig
    chain: Chain
    bad: ScriptedNode
    good: ScriptedNode
    mined: list[Block] = field(default_factory=list)

    def mine(self, payments: int = 1) -> Block:
        """A block that both nodes have."""
        till: Any = self.rig.till
        block = self.chain.mine(*([till.pay()] for _ in range(payments)))
        self.bad.chain.switch(block)
        self.good.chain.switch(block)
        self.mined.append(block)
        return block

    async def settled(self) -> None:
        """Everything is published, and is what the chain has."""
        await self.rig.until_published(self.chain.head.number)
        await self.rig.check_equals_chain()


@pytest.fixture
async def world(kafka_bootstrap: str, kafka_prefix: str, tmp_path: Path) -> AsyncIterator[World]:
    """Twelve blocks with a payment each, finality eight blocks below the head."""
    chain = Chain()
    async with AsyncExitStack() as stack:
        bad, good = [await stack.enter_async_context(ScriptedNode(chain.view())) for _ in range(2)]
        till: Any = ScriptedTill(chain)
        node: Any = bad
        rig = Rig(till=till, node=node, kafka=kafka_bootstrap, prefix=kafka_prefix, folder=tmp_path)
        rig.extra |= {"CHAIN__RPC_HTTP": f"{bad.http_url},{good.http_url}", "CHAIN__RPC_TIMEOUT_S": "1"}
        rig.write_registry()
        await rig.ensure_topics()
        world = World(rig=rig, chain=chain, bad=bad, good=good)
        for _ in range(12):
            world.mine()
        try:
            yield world
        finally:
            await rig.stop_all()


def hides(call: Call, result: Any) -> Any:
    return []


def marks_removed(call: Call, result: Any) -> Any:
    return [log | {"removed": True} for log in result]


def invents(call: Call, result: Any) -> Any:
    """A log of ours more than the block has: from a payer that the bloom does not know."""
    if not result:
        return result
    forged = {"logIndex": "0xff", "topics": [result[-1]["topics"][0], "0x" + "66" * 32]}
    return [*result, result[-1] | forged]


def with_fields(**fields: str) -> Lie:
    return lambda call, result: result if result is None else result | fields


def of_a_block(call: Call) -> bool:
    return "blockHash" in call.params[0]


Script = Callable[[ScriptedNode], Rule]
CONTENT: dict[str, Script] = {
    "hides logs": lambda node: node.answer("eth_getLogs", hides, when=of_a_block),
    "marks logs removed": lambda node: node.answer("eth_getLogs", marks_removed),
    "invents a log": lambda node: node.answer("eth_getLogs", invents, when=of_a_block),
    "turns logs round": lambda node: node.answer("eth_getLogs", lambda call, result: result[::-1]),
    "does not know the block": lambda node: node.answer("eth_getLogs", RpcError(-32000, "unknown block")),
    "refuses any range": lambda node: node.answer(
        "eth_getLogs", RpcError(-32005, "query returned more than 10 results")
    ),
    "has no blocks": lambda node: node.answer("eth_getBlockByNumber", None),
    "has another number": lambda node: node.answer("eth_getBlockByNumber", with_fields(number="0xffff")),
    "has another parent": lambda node: node.answer("eth_getBlockByNumber", with_fields(parentHash="0x" + "12" * 32)),
    "has finality above its head": lambda node: node.answer(
        "eth_getBlockByNumber", with_fields(number="0xff"), when=lambda call: call.params[0] == "finalized"
    ),
    "lacks eth_getLogs": lambda node: node.answer("eth_getLogs", RpcError(-32601, "method not found")),
}
TRANSPORT: dict[str, Script] = {
    "asks for a pause": lambda node: node.misbehave(faults.status(429, "slow down", retry_after_s=1)),
    "fails": lambda node: node.misbehave(faults.status(500)),
    "hangs": lambda node: node.misbehave(faults.hangs),
    "stalls": lambda node: node.misbehave(faults.stalls),
    "cuts": lambda node: node.misbehave(faults.cuts),
    "resets": lambda node: node.misbehave(faults.resets),
    "answers another request": lambda node: node.misbehave(faults.foreign_id()),
    "answers a batch": lambda node: node.misbehave(faults.in_a_batch()),
    "shows a page": lambda node: node.misbehave(faults.says("<html>hello</html>")),
    "nests too deep": lambda node: node.misbehave(faults.says('{"x": ' + "[" * 200_000)),
    "sends garbage": lambda node: node.misbehave(faults.not_http),
    "packs it": lambda node: node.misbehave(faults.zipped()),
}


def aimed(world: World, script: Script) -> list[Rule]:
    """Scripts whichever node is asked first from now on, and only that one."""
    victims: list[ScriptedNode] = []
    rules = []
    for node in (world.bad, world.good):
        rule = script(node)

        def when(call: Call, node: ScriptedNode = node, inner: Callable[[Call], bool] = rule.when) -> bool:
            if not inner(call):
                return False
            if not victims:
                victims.append(node)
            return victims[0] is node

        rule.when = when
        rules.append(rule)
    return rules


@pytest.mark.parametrize("scripts", [CONTENT, TRANSPORT], ids=["content", "transport"])
async def test_whatever_a_node_does_the_topics_equal_the_chain(world: World, scripts: dict[str, Script]) -> None:
    process = await world.rig.start()
    await world.settled()
    for name, script in scripts.items():
        rules = aimed(world, script)
        for _ in range(2):
            world.mine(payments=2)
            await world.bad.announce()
            try:
                await world.rig.until_published(world.chain.head.number)
            except AssertionError as failure:
                failure.add_note(f"a node that {name}")
                raise
        assert sum(rule.hits for rule in rules) > 0, name
        world.bad.behave()
        world.good.behave()
    await world.settled()
    assert await ops(world) == {"applied"}
    assert await world.rig.stop(process) == 0


async def ops(world: World) -> set[str]:
    return {event["op"] for event in await world.rig.events()}


async def test_a_node_that_hides_logs_and_has_no_receipts_is_found_out(world: World) -> None:
    world.bad.answer("eth_getLogs", hides, when=of_a_block)
    missing = world.bad.answer("eth_getBlockReceipts", RpcError(-32601, "method not found"))
    process = await world.rig.start()
    await world.settled()
    assert missing.hits > 0
    assert await world.rig.stop(process) == 0


async def test_one_node_that_lies_alone_is_waited_for_and_nothing_wrong_is_published(world: World) -> None:
    await world.good.die()
    process = await world.rig.start()
    await world.settled()
    lies = world.bad.answer("eth_getLogs", hides, when=of_a_block)
    bare = world.bad.answer("eth_getBlockReceipts", lambda call, result: [r | {"logs": []} for r in result])
    last = world.chain.head.number
    world.mine()
    await world.bad.announce()

    async def refused_twice() -> bool:
        return min(lies.hits, bare.hits) >= 2

    await world.rig.until("two refusals", refused_twice)
    assert max(event["block_number"] for event in await world.rig.events()) == last
    world.bad.behave()
    await world.settled()
    assert await world.rig.stop(process) == 0


async def test_a_stale_branch_is_retracted_once_the_other_node_is_asked(world: World) -> None:
    process = await world.rig.start()
    await world.settled()
    stale = world.bad.chain
    orphans = [stale.mine([world_pay(world)]) for _ in range(2)]  # of this node alone
    await world.rig.until_published(orphans[-1].number)
    for _ in range(6):  # the other node is more than two blocks ahead
        block = world.chain.mine([world_pay(world)])
        world.good.chain.switch(block)
    await world.rig.until_published(world.chain.head.number)
    await world.settled()
    gone = [event["block_hash"] for event in await world.rig.events() if event["op"] == "retracted"]
    assert gone == [block.hash for block in reversed(orphans)]
    assert await world.rig.stop(process) == 0


def world_pay(world: World) -> Log:
    till: Any = world.rig.till
    log: Log = till.pay()
    return log


async def test_lies_a_stale_branch_a_death_and_the_death_of_the_other_one_after_another(world: World) -> None:
    hiding = world.bad.answer("eth_getLogs", hides, when=of_a_block)
    process = await world.rig.start()
    await world.settled()
    assert hiding.hits > 0
    world.bad.behave()
    world.bad.chain.mine([world_pay(world)])
    world.bad.chain.mine()
    for _ in range(6):
        world.good.chain.switch(world.chain.mine([world_pay(world)]))
    await world.settled()
    await world.bad.die()
    for _ in range(5):
        world.mine(payments=3)
        await world.rig.until_published(world.chain.head.number)
    await world.bad.revive()
    await world.good.die()
    for _ in range(10):
        world.mine(payments=3)
    await world.settled()
    finals = [
        json.loads(r.value) for r in await world.rig.read(world.rig.topics.final) if header(r, "op") == "finalized"
    ]
    expected = [log for block in world.chain.branch[: world.chain.finalized.number + 1] for log in block.logs]
    assert [(e["block_hash"], e["log_index"]) for e in finals] == [
        (log["blockHash"], int(log["logIndex"], 16)) for log in expected
    ]
    assert await world.rig.stop(process) == 0


async def test_tags_that_regress_change_nothing(world: World) -> None:
    process = await world.rig.start()
    await world.settled()
    for node in (world.bad, world.good):
        early = {**world.chain.branch[1].header, "transactions": []}
        node.answer("eth_getBlockByNumber", early, when=lambda call: call.params[0] in ("safe", "finalized"))
    for _ in range(3):
        world.mine()
    await world.settled()
    marks = [
        json.loads(r.value) for r in await world.rig.read(world.rig.topics.events) if header(r, "op") == "watermark"
    ]
    by_partition: dict[int, list[int]] = {}
    for record in await world.rig.read(world.rig.topics.events):
        if header(record, "op") == "watermark":
            body = json.loads(record.value)
            by_partition.setdefault(record.partition, []).append(body["finalized"]["number"])
    assert marks
    assert all(numbers == sorted(numbers) for numbers in by_partition.values())
    assert await world.rig.stop(process) == 0


async def test_another_chain_behind_the_first_address_is_refused(world: World) -> None:
    world.bad.chain = Chain(chain_id=1)
    process = await world.rig.start()
    assert await process.wait() == 2
    assert "is on chain id 1, [chain] id says 31337" in world.rig.log()
    assert await world.rig.events() == []


async def test_a_header_that_changes_between_two_reads_is_never_published(world: World) -> None:
    process = await world.rig.start()
    await world.settled()
    flips = [0]

    def other_parent(call: Call, result: Any) -> Any:
        flips[0] += 1
        return result if result is None or flips[0] % 2 else result | {"parentHash": "0x" + "34" * 32}

    rule = world.bad.answer("eth_getBlockByHash", other_parent)
    tags = world.bad.answer("eth_getBlockByNumber", other_parent)
    for _ in range(4):
        world.mine()
        world.mine()
        await world.rig.until_published(world.chain.head.number)
    await world.settled()
    assert rule.hits + tags.hits > 0
    assert await ops(world) == {"applied"}
    assert await world.rig.stop(process) == 0
