"""Whom a resolve believes: every node that answers has to have the block, and to call it final."""

from __future__ import annotations

import msgspec
import pytest

from contracts.messages import BlockRef
from deploy.runtime import telemetry
from indexer.core.assemble import Assembler
from indexer.core.state import Latch
from indexer.errors import FatalError, NodeUnavailable, ResolveRefused, Unconfirmed
from indexer.evidence import Evidence, Investigation
from indexer.fetch import Fetcher
from indexer.observe import Observer
from indexer.patience import Patience
from tests.fakes.broker import Broker, Streams
from tests.fakes.chain_node import ChainNode
from tests.simulation.test_indexer_histories import Clock
from tests.unit.indexer.core.branches import GENESIS, branch
from tests.unit.indexer.core.test_compose import CURSOR

OURS, THEIRS, OTHERS = (branch(GENESIS, name, 5) for name in "abc")
NUMBER = 3


class Silent(ChainNode):
    """A node that does not answer."""

    async def header_by_number(self, number: int) -> None:
        raise NodeUnavailable("away")


def node(blocks: list[object], *, finalized: int = NUMBER, silent: bool = False) -> ChainNode:
    headers = {block.number: block for block in (GENESIS, *blocks)}  # type: ignore[attr-defined]
    return (Silent if silent else ChainNode)(headers=headers, finalized=finalized)  # type: ignore[arg-type]


async def asked(*nodes: ChainNode, block_hash: str = THEIRS[NUMBER - 1].hash) -> Evidence:
    def fetcher(each: ChainNode) -> Fetcher:
        assembler = Assembler(chain_id=31337, dispatch=lambda *_: None, partition_of=lambda _: 0)
        return Fetcher(each, assembler=assembler, addresses=frozenset(), topic0s=frozenset(), finality="tags")

    observer = Observer(
        telemetry.start(service="chainbooks-indexer", instance="i", chain="local"), chain="local", head_lag_max_s=1
    )
    investigation = Investigation(
        chain_id=31337,
        fetcher=fetcher(nodes[0]),
        witnesses=[fetcher(each) for each in nodes],
        streams=Streams(Broker()),
        patience=Patience(clock=Clock(), observer=observer, chain="local"),
        timeout_s=1,
        session=None,
    )
    ours = OURS[NUMBER - 1].ref
    seen = BlockRef(number=NUMBER, hash=THEIRS[NUMBER - 1].hash)
    latch = Latch(ours=ours, seen=seen, noticed_at_ms=1, reason="test")
    cursor = msgspec.structs.replace(CURSOR, finalized=ours, latch=latch)
    return await investigation.evidence(cursor, latch, unfinalized=0, block_hash=block_hash)


@pytest.mark.parametrize(
    ("nodes", "error", "said"),
    [
        ([node(THEIRS), node(OTHERS)], Unconfirmed, "the nodes do not agree on block 3"),
        ([node(THEIRS), node(THEIRS), node(OURS)], Unconfirmed, "the nodes do not agree on block 3"),
        ([node(OURS)], ResolveRefused, f"the nodes have {OURS[2].hash} at block 3"),
        ([node(THEIRS), node(THEIRS, finalized=2)], Unconfirmed, "is not final for every node: fake says up to 2"),
        ([node(THEIRS), node(THEIRS, silent=True)], Unconfirmed, "1 of 2 nodes answer, 2 must: fake: away"),
        ([node(THEIRS, silent=True)], Unconfirmed, "0 of 1 nodes answer"),
    ],
)
async def test_what_the_nodes_do_not_confirm_is_not_resolved(
    nodes: list[ChainNode], error: type[FatalError], said: str
) -> None:
    with pytest.raises(error, match=said):
        await asked(*nodes)


async def test_two_of_three_nodes_are_enough_when_none_contradicts() -> None:
    """The question after that is answered, too: these streams are empty, so no block is known that both have."""
    with pytest.raises(ResolveRefused, match="no block that was ever published as final"):
        await asked(node(THEIRS), node(THEIRS), node(THEIRS, silent=True))
