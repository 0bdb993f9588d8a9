"""From the bytes of a log to a decoded event, a typed refusal, or "not ours".

Pure; one generated function per event type.

``EventCodec.decode(topics, data)`` never raises for any bytes, and takes time and memory linear in their size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from contracts.abi import AbiEvent
from contracts.decoder import DecoderWriter, wrong_size, wrong_topics
from contracts.description import Asset
from contracts.messages import NATIVE_ADDRESS, Amount, asset_id
from contracts.rules import AssetRule
from contracts.source import Source
from contracts.typed import TypedContract, TypedCustody, TypedEvent, TypedMovement
from contracts.values import JSON_NUMBER_BITS_MAX, Rejection

__all__ = ["Decoded", "EventCodec", "Rejection", "contract_codecs", "custody_codecs"]

SEARCHED_BYTES_MAX = 4096
"""How much of an undecodable Transfer's data is searched for one of our wallets."""


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """What one log says. The indexer adds where it stood and makes a PaymentEvent of it."""

    args: dict[str, Any]  # JSON-ready, by ABI type (see contracts.values)
    subject: str
    book: str
    amounts: list[Amount]
    correlation: dict[str, str]
    contract_seq: str | None = None  # decimal


Decode = Callable[[Sequence[bytes], bytes], Decoded | Rejection | None]
"""Topics (topic0 included, 32 bytes each) and data of a log. None: it decodes, but is not ours."""


class EventCodec(msgspec.Struct, frozen=True, kw_only=True):
    """The decoder of one event of one contract."""

    contract: str
    event: str
    version: str  # of the description
    kind: str  # "money", "state" or "info"
    book: str  # for rejections; a decoded event names its own
    abi: AbiEvent
    uses_emitter: bool  # whether what it decodes depends on who emitted the log
    bind: Callable[[str], Decode]  # address of the emitter (0x hex) → its decode
    decode: Decode  # for the emitter given to ``at``

    def at(self, address: str) -> EventCodec:
        """The codec for the logs of one emitter."""
        if not self.uses_emitter:
            return self
        return msgspec.structs.replace(self, decode=self.bind(address))


class AssetBook:
    """The allow-list of one chain, as the generated code asks it: address → (CAIP-19 id, decimals, symbol)."""

    def __init__(self, chain_id: int, assets: Sequence[Asset]) -> None:
        self.chain_id = chain_id
        self.listed: dict[str, tuple[str, int | None, str | None]] = {
            asset.address: (asset_id(chain_id, asset.address), asset.decimals, asset.symbol) for asset in assets
        }

    def get(self, address: str) -> tuple[str, int | None, str | None]:
        """An asset that is not listed keeps its base units and has neither decimals nor a name."""
        return self.listed.get(address) or (asset_id(self.chain_id, address), None, None)


def contract_codecs(typed: TypedContract, version: str) -> dict[str, EventCodec]:
    """Event name → codec, for all events of a payment contract."""
    document = typed.document
    assets = AssetBook(document.chain_id, document.assets)
    codecs: dict[str, EventCodec] = {}
    for name, event in typed.events.items():
        bind = _claim_decoder(event, document.contract, document.book, assets)
        codecs[name] = EventCodec(
            contract=document.contract,
            event=name,
            version=version,
            kind=event.kind,
            book=document.book,
            abi=event.abi,
            uses_emitter=event.subject is None or any(asset.source == "emitter" for _, asset in event.amounts),
            bind=bind,
            decode=bind(NATIVE_ADDRESS),
        )
    return codecs


def custody_codecs(typed: TypedCustody, version: str) -> dict[str, EventCodec]:
    """Event name → codec, for the movements of allow-listed tokens."""
    document = typed.document
    assets = AssetBook(document.chain_id, document.assets)
    wallets = {bytes.fromhex(address[2:]): (wallet.book, address) for address, wallet in document.wallets.items()}
    codecs: dict[str, EventCodec] = {}
    for name, movement in typed.events.items():
        bind = _custody_decoder(movement, document.contract, wallets, assets)
        codecs[name] = EventCodec(
            contract=document.contract,
            event=name,
            version=version,
            kind="money",
            book=document.book,
            abi=movement.abi,
            uses_emitter=True,
            bind=bind,
            decode=bind(NATIVE_ADDRESS),
        )
    return codecs


def _begin(title: str, event: AbiEvent) -> tuple[Source, DecoderWriter]:
    source = Source(f"decoder {title}.{event.signature}")
    for name, value in (
        ("Amount", Amount),
        ("Decoded", Decoded),
        ("Rejection", Rejection),
        ("from_bytes", int.from_bytes),
        ("ZERO", b"\0"),
        ("EVENT", event),
        ("wrong_topics", wrong_topics),
        ("wrong_size", wrong_size),
    ):
        source.constant(value, name=name)
    source.line("def bind(EMITTER):")
    source.line("    EMITTER_ASSET = asset_of(EMITTER)")
    source.line("    def decode(topics, data):")
    return source, DecoderWriter(source, event, depth=2)


def _finish(source: Source, writer: DecoderWriter, fields: Mapping[str, str]) -> Callable[[str], Decode]:
    source.line(f"args = {writer.args()}", depth=2)
    writer.write_size_check()
    arguments = ", ".join(f"{name}={expression}" for name, expression in fields.items())
    source.line(f"return Decoded(args=args, {arguments})", depth=2)
    source.line("    return decode")
    return source.function("bind")


def _text(event: AbiEvent, name: str, local: str) -> str:
    """The expression of an argument as text (subjects, correlation ids, amounts)."""
    found = event.input(name)
    assert found is not None, name
    narrow = found.type.kind in ("uint", "int") and found.type.bits <= JSON_NUMBER_BITS_MAX
    if found.type.kind == "bool":
        return f"('true' if {local} else 'false')"
    return f"str({local})" if narrow else local


def _claim_decoder(event: TypedEvent, contract: str, book: str, assets: AssetBook) -> Callable[[str], Decode]:
    source, writer = _begin(contract, event.abi)
    source.constant(assets.get, name="asset_of")
    source.line(f"if len(topics) != {event.abi.topic_count}:", depth=2)
    source.line("    return wrong_topics(EVENT, topics)", depth=2)
    if writer.is_fixed_size:
        source.line(f"if len(data) != {writer.size}:", depth=2)
        source.line("    return wrong_size(EVENT, data)", depth=2)
    writer.write()
    amounts = [_amount(source, event, index, arg, asset, writer) for index, (arg, asset) in enumerate(event.amounts)]
    correlation = (
        f"{name!r}: {_text(event.abi, argument, writer.local[argument])}"
        for name, argument in event.correlation.items()
    )
    subject, sequence = event.subject, event.sequence
    fields = {
        "subject": "EMITTER" if subject is None else _text(event.abi, subject, writer.local[subject]),
        "book": source.constant(book),
        "amounts": f"[{', '.join(amounts)}]",
        "correlation": f"{{{', '.join(correlation)}}}",
    }
    if sequence is not None:
        fields["contract_seq"] = _text(event.abi, sequence, writer.local[sequence])
    return _finish(source, writer, fields)


def _amount(source: Source, event: TypedEvent, index: int, arg: str, asset: AssetRule, writer: DecoderWriter) -> str:
    """Writes the look-up of the asset; returns the expression of the Amount."""
    base_units = _text(event.abi, arg, writer.local[arg])
    match asset.source:
        case "value":
            assert asset.value is not None
            source.line(f"a{index} = asset_of({writer.local[asset.value.name]})", depth=2)
        case "emitter":
            source.line(f"a{index} = EMITTER_ASSET", depth=2)
        case "constant":
            source.line(f"a{index} = asset_of({source.constant(asset.text)})", depth=2)
    return _amount_expression(arg, base_units, f"a{index}")


def _amount_expression(arg: str, base_units: str, asset: str) -> str:
    return f"Amount(arg={arg!r}, asset={asset}[0], base_units={base_units}, decimals={asset}[1], symbol={asset}[2])"


def _custody_decoder(
    movement: TypedMovement, contract: str, wallets: Mapping[bytes, tuple[str, str]], assets: AssetBook
) -> Callable[[str], Decode]:
    """First of all asks whether a wallet of ours is sender or receiver:

    most Transfers of a token are nobody's business here.
    """
    event = movement.abi
    source, writer = _begin(contract, event)
    source.constant(assets.get, name="asset_of")
    source.constant(dict(wallets), name="WALLETS")
    source.constant(wallets.get, name="wallet_of")
    source.constant(_unreadable, name="unreadable")
    source.constant(_cross_book, name="cross_book")
    source.line(f"if len(topics) != {event.topic_count} or len(data) != {writer.size}:", depth=2)
    source.line("    return unreadable(EVENT, WALLETS, topics, data)", depth=2)
    for local, argument in (("sender", movement.sender), ("receiver", movement.receiver)):
        found = "None" if argument is None else f"wallet_of({writer.word[argument]}[12:])"
        source.line(f"{local} = {found}", depth=2)
    source.line("if sender is None:", depth=2)
    source.line("    if receiver is None:", depth=2)
    source.line("        return None", depth=2)
    source.line("    book, subject = receiver", depth=2)
    source.line("else:", depth=2)
    source.line("    book, subject = sender", depth=2)
    writer.write()
    source.line("if sender is not None and receiver is not None and receiver[0] != book:", depth=2)
    source.line("    return cross_book(sender, receiver)", depth=2)
    amount = _amount_expression(
        movement.amount, _text(event, movement.amount, writer.local[movement.amount]), "EMITTER_ASSET"
    )
    return _finish(
        source, writer, {"subject": "subject", "book": "book", "amounts": f"[{amount}]", "correlation": "{}"}
    )


def _cross_book(sender: tuple[str, str], receiver: tuple[str, str]) -> Rejection:
    reason = (
        f"moves from {sender[1]} of book {sender[0]!r} to {receiver[1]} of book {receiver[0]!r}; put both into one book"
    )
    return Rejection(code="cross_book_transfer", reason=reason)


def _unreadable(
    event: AbiEvent, wallets: Mapping[bytes, tuple[str, str]], topics: Sequence[bytes], data: bytes
) -> Rejection | None:
    """A log of an allow-listed token with the right topic0 in another layout, for example an ERC-721 Transfer.

    It is never posted. When it names one of our wallets it is refused, and so seen; else it is nobody's business here.
    """
    words = [*topics[1:], *(data[start : start + 32] for start in range(0, min(len(data), SEARCHED_BYTES_MAX), 32))]
    if not any(word[12:32] in wallets for word in words):
        return None
    if len(topics) != event.topic_count:
        return wrong_topics(event, topics)
    return wrong_size(event, data)
