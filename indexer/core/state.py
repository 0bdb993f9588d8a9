"""What the state topic holds: cursor, owner, every unfinalized block with its encoded events. Pure encoding, loading.

The state topic is the indexer's only store (compacted, one partition). Keys:

* ``cursor``: what is published, and the numbers of every stream;
* ``owner``: who may publish, and until when;
* ``block/<number>/<hash>``: header, canonical or orphaned, revision, and how many parts hold its records;
* ``part/<number>/<hash>/<i>``: the encoded records of that block, bounded in size.

Orphaned blocks stay until their height is final, so that a branch which comes back gets the next revision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec

from contracts.messages import BlockRef
from indexer.core.blocks import Header

STATE_VERSION: Final = 1
OWNER_KEY: Final = "owner"
PART_BYTES_MAX: Final = 512_000

TopicKind = Literal["events", "rejected"]
StreamKind = Literal["events", "final", "rejected"]
STREAM_KINDS: Final[tuple[StreamKind, ...]] = ("events", "final", "rejected")


class Latch(msgspec.Struct, frozen=True, kw_only=True):
    """A change below finality was seen: nothing is published until an operator resolves it."""

    ours: BlockRef
    seen: BlockRef
    noticed_at_ms: int
    reason: str


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """What is committed to Kafka for this chain. Written in every kafka_tx."""

    chain_id: int
    genesis_hash: str
    stream_id: str  # made once, when the streams begin
    partitions: int  # P of events, final and rejected; pinned
    head: BlockRef
    head_timestamp: int
    safe: BlockRef
    finalized: BlockRef
    finalized_header: FinalizedHeader
    stream_seq: dict[StreamKind, list[int]]  # last number used, per partition
    descriptions: dict[str, str]  # contract → version in force
    latch: Latch | None = None
    version: int = STATE_VERSION


class FinalizedHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The finalized block as the window's first header (its bloom is not needed any more)."""

    number: int
    hash: str
    parent_hash: str
    timestamp: int


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Who publishes for this chain. Times are Unix milliseconds of the owner's clock."""

    instance_id: str
    lease_until_ms: int
    started_at_ms: int


class StoredRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One encoded record of a block: the message as applied, to be restated as retracted, applied or finalized."""

    topic: TopicKind
    partition: int
    value: msgspec.Raw


class StoredBlock(msgspec.Struct, frozen=True, kw_only=True):
    """The ``block/`` record."""

    number: int
    hash: str
    parent_hash: str
    timestamp: int
    logs_bloom: str
    canonical: bool
    revision: int  # of every record of the block: odd when applied, even when retracted
    parts: int
    records: int
    digest: str  # sha256 over the parts' values


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockState:
    """A block above finality, with its records, as memory holds it."""

    header: Header
    canonical: bool
    revision: int
    records: tuple[StoredRecord, ...]

    def applied_again(self) -> BlockState:
        """This orphan as it is when its branch comes back: canonical, with the next odd revision."""
        if self.canonical:
            raise ValueError(f"block {self.header.number} {self.header.hash} is canonical already")
        return replace(self, canonical=True, revision=self.revision + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedState:
    """Everything that the state topic says. ``cursor`` is None when the chain has never been started."""

    cursor: Cursor | None
    owner: Owner | None
    blocks: dict[str, BlockState]  # by hash, canonical and orphaned


class StateUnreadable(ValueError):
    """The state topic contradicts itself; the text says where."""


StateWrite = tuple[str, bytes | None]
"""Key and value on the state topic; None is a tombstone."""

_encoder = msgspec.json.Encoder()
_cursor_decoder = msgspec.json.Decoder(Cursor)
_owner_decoder = msgspec.json.Decoder(Owner)
_block_decoder = msgspec.json.Decoder(StoredBlock)
_part_decoder = msgspec.json.Decoder(list[StoredRecord])


def cursor_write(cursor: Cursor) -> StateWrite:
    return "cursor", _encoder.encode(cursor)


def owner_write(owner: Owner) -> StateWrite:
    return OWNER_KEY, _encoder.encode(owner)


def block_writes(block: BlockState, *, with_parts: bool) -> list[StateWrite]:
    """The records of one block; ``with_parts=False`` rewrites only its status (a block's parts never change)."""
    parts = _parts(block.records)
    header = block.header
    stored = StoredBlock(
        number=header.number,
        hash=header.hash,
        parent_hash=header.parent_hash,
        timestamp=header.timestamp,
        logs_bloom=header.logs_bloom.hex(),
        canonical=block.canonical,
        revision=block.revision,
        parts=len(parts),
        records=len(block.records),
        digest=_digest(parts),
    )
    writes: list[StateWrite] = [(_block_key(header), _encoder.encode(stored))]
    if with_parts:
        writes += [(_part_key(header, i), part) for i, part in enumerate(parts)]
    return writes


def block_tombstones(block: BlockState) -> list[StateWrite]:
    """Removes a block that became final, or an orphan whose height did."""
    count = len(_parts(block.records))
    return [(_block_key(block.header), None), *((_part_key(block.header, i), None) for i in range(count))]


def load(records: Iterable[tuple[str, bytes | None]]) -> LoadedState:
    """Folds the state topic from its start. Raises StateUnreadable for incomplete blocks and unlinked headers."""
    latest: dict[str, bytes] = {}
    for key, value in records:
        if value is None:
            latest.pop(key, None)
        else:
            latest[key] = value
    try:
        cursor = _cursor_decoder.decode(latest["cursor"]) if "cursor" in latest else None
        owner = _owner_decoder.decode(latest[OWNER_KEY]) if OWNER_KEY in latest else None
        blocks = {
            block.hash: _block_state(block, latest)
            for block in (_block_decoder.decode(value) for key, value in latest.items() if key.startswith("block/"))
        }
    except msgspec.DecodeError as exc:  # ValidationError is one
        raise StateUnreadable(f"a record of the state topic does not decode: {exc}") from exc
    if cursor is None and blocks:
        raise StateUnreadable(f"{len(blocks)} blocks but no cursor")
    if cursor is not None:
        if cursor.version != STATE_VERSION:
            raise StateUnreadable(f"state version {cursor.version}, this program writes {STATE_VERSION}")
        canonical_window(cursor, blocks)
    return LoadedState(cursor=cursor, owner=owner, blocks=blocks)


def canonical_window(cursor: Cursor, blocks: Mapping[str, BlockState]) -> tuple[Header, ...]:
    """The window from the cursor's finalized block to its head. Raises StateUnreadable when it does not link."""
    final = cursor.finalized_header
    first = Header(
        number=final.number,
        hash=final.hash,
        parent_hash=final.parent_hash,
        timestamp=final.timestamp,
        logs_bloom=bytes(256),
    )
    window = [first]
    canonical = sorted((b.header for b in blocks.values() if b.canonical), key=lambda h: h.number)
    for header in canonical:
        if header.number != window[-1].number + 1 or header.parent_hash != window[-1].hash:
            raise StateUnreadable(
                f"block {header.number} {header.hash} does not link to {window[-1].number} {window[-1].hash}"
            )
        window.append(header)
    if window[-1].ref != cursor.head:
        raise StateUnreadable(f"blocks end at {window[-1].number}, but the cursor's head is {cursor.head.number}")
    return tuple(window)


def finalized_header(header: Header) -> FinalizedHeader:
    return FinalizedHeader(
        number=header.number, hash=header.hash, parent_hash=header.parent_hash, timestamp=header.timestamp
    )


def _block_state(stored: StoredBlock, latest: Mapping[str, bytes]) -> BlockState:
    header = Header(
        number=stored.number,
        hash=stored.hash,
        parent_hash=stored.parent_hash,
        timestamp=stored.timestamp,
        logs_bloom=bytes.fromhex(stored.logs_bloom),
    )
    keys = [_part_key(header, i) for i in range(stored.parts)]
    missing = [key for key in keys if key not in latest]
    if missing:
        raise StateUnreadable(f"block {stored.number} {stored.hash} lacks {len(missing)} of {stored.parts} parts")
    parts = [latest[key] for key in keys]
    if _digest(parts) != stored.digest:
        raise StateUnreadable(f"block {stored.number} {stored.hash} has parts of another digest")
    records = tuple(record for part in parts for record in _part_decoder.decode(part))
    if len(records) != stored.records:
        raise StateUnreadable(f"block {stored.number} {stored.hash} has {len(records)} of {stored.records} records")
    return BlockState(header=header, canonical=stored.canonical, revision=stored.revision, records=records)


def _parts(records: tuple[StoredRecord, ...]) -> list[bytes]:
    parts: list[list[StoredRecord]] = []
    size = PART_BYTES_MAX
    for record in records:
        size += len(record.value) + 64
        if size > PART_BYTES_MAX:
            parts.append([])
            size = len(record.value)
        parts[-1].append(record)
    return [_encoder.encode(part) for part in parts]


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def _block_key(header: Header) -> str:
    return f"block/{header.number}/{header.hash}"


def _part_key(header: Header, index: int) -> str:
    return f"part/{header.number}/{header.hash}/{index}"
