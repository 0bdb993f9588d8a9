"""One writer per chain: who owns it, and from when another may take over. Pure.

The owner record is renewed in every kafka_tx. A starting instance waits while a foreign lease is fresh; starting a
producer fences the incumbent, so nobody starts one before. Leases are compared by wall clock: clocks that differ by
more than the lease let a standby take over early, which fences the old owner but never doubles a record.
"""

from __future__ import annotations

from indexer.core.state import Owner


def foreign_and_fresh(owner: Owner | None, *, instance_id: str, now_ms: int) -> bool:
    """Whether somebody else may be publishing right now."""
    return owner is not None and owner.instance_id != instance_id and owner.lease_until_ms > now_ms
