"""The ledger's SQL for another schema: nothing of the live books is named any more, and nothing else changes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ledger.adapters.rendering import LIVE, checked_schema, rendered, views_of
from ledger.errors import ConfigurationRefused

SQL = sorted((Path(__file__).parents[4] / "ledger" / "sql").glob("*/*.sql"))
NAMES_THE_LIVE_BOOKS = re.compile(
    r"\b(ledger|finance)\.[a-z_%']|schema(\s*=)?\s*'?(ledger|finance)\b|'chainbooks\.(?!zzz\.)", flags=re.IGNORECASE
)


@pytest.mark.parametrize("file", SQL, ids=lambda path: path.name)
def test_no_statement_names_the_live_books_when_it_is_rendered(file: Path) -> None:
    text = rendered(file.read_text(encoding="utf-8"), "zzz")
    assert not [line for line in text.splitlines() if NAMES_THE_LIVE_BOOKS.search(line)]


@pytest.mark.parametrize("file", SQL, ids=lambda path: path.name)
def test_rendering_changes_names_of_schemas_only(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    back = rendered(text, "zzz").replace("zzz_finance", "finance").replace("chainbooks.zzz.", "chainbooks.")
    assert back.replace("zzz", "ledger") == text
    assert rendered(text, LIVE) == text


def test_a_column_that_is_called_ledger_stays_one() -> None:
    sql = "SELECT i.ledger, (ledger - onchain) AS difference FROM ledger.reconciliation_item AS i"
    assert rendered(sql, "x") == "SELECT i.ledger, (ledger - onchain) AS difference FROM x.reconciliation_item AS i"


@pytest.mark.parametrize("name", ["ledger", "finance", "public", "pg_temp", "information_schema"])
def test_schemas_of_others_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationRefused, match="is taken"):
        checked_schema(name)


@pytest.mark.parametrize("name", ["", "Ledger", "a-b", "a;drop schema ledger", 'a"b', "1a", "_a", "ä", "a" * 41, "a\n"])
def test_what_is_no_plain_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationRefused, match="--into"):
        checked_schema(name)


def test_views_stand_beside_their_tables() -> None:
    assert views_of(checked_schema("rebuilt")) == "rebuilt_finance"
    assert views_of(LIVE) == "finance"
