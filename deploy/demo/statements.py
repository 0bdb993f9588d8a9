"""Named SQL statements of ``queries.sql``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

STATEMENTS: Final = {
    name: text.strip()
    for name, text in re.findall(
        r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)",
        (Path(__file__).parent / "queries.sql").read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
}
