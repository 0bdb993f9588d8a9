"""The messages that cross Kafka: their fields, units, headers and topic names.

This module is the message contract. It never does I/O and knows nothing of nodes, brokers or databases.
Messages only grow: a new field has a default; anything else is a new topic version.

Conventions: hashes and addresses are lower-case ``0x`` hex. Integers keep the type that the ABI gives them: up to 48
bits a JSON number, wider ones a decimal string, whatever their value. Amounts are base units as decimal strings.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, TypeVar

import msgspec

EVENT_RECORD_BYTES_MAX: Final = 900_000
"""Hard limit of one record's value; topics keep Kafka's default ``max.message.bytes`` of 1,048,588."""

ARGUMENT_BYTES_MAX: Final = 65_536
"""A longer ``bytes`` or ``string`` argument is replaced by ``{"sha256": "0x…", "length": n}``."""

NATIVE_ADDRESS: Final = "0x" + "00" * 20

SOURCE_LOG: Final = 0
SOURCE_TRACE: Final = 1

EventOp = Literal["applied", "retracted", "finalized", "revoked"]


class BlockRef(msgspec.Struct, frozen=True, kw_only=True):
    """A block by number and hash."""

    number: int
    hash: str


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """One amount of an event. ``decimals`` and ``symbol`` are null for an asset that is not on the allow-list."""

    arg: str  # the ABI argument that carries it
    asset: str  # CAIP-19: eip155:<chain id>/erc20:0x… or eip155:<chain id>/slip44:60 for the native coin
    base_units: str  # decimal integer, may be negative for signed arguments
    decimals: int | None = None
    symbol: str | None = None


class PaymentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One decoded event of a payment contract, or its retraction, with the whole payload each time.

    The idempotency key is ``(event_id, revision)``: odd revisions apply, even ones retract.
    """

    op: EventOp
    event_id: str  # see event_id()
    revision: int  # 1, 3, 5 … applied; 2, 4, 6 … retracted
    chain_id: int
    block_number: int
    block_hash: str
    block_timestamp: int  # Unix seconds
    tx_hash: str
    tx_index: int
    log_index: int  # position of the log in its block
    address: str  # emitter
    contract: str  # name of the description
    event: str  # name of the event in the ABI
    book: str  # Kafka key: contracts that share accounts
    subject: str  # account, subscription, invoice …: what the event is about
    args: dict[str, Any]
    amounts: list[Amount]
    correlation: dict[str, str]  # named ids that survive the move of a payment to another block
    description_version: str  # content hash of the description that decoded it
    contract_seq: str | None = None  # the contract's own gap-free number of this money event, decimal
    closes_tx: bool = True  # the last event of its tx in its book: the ledger judges clearing here
    late: bool = False  # published after its place in the stream had passed (by an audit, a new contract, an incident)
    incident_id: str | None = None  # of the change below finality that published this record: revoked, or in its place


class Watermark(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of this partition up to ``latest`` came before this record, late records and incomplete contracts
    excepted.
    """

    chain_id: int
    latest: BlockRef
    safe: BlockRef
    finalized: BlockRef
    latest_timestamp: int = 0  # Unix seconds of the latest block
    incomplete: list[str] = []  # contracts whose history is still being backfilled
    op: Literal["watermark"] = "watermark"


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A log of a watched contract that could not be decoded, raw, with the reason."""

    op: Literal["rejected", "retracted"]
    event_id: str
    revision: int
    chain_id: int
    block_number: int
    block_hash: str
    block_timestamp: int
    tx_hash: str
    tx_index: int
    log_index: int
    address: str
    topics: list[str]
    data: str  # 0x hex; over ARGUMENT_BYTES_MAX only the first bytes, then data_length and data_sha256 tell the rest
    data_length: int
    data_sha256: str
    code: str  # machine-readable reason, snake_case
    reason: str  # for people
    contract: str
    book: str
    description_version: str
    incident_id: str | None = None  # of the change below finality that published this record


class RegistryRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one description on the registry topic; the key is ``version``."""

    version: str  # sha256 of the canonical JSON of ``document``, 0x hex
    contract: str
    document: dict[str, Any]  # the whole description, ABI included: enough to rebuild decoders and posting rules


_Message = TypeVar("_Message", bound=msgspec.Struct)
_encoder = msgspec.json.Encoder()
_event_decoder = msgspec.json.Decoder(PaymentEvent)
_watermark_decoder = msgspec.json.Decoder(Watermark)
_rejected_decoder = msgspec.json.Decoder(Rejected)
_registry_decoder = msgspec.json.Decoder(RegistryRecord)


def encode(message: msgspec.Struct) -> bytes:
    """Compact UTF-8 JSON in field order."""
    return _encoder.encode(message)


def decode_event(value: bytes) -> PaymentEvent:
    """Raises ``msgspec.DecodeError`` (``ValidationError`` is one), whatever the bytes."""
    return _decoded(_event_decoder, value)


def decode_watermark(value: bytes) -> Watermark:
    """Raises as decode_event."""
    return _decoded(_watermark_decoder, value)


def decode_rejected(value: bytes) -> Rejected:
    """Raises as decode_event."""
    return _decoded(_rejected_decoder, value)


def decode_registry_record(value: bytes) -> RegistryRecord:
    """Raises as decode_event."""
    return _decoded(_registry_decoder, value)


def _decoded(decoder: msgspec.json.Decoder[_Message], value: bytes) -> _Message:
    """msgspec lets two errors of Python out: for text that is not UTF-8, and for JSON that nests too deep."""
    try:
        return decoder.decode(value)
    except (UnicodeDecodeError, RecursionError) as exc:
        raise msgspec.DecodeError(str(exc)) from exc


def event_id(*, chain_id: int, block_hash: bytes, position: int, source: int = SOURCE_LOG) -> str:
    """``sha256(u64be chain_id ‖ 32 B block_hash ‖ u32be position ‖ u8 source)``; source 0 = log, 1 = trace."""
    if len(block_hash) != 32:
        raise ValueError(f"block hash has {len(block_hash)} bytes, not 32")
    preimage = chain_id.to_bytes(8, "big") + block_hash + position.to_bytes(4, "big") + bytes([source])
    return "0x" + hashlib.sha256(preimage).hexdigest()


def asset_id(chain_id: int, address: str) -> str:
    """CAIP-19 id of an asset by token address; the zero address is the native coin (slip44:60)."""
    if address == NATIVE_ADDRESS:
        return f"eip155:{chain_id}/slip44:60"
    return f"eip155:{chain_id}/erc20:{address}"


def asset_address(asset: str) -> tuple[int, str]:
    """``(chain id, token address)`` of a CAIP-19 id made by asset_id; ValueError otherwise."""
    chain, _, reference = asset.partition("/")
    namespace, _, chain_id = chain.partition(":")
    if namespace != "eip155" or not chain_id.isdecimal():
        raise ValueError(f"not an eip155 asset: {asset!r}")
    if reference == "slip44:60":
        return int(chain_id), NATIVE_ADDRESS
    kind, _, address = reference.partition(":")
    if kind != "erc20" or len(address) != 42 or not address.startswith("0x"):
        raise ValueError(f"not an erc20 or native asset: {asset!r}")
    return int(chain_id), address


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPosition:
    """Where a record stands in its partition: the stream's id and the gap-free number, from 1."""

    stream_id: str
    stream_seq: int


Header = tuple[str, bytes]
Headers = list[Header]


@lru_cache(maxsize=64)
def _headers_of_kind(schema: str, op: str) -> tuple[Header, Header, Header]:
    return (
        ("ce_type", f"chainbooks.{schema}.{op}.v1".encode()),
        ("ce_dataschema", f"urn:chainbooks:schema:{schema}:v1".encode()),
        ("op", op.encode()),
    )


@lru_cache(maxsize=64)
def _headers_of_chain(chain_id: int) -> tuple[Header, Header]:
    return ("ce_source", f"/chains/{chain_id}".encode()), ("chain_id", str(chain_id).encode())


@lru_cache(maxsize=1_024)
def _header_of_time(timestamp: int) -> Header:
    """All records of a block have one time, and formatting it costs more than the rest."""
    return "ce_time", datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def record_headers(
    message: PaymentEvent | Watermark | Rejected,
    position: StreamPosition,
    *,
    partition: int,
    traceparent: str | None = None,
) -> Headers:
    """Headers in CloudEvents names (Kafka protocol binding, binary mode) plus ours; all values are UTF-8."""
    if isinstance(message, Watermark):
        ce_id = f"{position.stream_id}:{partition}:{position.stream_seq}"
        subject, contract, event = "", "", ""
        timestamp = message.latest_timestamp
        schema = "watermark"
    else:
        ce_id = f"{message.event_id}:{message.revision}"
        contract = message.contract
        timestamp = message.block_timestamp
        if isinstance(message, PaymentEvent):
            subject, event, schema = message.subject, message.event, "payment-event"
        else:
            subject, event, schema = message.address, "", "rejected"
    ce_type, ce_dataschema, op_header = _headers_of_kind(schema, message.op)
    ce_source, chain_id = _headers_of_chain(message.chain_id)
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", ce_id.encode()),
        ce_type,
        ce_source,
        ("ce_subject", subject.encode()),
        _header_of_time(timestamp),
        ce_dataschema,
        ("content-type", b"application/json"),
        chain_id,
        ("stream_id", position.stream_id.encode()),
        ("stream_seq", b"%d" % position.stream_seq),
        op_header,
        ("contract", contract.encode()),
        ("event", event.encode()),
    ]
    if traceparent:
        headers.append(("traceparent", traceparent.encode()))
    return headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Topic names of one chain. ``prefix`` is empty or ends with a dot."""

    chain: str  # slug, for example "local" or "ethereum"
    prefix: str = ""

    @property
    def events(self) -> str:
        return f"{self.prefix}payments.{self.chain}.events.v1"

    @property
    def final(self) -> str:
        return f"{self.prefix}payments.{self.chain}.final.v1"

    @property
    def rejected(self) -> str:
        return f"{self.prefix}payments.{self.chain}.rejected.v1"

    @property
    def replay(self) -> str:
        return f"{self.prefix}payments.{self.chain}.replay.v1"

    @property
    def state(self) -> str:
        return f"{self.prefix}indexer.{self.chain}.state.v1"

    @property
    def control(self) -> str:
        return f"{self.prefix}indexer.{self.chain}.control.v1"

    @property
    def registry(self) -> str:
        return f"{self.prefix}payments.registry.v1"
