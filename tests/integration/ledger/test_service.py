"""The service as a process, on real Kafka and Postgres."""

from __future__ import annotations

import json

from tests.integration.ledger.database import Books
from tests.integration.ledger.kafka import Publisher
from tests.integration.ledger.service import Service
from tests.unit.ledger.story import Story, deposit, internal


async def test_what_is_published_is_folded_promoted_and_shown(service: Service, publisher: Publisher) -> None:
    books = Books(service.database)
    process = await service.start()
    story = Story()
    story.block(deposit(1, 1_500_000, seq=1))
    story.block([internal(1, 2, 500_000, seq=2)])
    story.mark(finalized=1)
    await publisher.publish(story)

    async def promoted() -> bool:
        return await books.rows("SELECT final_number FROM ledger.chain_head") == [(1,)]

    await service.until("block 1 promoted", promoted)
    assert await service.until("ready", lambda: _ready(service))
    code, out, _ = await service.command("balances", "--json", "--account", "liabilities:%")
    assert code == 0
    (row,) = json.loads(out)["balances"]
    assert (row["asset"], float(row["balance"]), row["as_of_block"]) == ("USDX", 1.5, 1)
    code, out, _ = await service.command("balances", "--latest", "--json")
    assert {float(row["balance"]) for row in json.loads(out)["balances"]} == {1.5, 1.0, 0.5}
    code, out, _ = await service.command("status")
    assert code == 0, out
    assert "final balances through block 1" in out
    assert await service.stop(process) == 0


async def _ready(service: Service) -> bool:
    status, _ = await service.ready()
    return status == 200
