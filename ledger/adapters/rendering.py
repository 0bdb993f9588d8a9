"""The ledger's SQL, said of another schema: ``ledger`` becomes SCHEMA, ``finance`` becomes SCHEMA_finance. Pure.

The SQL is written for schema ``ledger``. A rebuild runs the same files beside it: every text that goes through a
connection of another schema is rendered here, so that no statement of a rebuild can name the live books. Advisory locks
get names of their own, too. Names are checked before they become part of a text.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from ledger.errors import ConfigurationRefused

LIVE: Final = "ledger"
LIVE_VIEWS: Final = "finance"

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_RESERVED: Final = frozenset({LIVE, LIVE_VIEWS, "public", "information_schema"})
_QUALIFIED: Final = re.compile(r"\b(ledger|finance)(?=\.[a-z_%])")  # ledger.entry, 'ledger.%I'
_AFTER_SCHEMA: Final = re.compile(r"\b(SCHEMA(?: =)? '?)(ledger|finance)\b")  # IN SCHEMA ledger, SCHEMA = 'ledger'
_PREFIX: Final = re.compile(r"'ledger\.'")  # 'ledger.' || name
_LOCK: Final = re.compile(r"'chainbooks\.(?=[a-z])")


def checked_schema(name: str) -> str:
    """The name, if a rebuild may have it. Raises ConfigurationRefused."""
    if not _NAME.fullmatch(name):
        raise ConfigurationRefused(
            f"--into {name!r}: a schema's name is lower-case letters, digits and _, begins with a letter, and has at "
            "most 40 characters"
        )
    if name in _RESERVED or name.startswith("pg_"):
        raise ConfigurationRefused(f"--into {name}: that schema is taken; choose a new name, for example rebuilt")
    return name


def views_of(schema: str) -> str:
    """The schema of the views on a schema's tables."""
    return LIVE_VIEWS if schema == LIVE else f"{schema}_{LIVE_VIEWS}"


@lru_cache(maxsize=1_024)
def rendered(sql: str, schema: str) -> str:
    """The text for another schema. The name must have been checked."""
    if schema == LIVE:
        return sql
    names = {LIVE: schema, LIVE_VIEWS: views_of(schema)}
    sql = _QUALIFIED.sub(lambda match: names[match[1]], sql)
    sql = _AFTER_SCHEMA.sub(lambda match: match[1] + names[match[2]], sql)
    sql = _PREFIX.sub(f"'{schema}.'", sql)
    return _LOCK.sub(f"'chainbooks.{schema}.", sql)
