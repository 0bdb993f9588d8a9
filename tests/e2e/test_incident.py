"""A payment that was final is gone: from the chain through both services, with the two decisions that people make."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.indexer.rig import Rig, rig_on
from tests.integration.indexer.test_resolve import resolved, violated
from tests.integration.ledger.database import Books, Database, copied, migrated_template
from tests.integration.ledger.service import Service
from tests.services import AnvilFactory

ACCOUNT = f"liabilities:till:account:0x{'01' * 32}:available"


@pytest.fixture
async def rig(anvil: AnvilFactory, kafka_bootstrap: str, kafka_prefix: str, tmp_path: Path) -> AsyncIterator[Rig]:
    node = await anvil(slots_in_an_epoch=4, no_mining=True)
    async with rig_on(node, kafka=kafka_bootstrap, prefix=kafka_prefix, folder=tmp_path) as rig:
        yield rig


@pytest.fixture
async def database(postgres_admin_url: str) -> AsyncIterator[Database]:
    with migrated_template(postgres_admin_url) as template:
        async with copied(postgres_admin_url, template) as database:
            yield database


@pytest.fixture
async def ledger(rig: Rig, database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    service = Service(
        database=database, kafka=rig.kafka, prefix=rig.prefix, folder=tmp_path, partitions=2, rpc=rig.node.http_url
    )
    try:
        yield service
    finally:
        await service.stop_all()


async def paid(rig: Rig, *, through: int | None = None) -> int:
    """What the chain's payments sum up to, as the node tells it."""
    to_block = "latest" if through is None else hex(through)
    query = {"fromBlock": "0x0", "toBlock": to_block, "address": rig.till.address}
    logs = await rig.till.call("eth_getLogs", query)
    return sum(int(log["data"][2:66], 16) for log in logs if len(log["data"]) == 130)


async def test_the_books_equal_the_chain_again_once_both_decisions_are_made(
    rig: Rig, ledger: Service, database: Database
) -> None:
    books = Books(database)

    async def credited(basis: str) -> int:
        return sum(-net for (account, _), net in (await books.balances(basis)).items() if account == ACCOUNT)

    latch = await violated(rig)  # sixteen payments of 1 before, three of 77 after
    await ledger.start()

    async def old_books() -> bool:
        return await credited("latest") == 16 and await credited("final") > 0

    await ledger.until("the books of the old branch", old_books)
    final_before = await credited("final")
    incident = (await resolved(rig, latch["seen"]["hash"]))["incident_id"]

    async def waits() -> bool:
        code, out, _ = await ledger.command("incident", "list", "--json")
        assert code == 0
        return incident in json.dumps(json.loads(out))

    await ledger.until("the incident waits", waits)
    assert await credited("final") == final_before  # nothing of it is booked
    code, _, err = await ledger.command("incident", "accept", incident, "--reason", "the chain says so")
    assert code == 0, err
    process = await rig.start()
    await rig.till.pay(amount=5)
    await rig.till.mine(10)
    head = await rig.till.head()
    await rig.until_published(head)

    async def equal() -> bool:
        return (await credited("latest"), await credited("final")) == (
            await paid(rig),
            await paid(rig, through=head - 8),
        )

    await ledger.until("the books equal the chain", equal)
    code, out, err = await ledger.command("verify")
    assert code == 0, out + err
    assert await rig.stop(process) == 0
