"""The record chain: one hash over all entries of a stream in their order. Pure.

``h = sha256(h before ‖ canonical(entry))``. Canonical is JSON of codes and amounts: no surrogate ids, no times of ours,
so that it does not depend on batching, and a rebuild from offset 0 gives the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final, Protocol

import msgspec

from contracts.posting import Posting

GENESIS: Final = bytes(32)
"""The hash before the first entry."""

_encode = msgspec.json.Encoder().encode


class Said(Protocol):
    """What canonical needs: a PaymentEvent has it, and an entry that was read back from the journal."""

    @property
    def event_id(self) -> str: ...
    @property
    def revision(self) -> int: ...
    @property
    def chain_id(self) -> int: ...
    @property
    def block_number(self) -> int: ...
    @property
    def block_hash(self) -> str: ...
    @property
    def block_timestamp(self) -> int: ...
    @property
    def tx_hash(self) -> str: ...
    @property
    def log_index(self) -> int: ...
    @property
    def address(self) -> str: ...
    @property
    def contract(self) -> str: ...
    @property
    def event(self) -> str: ...
    @property
    def book(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def description_version(self) -> str: ...


def canonical(event: Said, lines: Sequence[Posting]) -> bytes:
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


def extended(before: bytes, event: Said, lines: Sequence[Posting]) -> bytes:
    """The hash after one more entry."""
    return sha256(before + canonical(event, lines)).digest()
