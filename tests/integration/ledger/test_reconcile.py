"""The books against a real chain: equal when they are, and a difference is found, named and resolved."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import asyncpg
import pytest

from contracts.posting import PostingRules
from ledger.adapters.registry import store_descriptions
from tests.integration.ledger.database import Books, Database
from tests.integration.ledger.onchain import Narrator, World, build
from tests.integration.ledger.service import Service
from tests.integration.solidity.chain import NATIVE, Node
from tests.services import AnvilFactory
from tests.unit.ledger.folding import StaticRegistry
from tests.unit.ledger.story import CHAIN_ID


@asynccontextmanager
async def world_on(anvil: AnvilFactory, folder: Path) -> AsyncIterator[tuple[World, str]]:
    running = await anvil()
    with closing(await asyncio.to_thread(Node, running.http_url)) as node:
        yield await asyncio.to_thread(build, node, folder), running.http_url


async def booked(world: World | Narrator, database: Database) -> Books:
    """Folds everything that has happened, from the beginning, into an empty or already folded database."""
    books = Books(database)
    await books.set_up()
    books.registry = StaticRegistry(
        {c.version: PostingRules.from_document(c.document) for c in world.registry.contracts}
    )  # type: ignore[assignment]
    connection = await asyncpg.connect(database.writer)
    try:
        await store_descriptions(connection, CHAIN_ID, world.registry.records())
    finally:
        await connection.close()
    await books.fold([world.story().records])
    await books.promote()
    return books


def service_for(database: Database, url: str, folder: Path) -> Service:
    return Service(database=database, kafka="127.0.0.1:1", prefix="x.", folder=folder, rpc=url)


async def test_books_that_match_the_chain_reconcile(anvil: AnvilFactory, database: Database, tmp_path: Path) -> None:
    async with world_on(anvil, tmp_path) as (world, url):
        world.vault.send("deposit", world.token.address, 500_000, sender=world.owner)
        world.vault.send("deposit", NATIVE, 7, sender=world.owner, value=7)
        world.vault.send("withdraw", world.token.address, world.owner, 200_000, sender=world.owner)
        await booked(world, database)
        code, out, err = await service_for(database, url, tmp_path).command("reconcile", "--json")
    assert code == 0, out + err
    document = json.loads(out)
    assert document["differing"] == 0
    custody = {(i["asset"].split(":")[-1], i["ledger"]) for i in document["items"] if i["kind"] == "custody"}
    assert custody == {(world.token.address, "300000"), ("60", "7")}
    assert {i["kind"] for i in document["items"]} == {"custody", "claim"}


async def test_a_silent_withdrawal_is_found_with_its_block_and_once(
    anvil: AnvilFactory, database: Database, tmp_path: Path
) -> None:
    async with world_on(anvil, tmp_path) as (world, url):
        service = service_for(database, url, tmp_path)
        world.vault.send("deposit", world.token.address, 500_000, sender=world.owner)
        world.vault.send("withdrawQuietly", world.token.address, world.owner, 40_000, sender=world.owner)
        silent = int(world.node.rpc("eth_blockNumber"), 16)
        world.vault.send("deposit", world.token.address, 1, sender=world.owner)
        books = await booked(world, database)
        code, out, err = await service.command("reconcile", "--json")
        assert code == 1, out + err
        differences = json.loads(out)["differences"]
        assert [(d["kind"], d["difference"], d["began_in_block"]) for d in differences] == [
            ("claim", "40000", silent),
            ("claim", "40000", silent),
        ]
        open_breaks = await books.rows(
            "SELECT kind, difference_base_units::INT, began_in_block FROM finance.breaks WHERE open"
        )
        assert sorted(open_breaks) == [
            ("claim", 40_000, silent),
            ("claim", 40_000, silent),
            ("clearing", 40_000, silent),
        ]
        code, out, _ = await service.command("reconcile")
        assert code == 1
        assert "5 comparisons, 3 equal, 2 differing" in out
        assert len(await books.rows("SELECT FROM finance.breaks WHERE open")) == 3  # found again, not again and again


async def test_native_money_that_moves_silently_is_a_custody_difference(
    anvil: AnvilFactory, database: Database, tmp_path: Path
) -> None:
    async with world_on(anvil, tmp_path) as (world, url):
        world.vault.send("deposit", NATIVE, 1_000, sender=world.owner, value=1_000)
        world.vault.send("withdrawQuietly", NATIVE, world.owner, 10, sender=world.owner)
        await booked(world, database)
        code, out, err = await service_for(database, url, tmp_path).command("reconcile", "--json")
    assert code == 1, err
    found = {(d["kind"], d["difference"], d["began_in_block"]) for d in json.loads(out)["differences"]}
    assert found == {("custody", "10", None), ("claim", "10", None)}


@pytest.mark.parametrize(("settings", "code", "text"), [({"CHAIN__ID": "5"}, 2, "31337"), ({}, 2, "nothing is final")])
async def test_another_chain_and_empty_books_are_refused(
    anvil: AnvilFactory, books: Books, tmp_path: Path, settings: dict[str, str], code: int, text: str
) -> None:
    running = await anvil()
    service = service_for(books.database, running.http_url, tmp_path)
    found, out, err = await service.command("reconcile", **settings)
    assert found == code, out + err
    assert text in err
    assert "Traceback" not in err


async def test_a_node_that_is_away_is_one_sentence(books: Books, tmp_path: Path) -> None:
    code, _, err = await service_for(books.database, "http://127.0.0.1:9", tmp_path).command("reconcile")
    assert code == 3
    assert "a dependency is away" in err
    assert "Traceback" not in err
