"""Exit codes of every command, the same for both services. This module never exits by itself."""

from __future__ import annotations

from typing import Final

OK: Final = 0
"""Done, nothing to report."""

DIFFERENCE: Final = 1
"""The command worked and found a difference (reconcile, audit, demo)."""

USAGE: Final = 2
"""Wrong arguments, settings or descriptions: nothing was started."""

DEPENDENCY: Final = 3
"""A node, Kafka or Postgres is away, or is not what it has to be, after all bounded retries."""

LATCHED: Final = 4
"""A finality violation is latched: only ``chainbooks-indexer resolve`` goes on."""

SUPERSEDED: Final = 5
"""Another instance owns the chain or the partition now."""
