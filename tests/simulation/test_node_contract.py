"""What a simulated node and the adapter on a real one have in common: the same tests against both."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import AsyncIterator

import pytest

from deploy.runtime.rpc import connect
from indexer.adapters.node import Node
from indexer.errors import NodeBehind
from indexer.ports import LogFilter, NodePort
from tests.simulation.chain import Chain
from tests.simulation.faults import Faults
from tests.simulation.loop import Gate
from tests.simulation.nodes import NodeClient, SimNode

BLOCKS = 40
UNKNOWN = "0x" + "ab" * 32
WANTED = LogFilter(addresses=("0x" + "11" * 20,), topic0s=("0x" + "22" * 32,))


class OpenGate(Gate):
    async def wait(self, what: str) -> None:
        return


@pytest.fixture(params=["simulated", "real"])
async def node(request: pytest.FixtureRequest) -> AsyncIterator[NodePort]:
    """A node whose head is block 40, with tags below it."""
    if request.param == "simulated":
        pick = random.Random(1)
        faults = Faults(pick, lambda _: None)
        faults.on = False
        chain = Chain(31337, pick)
        chain.mine(BLOCKS)
        chain.finalize(BLOCKS - 20)
        yield NodeClient(SimNode("node", chain, faults), OpenGate())
        return
    anvil = await request.getfixturevalue("anvil")(slots_in_an_epoch=2)
    async with connect(anvil.http_url) as rpc:
        await rpc.provider.make_request("anvil_mine", [hex(BLOCKS)])  # type: ignore[arg-type]
        yield Node(rpc)


async def test_headers_by_tag_number_and_hash_agree_and_link(node: NodePort) -> None:
    latest, safe, finalized = [await node.header_by_tag(tag) for tag in ("latest", "safe", "finalized")]
    assert latest is not None
    assert safe is not None
    assert finalized is not None
    assert latest.number == BLOCKS
    assert finalized.number <= safe.number <= latest.number
    assert await node.header_by_hash(latest.hash) == latest
    assert await node.header_by_number(latest.number) == latest
    parent = await node.header_by_number(latest.number - 1)
    assert parent is not None
    assert parent.hash == latest.parent_hash
    assert await node.hashes_at(0) == [await node.genesis_hash()]
    assert await node.chain_id() == 31337
    assert len(latest.logs_bloom) == 256


async def test_what_a_node_does_not_have_is_none_or_behind_and_never_empty(node: NodePort) -> None:
    assert await node.header_by_number(BLOCKS + 1) is None
    assert await node.header_by_hash(UNKNOWN) is None
    assert await node.hashes_at(BLOCKS + 1) == []
    latest = await node.header_by_tag("latest")
    assert latest is not None
    unknown = dataclasses.replace(latest, hash=UNKNOWN)
    for ask in (node.logs_of_block, node.logs_from_receipts):
        with pytest.raises(NodeBehind):
            await ask(unknown, WANTED)
    with pytest.raises(NodeBehind):
        await node.logs_of_range(BLOCKS + 5, BLOCKS + 6, WANTED)


async def test_logs_that_nobody_emitted_are_an_empty_answer(node: NodePort) -> None:
    latest = await node.header_by_tag("latest")
    assert latest is not None
    assert await node.logs_of_block(latest, WANTED) == []
    assert await node.logs_from_receipts(latest, WANTED) == []
    assert await node.logs_of_range(1, BLOCKS, WANTED) == []
