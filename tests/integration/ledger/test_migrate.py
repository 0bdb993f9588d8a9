"""Migrations: again is fine, and a crash at any moment leaves a database that the next run finishes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from yoyo.backends.base import DatabaseBackend

from ledger.adapters.migrations import available, migrate
from ledger.errors import ConfigurationRefused, DatabaseUnavailable
from tests.integration.ledger.database import Database, with_database


@pytest.fixture
def empty(postgres_admin_url: str) -> Iterator[Database]:
    name = f"migrate_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_admin_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield Database(name=name, admin=with_database(postgres_admin_url, name))
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def run(database: Database) -> list[str]:
    return migrate(database.admin, writer_dsn=database.writer, reader_dsn=database.reader)


def test_a_second_run_has_nothing_to_do(empty: Database) -> None:
    assert run(empty) == available()
    assert run(empty) == []


@pytest.mark.parametrize("crash_at", range(1, len(available()) + 1))
def test_a_crash_between_doing_and_noting_a_migration_is_taken_back(
    empty: Database, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    calls = 0
    mark = DatabaseBackend.mark_one

    def crashing(self: DatabaseBackend, migration: object, log: bool = True) -> None:
        nonlocal calls
        calls += 1
        if calls == crash_at:
            raise psycopg.errors.AdminShutdown("terminating connection")
        mark(self, migration, log)

    with monkeypatch.context() as patched:
        patched.setattr(DatabaseBackend, "mark_one", crashing)
        with pytest.raises((DatabaseUnavailable, ConfigurationRefused)):
            run(empty)
    assert run(empty) == available()[crash_at - 1 :]
