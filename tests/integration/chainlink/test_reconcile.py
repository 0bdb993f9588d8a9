"""The description's own reconcile list, by the ledger's command, on PostgreSQL and the real coordinator."""

from __future__ import annotations

import asyncio
import json

from tests.integration.chainlink.audit import Audit
from tests.integration.chainlink.stage import Stage
from tests.integration.ledger.database import Database
from tests.integration.ledger.test_reconcile import booked, service_for

LINK = 10**18


def lived(stage: Stage) -> int:
    """A subscription that is open, with charges in both assets, and one that is closed; returns what was charged."""
    open_one, closed = stage.subscribe(stage.ann), stage.subscribe(stage.bob)
    for subscription in (open_one, closed):
        stage.fund(subscription, 9 * LINK, sender=stage.ann)
        stage.fund_native(subscription, 10**17, sender=stage.ann)
    consumer = stage.consumer("VRFV2PlusConsumerExample", open_one, sender=stage.ann)
    in_link = stage.fulfil(stage.request(consumer, open_one, native=False))
    stage.fulfil(stage.request(consumer, open_one, native=True))
    stage.coordinator.send("cancelSubscription", closed, stage.bob, sender=stage.bob)
    return int(in_link.args["payment"])


async def test_the_books_reconcile_with_the_contract(stage: Stage, books: Audit, database: Database) -> None:
    await asyncio.to_thread(lived, stage)
    ledger = await booked(books.narrator, database)
    code, out, err = await service_for(database, stage.node.url, books.folder).command("reconcile", "--json")
    assert code == 0, out + err
    compared = [(item["kind"], item["subject"].split(":")[0]) for item in json.loads(out)["items"]]
    # custody in two assets; two subscriptions in two assets, the closed one as zero; two totals
    assert (compared.count(("custody", "assets")), compared.count(("claim", "liabilities"))) == (2, 4)
    assert len(compared) == 8
    assert await ledger.rows("SELECT FROM finance.breaks WHERE open") == []


async def test_a_silent_withdrawal_is_a_break_and_a_difference(stage: Stage, books: Audit, database: Database) -> None:
    charged = await asyncio.to_thread(lived, stage)
    await asyncio.to_thread(stage.coordinator.send, "withdraw", stage.bob, sender=stage.owner)
    silent = int(stage.node.rpc("eth_blockNumber"), 16)
    ledger = await booked(books.narrator, database)
    code, out, err = await service_for(database, stage.node.url, books.folder).command("reconcile", "--json")
    assert code == 1, out + err
    found = [(d["kind"], d["difference"], d["began_in_block"]) for d in json.loads(out)["differences"]]
    assert found == [("claim", str(charged), silent)]
    open_breaks = await ledger.rows("SELECT kind, difference_base_units FROM finance.breaks WHERE open")
    assert sorted(row[0] for row in open_breaks) == ["claim", "clearing"]
    assert {row[1] for row in open_breaks} == {charged}
