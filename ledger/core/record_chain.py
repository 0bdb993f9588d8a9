"""The record chain: one hash over all entries of a stream in their order. Pure.

``h = sha256(h before ‖ canonical(entry))``. Canonical is JSON of codes and amounts: no surrogate ids, no times of ours,
so that it does not depend on batching, and a rebuild from offset 0 gives the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec

from contracts.messages import PaymentEvent
from contracts.posting import Posting

GENESIS: Final = bytes(32)
"""The hash before the first entry."""

_encode = msgspec.json.Encoder().encode


def canonical(event: PaymentEvent, lines: Sequence[Posting]) -> bytes:
    """What an entry says: which revision of which event, where on the chain, which transfers.

    ``event_id`` stands for the log's content: it is a hash over the block's hash and the log's place in it.
    """
    return _encode(
        [
            event.event_id,
            event.revision,
            event.chain_id,
            event.block_number,
            event.block_hash,
            event.block_timestamp,
            event.tx_hash,
            event.log_index,
            event.address,
            event.contract,
            event.event,
            event.book,
            event.subject,
            event.description_version,
            [[line.debit, line.credit, line.asset, str(line.amount)] for line in lines],
        ]
    )


def extended(before: bytes, event: PaymentEvent, lines: Sequence[Posting]) -> bytes:
    """The hash after one more entry."""
    return sha256(before + canonical(event, lines)).digest()
