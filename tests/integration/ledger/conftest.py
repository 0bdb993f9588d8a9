"""Databases and books for the ledger's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.ledger.database import Books, Database, copied, migrated_template


@pytest.fixture(scope="session")
def ledger_template(postgres_admin_url: str) -> Iterator[str]:
    with migrated_template(postgres_admin_url) as name:
        yield name


@pytest.fixture
async def database(postgres_admin_url: str, ledger_template: str) -> AsyncIterator[Database]:
    async with copied(postgres_admin_url, ledger_template) as database:
        yield database


@pytest.fixture
async def books(database: Database) -> Books:
    books = Books(database)
    await books.set_up()
    return books
