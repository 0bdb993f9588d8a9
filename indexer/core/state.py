"""What the state topic holds: cursor, owner, every unfinalized block with its encoded events. Pure encoding, loading.

The state topic is the indexer's only store (compacted, one partition). Keys:

* ``cursor``: what is published, and the numbers of every stream;
* ``owner``: who may publish, and until when;
* ``block/<number>/<hash>``: header, canonical or orphaned, revision, and how many parts hold its records;
* ``part/<number>/<hash>/<i>``: the encoded records of that block, bounded in size (core.parts).

Orphaned blocks stay until their height is final, so that a branch which comes back gets the next revision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec

from contracts.messages import BlockRef
from indexer.core.blocks import Header
from indexer.core.parts import (
    UNFINALIZED_BYTES_MAX,
    Parts,
    PartShelf,
    StoredRecord,
    digest_of,
    encode_parts,
    part_hash,
)

STATE_VERSION: Final = 1
OWNER_KEY: Final = "owner"
CURSOR_KEY: Final = "cursor"
BLOCK_PREFIX: Final = "block/"
PART_PREFIX: Final = "part/"

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
    events: int  # records that are events; the others are rejected logs
    size_bytes: int  # of all parts
    digest: str  # over the hashes of the parts


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockState:
    """What memory always holds of a block above finality. Its records are in its parts (core.parts)."""

    header: Header
    canonical: bool
    revision: int
    parts: int
    records: int
    events: int
    size_bytes: int
    digest: str
    offsets: tuple[int, ...] = ()  # where each part stands on the state topic; none before it is committed

    @property
    def part_keys(self) -> tuple[str, ...]:
        return tuple(f"{PART_PREFIX}{self.header.number}/{self.header.hash}/{i}" for i in range(self.parts))

    def applied_again(self) -> BlockState:
        """This orphan as it is when its branch comes back: canonical, with the next odd revision."""
        if self.canonical:
            raise ValueError(f"block {self.header.number} {self.header.hash} is canonical already")
        return replace(self, canonical=True, revision=self.revision + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBlock:
    """A block that was never published, with its parts."""

    state: BlockState
    parts: Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedState:
    """Everything that the state topic says. ``cursor`` is None when the chain has never been started."""

    cursor: Cursor | None
    owner: Owner | None
    blocks: dict[str, BlockState]  # by hash, canonical and orphaned
    parts: dict[str, Parts]  # by block hash, oldest first: those that the budget of the load had room for


class StateUnreadable(ValueError):
    """The state topic contradicts itself; the text says where."""


StateWrite = tuple[str, bytes | None]
"""Key and value on the state topic; None is a tombstone."""

_encoder = msgspec.json.Encoder()
_cursor_decoder = msgspec.json.Decoder(Cursor)
_owner_decoder = msgspec.json.Decoder(Owner)
_block_decoder = msgspec.json.Decoder(StoredBlock)


def new_block(header: Header, records: Sequence[StoredRecord]) -> NewBlock:
    """A block as it is published for the first time."""
    parts = encode_parts(records)
    state = BlockState(
        header=header,
        canonical=True,
        revision=1,
        parts=len(parts),
        records=len(records),
        events=sum(record.topic == "events" for record in records),
        size_bytes=sum(map(len, parts)),
        digest=digest_of(map(part_hash, parts)),
    )
    return NewBlock(state=state, parts=parts)


def cursor_write(cursor: Cursor) -> StateWrite:
    return CURSOR_KEY, _encoder.encode(cursor)


def owner_write(owner: Owner) -> StateWrite:
    return OWNER_KEY, _encoder.encode(owner)


def decode_owner(value: bytes) -> Owner:
    """Raises StateUnreadable."""
    try:
        return _owner_decoder.decode(value)
    except msgspec.DecodeError as exc:  # ValidationError is one
        raise StateUnreadable(f"the owner record does not decode: {exc}") from exc


def block_write(block: BlockState) -> StateWrite:
    """A block's status; its parts are written once, with its first revision (part_writes)."""
    header = block.header
    stored = StoredBlock(
        number=header.number,
        hash=header.hash,
        parent_hash=header.parent_hash,
        timestamp=header.timestamp,
        logs_bloom=header.logs_bloom.hex(),
        canonical=block.canonical,
        revision=block.revision,
        parts=block.parts,
        records=block.records,
        events=block.events,
        size_bytes=block.size_bytes,
        digest=block.digest,
    )
    return _block_key(header), _encoder.encode(stored)


def part_writes(block: BlockState, parts: Parts) -> list[StateWrite]:
    return list(zip(block.part_keys, parts, strict=True))


def block_tombstones(block: BlockState) -> list[StateWrite]:
    """Removes a block that became final, or an orphan whose height did."""
    return [(_block_key(block.header), None), *((key, None) for key in block.part_keys)]


@dataclass(frozen=True, slots=True)
class _PartSeen:
    """What the fold remembers of a part."""

    offset: int
    hash: bytes


class StateFold:
    """Folds the state topic as it is read, oldest record first, in bounded memory."""

    def __init__(self, *, parts_bytes_max: int) -> None:
        self._single: dict[str, bytes] = {}
        self._blocks: dict[str, StoredBlock] = {}
        self._seen: dict[str, _PartSeen] = {}
        self._shelf = PartShelf(bytes_max=parts_bytes_max)

    def put(self, offset: int, key: str, value: bytes | None) -> None:
        """The next record. Raises StateUnreadable when it does not decode."""
        if key.startswith(PART_PREFIX):
            self._put_part(offset, key, value)
        elif key.startswith(BLOCK_PREFIX):
            self._put_block(key, value)
        elif value is None:
            self._single.pop(key, None)
        else:
            self._single[key] = value

    def _put_part(self, offset: int, key: str, value: bytes | None) -> None:
        if value is None:
            self._seen.pop(key, None)
            self._shelf.drop(key)
        else:
            self._seen[key] = _PartSeen(offset, part_hash(value))
            self._shelf.put(key, (value,))

    def _put_block(self, key: str, value: bytes | None) -> None:
        if value is None:
            self._blocks.pop(key, None)
            return
        try:
            self._blocks[key] = _block_decoder.decode(value)
        except msgspec.DecodeError as exc:
            raise StateUnreadable(f"{key} does not decode: {exc}") from exc

    def loaded(self) -> LoadedState:
        """What stands at the end. Raises StateUnreadable for incomplete blocks and unlinked headers."""
        try:
            cursor = _cursor_decoder.decode(self._single[CURSOR_KEY]) if CURSOR_KEY in self._single else None
        except msgspec.DecodeError as exc:
            raise StateUnreadable(f"the cursor does not decode: {exc}") from exc
        owner = decode_owner(self._single[OWNER_KEY]) if OWNER_KEY in self._single else None
        blocks = {stored.hash: self._block(stored) for stored in self._blocks.values()}
        if cursor is None and blocks:
            raise StateUnreadable(f"{len(blocks)} blocks but no cursor")
        if cursor is not None:
            if cursor.version != STATE_VERSION:
                raise StateUnreadable(f"state version {cursor.version}, this program writes {STATE_VERSION}")
            canonical_window(cursor, blocks)
        return LoadedState(cursor=cursor, owner=owner, blocks=blocks, parts=self._kept(blocks))

    def _block(self, stored: StoredBlock) -> BlockState:
        block = BlockState(
            header=Header(
                number=stored.number,
                hash=stored.hash,
                parent_hash=stored.parent_hash,
                timestamp=stored.timestamp,
                logs_bloom=bytes.fromhex(stored.logs_bloom),
            ),
            canonical=stored.canonical,
            revision=stored.revision,
            parts=stored.parts,
            records=stored.records,
            events=stored.events,
            size_bytes=stored.size_bytes,
            digest=stored.digest,
        )
        seen = [self._seen[key] for key in block.part_keys if key in self._seen]
        if len(seen) != block.parts:
            missing = block.parts - len(seen)
            raise StateUnreadable(f"block {stored.number} {stored.hash} lacks {missing} of {stored.parts} parts")
        if digest_of(part.hash for part in seen) != stored.digest:
            raise StateUnreadable(f"block {stored.number} {stored.hash} has parts of another digest")
        return replace(block, offsets=tuple(part.offset for part in seen))

    def _kept(self, blocks: Mapping[str, BlockState]) -> dict[str, Parts]:
        kept: dict[str, Parts] = {}
        for block in sorted(blocks.values(), key=lambda b: b.offsets):
            found = [part for key in block.part_keys for part in self._shelf.get(key) or ()]
            if len(found) == block.parts:
                kept[block.header.hash] = tuple(found)
        return kept


def load(records: Iterable[StateWrite], *, parts_bytes_max: int = UNFINALIZED_BYTES_MAX) -> LoadedState:
    """Folds records whose offsets are their places. Raises StateUnreadable."""
    fold = StateFold(parts_bytes_max=parts_bytes_max)
    for offset, (key, value) in enumerate(records):
        fold.put(offset, key, value)
    return fold.loaded()


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


def _block_key(header: Header) -> str:
    return f"{BLOCK_PREFIX}{header.number}/{header.hash}"
