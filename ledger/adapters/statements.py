"""Named SQL statements: ``-- name: xyz`` blocks of the files in ``ledger/sql/statements``, loaded once per file.

A name is followed by its purpose in a comment and by one statement with ``$1`` parameters. This module never builds
SQL from values.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

_NAME: Final = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)


@cache
def statements(file: str) -> MappingProxyType[str, str]:
    """Name → SQL of ``ledger/sql/statements/<file>.sql``. ValueError when a name comes twice or has no statement."""
    text = (files("ledger") / "sql" / "statements" / f"{file}.sql").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    _, *parts = _NAME.split(text)
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        sql = body.strip().removesuffix(";")
        if name in found or not sql:
            raise ValueError(f"{file}.sql: {name!r} comes twice or is empty")
        found[name] = sql
    return MappingProxyType(found)
