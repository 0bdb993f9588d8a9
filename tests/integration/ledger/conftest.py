"""Databases and books for the ledger's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contracts.messages import Topics
from tests.integration.ledger.database import Books, Database, copied, migrated_template
from tests.integration.ledger.kafka import Publisher, drop_topics, make_topics, publishing
from tests.integration.ledger.service import Service
from tests.unit.ledger.story import CHAIN


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


@pytest.fixture
async def service(
    database: Database, kafka_bootstrap: str, kafka_prefix: str, tmp_path: Path
) -> AsyncIterator[Service]:
    """Topics with one partition and a process that folds them, when it is started."""
    topics = Topics(chain=CHAIN, prefix=kafka_prefix)
    await make_topics(kafka_bootstrap, topics, partitions=1)
    service = Service(database=database, kafka=kafka_bootstrap, prefix=kafka_prefix, folder=tmp_path)
    try:
        yield service
    finally:
        await service.stop_all()
        await drop_topics(kafka_bootstrap, topics)


@pytest.fixture
async def publisher(kafka_bootstrap: str, service: Service) -> AsyncIterator[Publisher]:
    async with publishing(kafka_bootstrap, Topics(chain=CHAIN, prefix=service.prefix)) as publisher:
        await publisher.descriptions()
        yield publisher
