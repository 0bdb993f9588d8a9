"""The demo's checker against a real chain and a real database: green on right books, red on tampered ones.

The books are made from the receipts here, as tables named like the finance views, so that one row of them can be
tampered with; the ledger's own tables would refuse that.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from rich.console import Console

from deploy.demo.actors import CHAIN_ID, GATEWAY, GENESIS_TIMESTAMP, PEOPLE, TOKENS, VAULT
from deploy.demo.business import make_plan
from deploy.demo.chain import Chain
from deploy.demo.check import Node
from deploy.demo.check_events import Deployment, event_id
from deploy.demo.check_postings import balances_of, is_ours
from deploy.demo.performance import Performance
from deploy.demo.processes import module_result
from deploy.demo.view import PlainView, Progress
from tests.services import AnvilFactory

SCHEMA = """
CREATE SCHEMA finance;
CREATE TABLE finance.balances (
    basis TEXT, account TEXT, asset_code TEXT, net_base_units NUMERIC, as_of_block BIGINT
);
CREATE TABLE finance.journal (event_id TEXT, revision INTEGER);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A chain with the demo's business, and books that agree with it."""

    rpc: str
    dsn: str
    deployment: Path
    books: asyncpg.Connection

    async def run(self) -> tuple[int, list[str]]:
        """The checker's exit code and differences."""
        arguments = ("--rpc", self.rpc, "--dsn", self.dsn, "--deployment", str(self.deployment))
        code, out, err = await module_result("deploy.demo.check", *arguments)
        assert out, err
        return code, json.loads(out)["differences"]


@pytest.fixture
async def checked(anvil: AnvilFactory, postgres_admin_url: str, tmp_path: Path) -> AsyncIterator[Checked]:
    node = await anvil(
        slots_in_an_epoch=4,
        no_mining=True,
        order="fifo",
        accounts=len(PEOPLE),
        timestamp=GENESIS_TIMESTAMP,
        gas_limit=200_000_000,
    )
    addresses = await _do_business(node.http_url)
    deployment = tmp_path / "deployment.json"
    tokens = [{"address": addresses[asset.symbol]} for asset in TOKENS]
    deployment.write_text(
        json.dumps({"chain_id": CHAIN_ID, "gateway": addresses[GATEWAY], "vault": addresses[VAULT], "tokens": tokens})
    )
    name = f"check_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(postgres_admin_url)
    await admin.execute(f"CREATE DATABASE {name}")
    dsn = urlunsplit(urlsplit(postgres_admin_url)._replace(path=f"/{name}"))
    books = await asyncpg.connect(dsn)
    try:
        await _write_books(books, node.http_url, Deployment.read(deployment))
        yield Checked(rpc=node.http_url, dsn=dsn, deployment=deployment, books=books)
    finally:
        await books.close()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def _do_business(url: str) -> dict[str, str]:
    progress = Progress(seed=3)
    async with Chain(url) as chain:
        performance = Performance(make_plan(3), chain, progress, block_period_s=0)
        await performance.set_up()
        await performance.do_business(PlainView(progress, Console(quiet=True)), _nobody_books)
        await performance.settle()
        return chain.addresses


async def _nobody_books(block: int) -> None:
    """Nobody follows this chain."""


async def _write_books(books: asyncpg.Connection, url: str, deployment: Deployment) -> None:
    node = Node(url)
    head = int(node.call("eth_blockNumber"), 16)
    events = [event for event in node.events(deployment, to_block=head) if is_ours(event, deployment)]
    await books.execute(SCHEMA)
    rows = [
        (basis, account, asset, net, head)
        for basis in ("latest", "final")
        for (account, asset), net in balances_of(events, deployment).items()
    ]
    await books.executemany("INSERT INTO finance.balances VALUES ($1, $2, $3, $4, $5)", rows)
    ids = [(event_id(event, deployment.chain_id), 1) for event in events]
    await books.executemany("INSERT INTO finance.journal VALUES ($1, $2)", ids)


async def test_it_is_green_on_right_books_and_red_on_each_kind_of_wrong_ones(checked: Checked) -> None:
    assert await checked.run() == (0, [])

    tampered = await checked.books.fetchrow(
        "UPDATE finance.balances SET net_base_units = net_base_units + 1"
        " WHERE basis = 'final' AND account = (SELECT min(account) FROM finance.balances WHERE account LIKE 'liab%')"
        " RETURNING account, asset_code"
    )
    assert tampered is not None
    code, differences = await checked.run()
    assert code == 1
    assert all(line.startswith(f"final: {tampered['account']}") for line in differences)
    await checked.books.execute(
        "UPDATE finance.balances SET net_base_units = net_base_units - 1 WHERE basis = 'final' AND account = $1",
        tampered["account"],
    )
    assert await checked.run() == (0, [])

    gone = await checked.books.fetchval(
        "DELETE FROM finance.journal WHERE event_id = (SELECT min(event_id) FROM finance.journal) RETURNING event_id"
    )
    code, differences = await checked.run()
    assert (code, differences) == (1, [f"event {gone} is in the receipts, not in SQL"])


async def test_it_says_that_a_database_is_away(checked: Checked) -> None:
    arguments = ("--rpc", checked.rpc, "--dsn", "postgresql://nobody@127.0.0.1:1/none")
    code, _, err = await module_result("deploy.demo.check", *arguments, "--deployment", str(checked.deployment))
    assert code == 3
    assert "database" in err
