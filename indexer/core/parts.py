"""The records of an unfinalized block as parts: pieces that fit into a record of the state topic. Pure.

A block's parts are made once, when it is first published, and never change: retracting, finalizing or applying it again
restates what they hold. They stand on the state topic; memory keeps the newest ones only, up to a budget.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

PART_BYTES_MAX: Final = 512_000
UNFINALIZED_BYTES_MAX: Final = 64_000_000

TopicKind = Literal["events", "rejected"]
Parts = tuple[bytes, ...]


class StoredRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One encoded record of a block: the message as applied, to be restated as retracted, applied or finalized."""

    topic: TopicKind
    partition: int
    value: msgspec.Raw


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[StoredRecord])


def encode_parts(records: Sequence[StoredRecord]) -> Parts:
    """Cuts records into parts of about PART_BYTES_MAX; a record is never cut."""
    parts: list[list[StoredRecord]] = []
    size = PART_BYTES_MAX
    for record in records:
        size += len(record.value) + 64
        if size > PART_BYTES_MAX:
            parts.append([])
            size = len(record.value)
        parts[-1].append(record)
    return tuple(_encoder.encode(part) for part in parts)


def decode_parts(parts: Parts) -> list[StoredRecord]:
    """The records in their order. Raises msgspec.DecodeError."""
    return [record for part in parts for record in _decoder.decode(part)]


def part_hash(part: bytes) -> bytes:
    return hashlib.sha256(part).digest()


def digest_of(hashes: Iterable[bytes]) -> str:
    """The digest of a block's parts from their hashes, in order: it is checked without holding the parts."""
    return hashlib.sha256(b"".join(hashes)).hexdigest()


class PartShelf:
    """Parts in memory by key, in the order they came; beyond ``bytes_max`` the oldest are released."""

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._parts: dict[str, Parts] = {}
        self.size_bytes = 0

    def put(self, key: str, parts: Parts) -> None:
        """Keeps parts as the newest ones."""
        self.drop(key)
        self._parts[key] = parts
        self.size_bytes += _size(parts)
        while self.size_bytes > self._bytes_max:
            self.drop(next(iter(self._parts)))

    def get(self, key: str) -> Parts | None:
        return self._parts.get(key)

    def drop(self, key: str) -> None:
        self.size_bytes -= _size(self._parts.pop(key, ()))


def _size(parts: Parts) -> int:
    return sum(map(len, parts))
