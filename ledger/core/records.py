"""From Kafka records to items of a fold: headers judged, positions checked, bodies decoded. Pure.

A record is judged by its headers first: they say which stream it belongs to and where it stands. A wrong position or
bad headers end the scan (``Stop``): nothing after them can be trusted. A bad body under good headers is ``Refused``:
it goes to quarantine and its number is used up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, Protocol

import msgspec

from contracts.messages import (
    PaymentEvent,
    Rejected,
    Watermark,
    decode_event,
    decode_rejected,
    decode_watermark,
)

StreamKind = Literal["events", "rejected"]

TIMESTAMP_MIN: Final = int(datetime(2009, 1, 1, tzinfo=UTC).timestamp())
TIMESTAMP_MAX: Final = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) - 1
BIGINT_MAX: Final = 2**63 - 1
REVISION_MAX: Final = 2**31 - 1
SEQ_BITS: Final = 44
"""Bits of stream_seq in an entry_id; the rest is stream_no."""

NUL_ESCAPE: Final = b"\\u0000"
FOREIGN: Final = "the indexer does not write that: find who else writes to this topic, or which version is newer"
INCIDENT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
"""People type it, so it needs no quoting in a shell."""


class Record(Protocol):
    """What this module needs of a consumer's record."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a stream stands: the next offset to fold, and the id and number of the last record folded."""

    next_offset: int
    stream_id: str | None = None
    stream_seq: int = 0


class Change(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event that is applied or retracted, with its hashes as bytes."""

    offset: int
    seq: int
    event: PaymentEvent
    event_id: bytes
    block_hash: bytes
    tx_hash: bytes
    address: bytes
    version: bytes
    record: Any  # the Record, kept whole for the quarantine

    @property
    def retracts(self) -> bool:
        return self.event.revision % 2 == 0


class Mark(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A watermark."""

    offset: int
    seq: int
    watermark: Watermark
    latest_hash: bytes
    safe_hash: bytes
    finalized_hash: bytes


class Refused(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record for the quarantine. What is known of the event may be nothing."""

    offset: int
    seq: int
    origin: Literal["body", "rules", "database", "indexer"]
    code: str
    reason: str
    record: Any  # the Record, kept whole
    event_id: bytes | None = None
    revision: int | None = None
    message: PaymentEvent | Rejected | None = None


class Withdrawn(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A rejected log whose block was replaced: its quarantine row is closed."""

    offset: int
    seq: int
    event_id: bytes
    revision: int  # of the retraction


Item = Change | Mark | Refused | Withdrawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Why a partition does not go on, at which record. ``unknown_version`` asks for another look at the registry."""

    offset: int
    reason: str
    unknown_version: str | None = None
    incident: str | None = None  # goes on when this one is accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Items in stream order, and why the scan ended before the last record, if it did."""

    items: tuple[Item, ...]
    position: Position  # after the last item
    stop: Stop | None = None


class BadBody(ValueError):
    """A body that cannot be used."""


def scan(records: Sequence[Record], position: Position, *, chain_id: int, kind: StreamKind) -> Scan:
    """The items of these records. Records below ``next_offset`` were folded before and are skipped."""
    items: list[Item] = []
    expected_chain = str(chain_id).encode()
    next_offset, stream_id, seq = position.next_offset, position.stream_id, position.stream_seq
    stop: Stop | None = None
    for record in records:
        offset = record.offset
        if offset < next_offset:
            continue
        headers = dict(record.headers)
        fault = _position_fault(headers, stream_id, seq, expected_chain)
        if fault is None:
            op = headers.get("op", b"").decode("utf-8", "replace")
            read = _READERS[kind].get(op)
            fault = None if read else f"op {op[:40]!r} is not one of {', '.join(_READERS[kind])}; {FOREIGN}"
        if fault is not None:
            stop = Stop(offset=offset, reason=fault)
            break
        assert read is not None
        if stream_id is None:
            stream_id = headers["stream_id"].decode()
        seq += 1
        next_offset = offset + 1
        try:
            items.append(read(record, headers, seq, chain_id))
        except (msgspec.MsgspecError, BadBody) as exc:
            items.append(_refused(record, headers, seq, str(exc)))
    after = Position(next_offset=next_offset, stream_id=stream_id, stream_seq=seq)
    return Scan(items=tuple(items), position=after, stop=stop)


def entry_id(stream_no: int, seq: int) -> int:
    """``stream_no · 2^44 + stream_seq``: the same for the same record in every rebuild."""
    if not 0 < seq < 1 << SEQ_BITS:
        raise ValueError(f"stream_seq {seq} does not fit into {SEQ_BITS} bits")
    return (stream_no << SEQ_BITS) | seq


def _position_fault(headers: dict[str, bytes], stream_id: str | None, seq: int, chain_id: bytes) -> str | None:
    """Why this record cannot be the next one of the stream, and what to do; None when it is."""
    number = headers.get("stream_seq", b"")
    identity = headers.get("stream_id", b"")
    if headers.get("chain_id") != chain_id:
        return f"header chain_id is {headers.get('chain_id')!r}, expected {chain_id!r}; {FOREIGN}"
    if not identity or len(identity) > 200 or not identity.isascii():
        return f"header stream_id is {identity[:40]!r}; {FOREIGN}"
    if not number.isdigit() or len(number) > 18:
        return f"header stream_seq is {number[:40]!r}; {FOREIGN}"
    if stream_id is not None and identity.decode() != stream_id:
        return (
            f"the stream was {stream_id}, this record is of stream {identity.decode()}: the topic was made again; "
            "restore the old topic, or fold the new one into a new database"
        )
    if int(number) != seq + 1:
        return (
            f"stream_seq is {int(number)}, expected {seq + 1}: records are missing or were repeated; find who deletes "
            "from this topic or writes to it beside the indexer, then restore it or rebuild the books from a whole one"
        )
    return None


def _read_change(record: Record, headers: dict[str, bytes], seq: int, chain_id: int) -> Change:
    value = record.value or b""
    event = decode_event(value)
    if NUL_ESCAPE in value and _has_nul(msgspec.to_builtins(event)):
        raise BadBody("text with U+0000")
    _check_identity(event, headers, chain_id)
    _check_incident(event)
    return Change(
        offset=record.offset,
        seq=seq,
        event=event,
        event_id=_fixed(event.event_id, 32, "event_id"),
        block_hash=_repeated(event.block_hash, 32, "block_hash"),
        tx_hash=_repeated(event.tx_hash, 32, "tx_hash"),
        address=_repeated(event.address, 20, "address"),
        version=_repeated(event.description_version, 32, "description_version"),
        record=record,
    )


def _read_rejected(record: Record, headers: dict[str, bytes], seq: int, chain_id: int) -> Refused | Withdrawn:
    value = record.value or b""
    rejected = decode_rejected(value)
    if NUL_ESCAPE in value and _has_nul(msgspec.to_builtins(rejected)):
        raise BadBody("text with U+0000")
    _check_identity(rejected, headers, chain_id)
    identity = _fixed(rejected.event_id, 32, "event_id")
    _fixed(rejected.block_hash, 32, "block_hash")
    _fixed(rejected.tx_hash, 32, "tx_hash")
    if rejected.op == "retracted":
        return Withdrawn(offset=record.offset, seq=seq, event_id=identity, revision=rejected.revision)
    return Refused(
        offset=record.offset,
        seq=seq,
        origin="indexer",
        code=rejected.code,
        reason=rejected.reason,
        record=record,
        event_id=identity,
        revision=rejected.revision,
        message=rejected,
    )


def _read_mark(record: Record, headers: dict[str, bytes], seq: int, chain_id: int) -> Mark:
    del headers
    watermark = decode_watermark(record.value or b"")
    latest, safe, finalized = watermark.latest, watermark.safe, watermark.finalized
    if watermark.chain_id != chain_id:
        raise BadBody(f"chain_id is {watermark.chain_id}, expected {chain_id}")
    if not 0 <= finalized.number <= latest.number <= BIGINT_MAX or not 0 <= safe.number <= BIGINT_MAX:
        raise BadBody(f"finalized {finalized.number} and latest {latest.number} are out of order")
    if not 0 <= watermark.latest_timestamp <= TIMESTAMP_MAX:
        raise BadBody(f"latest_timestamp {watermark.latest_timestamp} is out of range")
    return Mark(
        offset=record.offset,
        seq=seq,
        watermark=watermark,
        latest_hash=_fixed(latest.hash, 32, "latest.hash"),
        safe_hash=_fixed(safe.hash, 32, "safe.hash"),
        finalized_hash=_fixed(finalized.hash, 32, "finalized.hash"),
    )


_Reader = Callable[[Record, dict[str, bytes], int, int], Item]
_READERS: Final[dict[StreamKind, dict[str, _Reader]]] = {
    "events": {
        "applied": _read_change,
        "retracted": _read_change,
        "revoked": _read_change,
        "watermark": _read_mark,
    },
    "rejected": {"rejected": _read_rejected, "retracted": _read_rejected},
}


def _check_identity(message: PaymentEvent | Rejected, headers: dict[str, bytes], chain_id: int) -> None:
    """Body and headers say the same, and every number fits where it is going to."""
    if headers.get("ce_id") != f"{message.event_id}:{message.revision}".encode():
        raise BadBody(f"ce_id is {headers.get('ce_id')!r}, the body is {message.event_id}:{message.revision}")
    if headers["op"] != message.op.encode():
        raise BadBody(f"op is {headers['op']!r} in the headers, {message.op!r} in the body")
    if message.chain_id != chain_id:
        raise BadBody(f"chain_id is {message.chain_id}, expected {chain_id}")
    revision = message.revision
    if not 1 <= revision <= REVISION_MAX or (revision % 2 == 0) != (message.op in ("retracted", "revoked")):
        raise BadBody(f"revision {revision} does not go with op {message.op!r}")
    if not 0 <= message.block_number <= BIGINT_MAX:
        raise BadBody(f"block_number {message.block_number} is out of range")
    if not 0 <= message.tx_index <= BIGINT_MAX or not 0 <= message.log_index <= BIGINT_MAX:
        raise BadBody(f"tx_index {message.tx_index} or log_index {message.log_index} is out of range")
    if not TIMESTAMP_MIN <= message.block_timestamp <= TIMESTAMP_MAX:
        raise BadBody(f"block_timestamp {message.block_timestamp} is outside 2009 to 2200")


def _check_incident(event: PaymentEvent) -> None:
    """A revoked event says of which incident it is; the id is one that people can type."""
    if event.incident_id is None:
        if event.op == "revoked":
            raise BadBody("op is 'revoked' without an incident_id")
    elif not INCIDENT_ID.fullmatch(event.incident_id):
        raise BadBody(f"incident_id {event.incident_id[:140]!r} is not 1 to 128 letters, digits and ._:-")


def _fixed(text: str, size: int, name: str) -> bytes:
    if len(text) == 2 + 2 * size and text.startswith("0x"):
        try:
            raw = bytes.fromhex(text[2:])
        except ValueError:
            raw = b""
        if len(raw) == size:
            return raw
    raise BadBody(f"{name} {text[:80]!r} is not 0x and {2 * size} hex digits")


_repeated = lru_cache(maxsize=1_024)(_fixed)
"""For what many events in a row have in common: block, tx, emitter, description."""


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
        case list():
            return any(_has_nul(item) for item in value)
        case _:
            return False


def _refused(record: Record, headers: dict[str, bytes], seq: int, reason: str) -> Refused:
    """A bad body; the headers may still say which event it was."""
    identity, _, revision = headers.get("ce_id", b"").decode("utf-8", "replace").rpartition(":")
    try:
        event_id: bytes | None = _fixed(identity, 32, "ce_id")
    except BadBody:
        event_id = None
    known = event_id is not None and revision.isdecimal() and len(revision) < 10
    return Refused(
        offset=record.offset,
        seq=seq,
        origin="body",
        code="malformed_body",
        reason=reason.replace("\0", "␀")[:1000],
        record=record,
        event_id=event_id if known else None,
        revision=int(revision) if known else None,
    )
