"""The real coordinator through the indexer's own reading and decoding: ``registry try`` says what the ledger books."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from contracts.posting import Rejection
from indexer.authoring import try_range
from tests.integration.chainlink.audit import Audit
from tests.integration.chainlink.stage import Stage
from tests.integration.chainlink.test_reconcile import lived
from tests.unit.ledger.story import SHIPPED


async def test_what_the_indexer_reads_posts_what_the_ledger_has(stage: Stage, books: Audit) -> None:
    charged = await asyncio.to_thread(lived, stage)
    await asyncio.to_thread(stage.coordinator.send, "withdraw", stage.bob, sender=stage.owner)
    paths = [SHIPPED, books.folder / "deployment.yaml"]
    result = await try_range(paths, rpc_url=stage.node.url, from_block=0, to_block=None, told=lambda _at, _last: None)
    assert result.rejected == ()
    net: dict[tuple[str, str], int] = defaultdict(int)
    for tried in result.tried:
        assert not isinstance(tried.outcome, Rejection)
        for line in tried.outcome:
            net[line.debit, line.asset] += line.amount
            net[line.credit, line.asset] -= line.amount
    expected = await asyncio.to_thread(books.balances)
    assert {key: amount for key, amount in net.items() if amount} == expected
    assert [(left.asset, left.amount, left.goes_to) for left in result.left] == [(books.link, -charged, None)]
