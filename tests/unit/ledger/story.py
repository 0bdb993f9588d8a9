"""Tells small stories of a chain as the indexer would publish them: blocks, txs, reorgs, watermarks → records.

Messages are made by hand from the shipped descriptions; nothing of the indexer is imported.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from contracts.messages import (
    BlockRef,
    PaymentEvent,
    Rejected,
    StreamPosition,
    Watermark,
    encode,
    event_id,
    record_headers,
)
from contracts.posting import PostingRules
from contracts.registry import Registry, load_registry

CHAIN_ID = 31337
CHAIN = "local"
GATEWAY = "0x" + "11" * 20
VAULT = "0x" + "12" * 20
COORDINATOR = "0x" + "13" * 20
TOKEN = "0x" + "a1" * 20
OTHER_TOKEN = "0x" + "a2" * 20
NATIVE = "0x" + "00" * 20
PAYER = "0x" + "77" * 20
BLOCK_SECONDS = 12
BEGIN = 1_767_225_600 - 40 * BLOCK_SECONDS  # eight minutes before 2026-01-01: stories may cross a month
STREAM_ID = "5f" * 16
SHIPPED = Path(__file__).parents[3] / "contracts" / "registry"

DEPLOYMENT = f"""\
kind: deployment
chain: {CHAIN_ID}
contracts:
  payment-gateway: {{addresses: ["{GATEWAY}"]}}
  legacy-vault: {{addresses: ["{VAULT}"]}}
tokens:
  - {{address: "{TOKEN}", symbol: USDX, decimals: 6}}
  - {{address: "{OTHER_TOKEN}", symbol: EURX, decimals: 18}}
"""


AVAILABLE = "liabilities:{book}:account:{subId}:available"
SUBSCRIPTIONS = f"""\
kind: contract
contract: subscriptions
book: requests
custody: false
chains: {{{CHAIN_ID}: {{addresses: ["{COORDINATOR}"]}}}}
abi:
  - {{type: event, name: Funded, inputs: [{{name: subId, type: uint64}}, {{name: amount, type: uint96}}]}}
  - type: event
    name: Requested
    inputs: [{{name: requestId, type: uint256}}, {{name: subId, type: uint64}}, {{name: hold, type: uint96}}]
  - {{type: event, name: Fulfilled, inputs: [{{name: requestId, type: uint256}}, {{name: payment, type: uint96}}]}}
  - {{type: event, name: Canceled, inputs: [{{name: subId, type: uint64}}]}}
events:
  Funded:
    kind: money
    postings:
      - {{debit: clearing, credit: "{AVAILABLE}", asset: "{TOKEN}", amount: amount}}
  Requested:
    kind: money
    postings:
      - debit: liabilities:{{book}}:account:{{subId}}:available
        credit: liabilities:{{book}}:account:{{subId}}:held
        asset: "{TOKEN}"
        amount: hold
  Fulfilled: # the hold is given back, the payment taken; the event knows neither account nor hold
    kind: money
    joins: [{{name: request, event: Requested, key: requestId}}]
    postings:
      - debit: liabilities:{{book}}:account:{{request.subId}}:held
        credit: liabilities:{{book}}:account:{{request.subId}}:available
        asset: "{TOKEN}"
        amount: request.hold
      - debit: liabilities:{{book}}:account:{{request.subId}}:available
        credit: liabilities:{{book}}:withdrawable:{{address}}:-
        asset: "{TOKEN}"
        amount: payment
  Canceled:
    kind: money
    postings:
      - {{debit: "{AVAILABLE}", credit: clearing, asset: "{TOKEN}", amount: remaining}}
"""


@functools.cache
def registry() -> Registry:
    """The shipped descriptions with the addresses above."""
    with tempfile.TemporaryDirectory() as folder:
        overlay = Path(folder) / "deployment.yaml"
        overlay.write_text(DEPLOYMENT)
        (Path(folder) / "subscriptions.yaml").write_text(SUBSCRIPTIONS)
        return load_registry([SHIPPED, Path(folder)], chain_id=CHAIN_ID)


@functools.cache
def rules() -> dict[str, PostingRules]:
    """Posting rules by version."""
    return {c.version: PostingRules.from_document(c.document) for c in registry().contracts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A record as a consumer hands it out."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    partition: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One event to be told: (contract, emitter, event, args, book)."""

    contract: str
    address: str
    event: str
    book: str
    args: dict[str, Any]
    seq: int | None = None


def account(number: int) -> str:
    """A 32-byte account id."""
    return "0x" + number.to_bytes(32, "big").hex()


def moved(sender: str, receiver: str, amount: int, *, token: str = TOKEN) -> Log:
    """A token's Transfer from or to one of our contracts."""
    book = "gateway" if GATEWAY in (sender, receiver) else "vault"
    args = {"from": sender, "to": receiver, "value": str(amount)}
    return Log(contract="erc20", address=token, event="Transfer", book=book, args=args)


def deposited(to: int, amount: int, *, asset: str = TOKEN, seq: int | None = None) -> Log:
    """The gateway's Deposited."""
    args = {
        "accountId": account(to),
        "asset": asset,
        "payer": PAYER,
        "received": str(amount),
        "balanceAfter": "0",
        "ref": account(0),
        "seq": str(seq or 0),
    }
    return Log(contract="payment-gateway", address=GATEWAY, event="Deposited", book="gateway", args=args, seq=seq)


def internal(sender: int, receiver: int, amount: int, *, asset: str = TOKEN, seq: int | None = None) -> Log:
    """The gateway's InternalTransfer."""
    args = {
        "from": account(sender),
        "to": account(receiver),
        "asset": asset,
        "amount": str(amount),
        "ref": account(0),
        "seq": str(seq or 0),
    }
    return Log(
        contract="payment-gateway", address=GATEWAY, event="InternalTransfer", book="gateway", args=args, seq=seq
    )


def captured(payment: int, merchant: int, amount: int, fee: int, *, asset: str = TOKEN, seq: int | None = None) -> Log:
    """The gateway's PaymentCaptured: two transfers."""
    args = {
        "paymentId": account(payment),
        "merchantId": account(merchant),
        "asset": asset,
        "amount": str(amount),
        "fee": str(fee),
        "feeAccount": account(999),
        "remainingHold": "0",
        "seq": str(seq or 0),
    }
    return Log(contract="payment-gateway", address=GATEWAY, event="PaymentCaptured", book="gateway", args=args, seq=seq)


def vault_deposited(owner: str, amount: int, *, asset: str = TOKEN) -> Log:
    """The vault's Deposited."""
    args = {"account": owner, "asset": asset, "amount": str(amount)}
    return Log(contract="legacy-vault", address=VAULT, event="Deposited", book="vault", args=args)


def requests(event: str, **args: str | int) -> Log:
    """An event of the description that joins and takes what remains."""
    return Log(contract="subscriptions", address=COORDINATOR, event=event, book="requests", args=args)


def deposit(to: int, amount: int, *, token: str = TOKEN, seq: int | None = None) -> list[Log]:
    """A tx: custody comes in, and is claimed."""
    return [moved(PAYER, GATEWAY, amount, token=token), deposited(to, amount, asset=token, seq=seq)]


@dataclass(slots=True)
class Block:
    """A block of the story with its events at revision 1, in log order."""

    number: int
    hash: str
    events: list[PaymentEvent]
    revision: int = 0

    @property
    def ref(self) -> BlockRef:
        return BlockRef(number=self.number, hash=self.hash)


@dataclass(slots=True)
class Story:
    """Publishes as it goes. ``records`` are what a consumer of the events topic sees."""

    partition_of: dict[str, int] = field(default_factory=dict)  # book → partition; 0 when not named
    partitions: int = 1
    stream_id: str = STREAM_ID
    first_number: int = 1
    records: list[Raw] = field(default_factory=list)
    rejected: list[Raw] = field(default_factory=list)
    chain: list[Block] = field(default_factory=list)
    finalized: int = 0
    incidents: set[str] = field(default_factory=set)  # that records name
    _seqs: dict[tuple[str, int], int] = field(default_factory=dict)
    _offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    def block(self, *txs: Sequence[Log], branch: str = "a", mark: bool = True, incident: str | None = None) -> Block:
        """Mines and publishes the next block; in the place of one that an incident took back, if it names one."""
        number = self.chain[-1].number + 1 if self.chain else self.first_number
        block = Block(number=number, hash=digest(f"block {branch} {number}"), events=[])
        log_index = 0
        for tx_index, tx in enumerate(txs):
            tx_hash = digest(f"tx {branch} {number} {tx_index}")
            last = {log.book: i for i, log in enumerate(tx)}
            for i, log in enumerate(tx):
                block.events.append(_event(log, block, tx_hash, tx_index, log_index, closes_tx=last[log.book] == i))
                log_index += 1
        self.apply(block, incident=incident)
        if mark:
            self.mark()
        return block

    def apply(self, block: Block, *, incident: str | None = None) -> None:
        """Publishes a block: its next odd revision."""
        block.revision += 1
        self.chain.append(block)
        for event in block.events:
            late = event.late or incident is not None
            self._put(event, "applied", block.revision, late=late, incident_id=incident)

    def retract(self, count: int) -> list[Block]:
        """Takes back the newest blocks, newest first; returns them oldest first."""
        return self._take_back(count, "retracted", None)

    def revoke(self, count: int, incident: str) -> list[Block]:
        """As ``retract``, of what was final: after an operator's resolve."""
        return self._take_back(count, "revoked", incident)

    def _take_back(self, count: int, op: str, incident: str | None) -> list[Block]:
        gone = [self.chain.pop() for _ in range(count)]
        for block in gone:
            block.revision += 1
            for event in reversed(block.events):
                self._put(event, op, block.revision, incident_id=incident)
        return gone[::-1]

    def _put(self, event: PaymentEvent, op: str, revision: int, **changes: Any) -> None:
        self.put(msgspec.structs.replace(event, op=op, revision=revision, **changes))

    def mark(self, *, finalized: int | None = None) -> None:
        """A watermark on every partition."""
        self.finalized = max(self.finalized, 0 if finalized is None else finalized)
        head = self.chain[-1]
        final = next((b.ref for b in self.chain if b.number == self.finalized), None)
        if final is None:
            final = BlockRef(number=min(self.finalized, self.first_number - 1), hash=digest("before"))
        watermark = Watermark(
            chain_id=CHAIN_ID,
            latest=head.ref,
            safe=final,
            finalized=final,
            latest_timestamp=BEGIN + BLOCK_SECONDS * head.number,
        )
        for partition in range(self.partitions):
            self.put(watermark, partition=partition)

    def reject(self, block: Block, *, revision: int = 1, op: str = "rejected", log_index: int = 90) -> Rejected:
        """A log that could not be decoded, or its retraction."""
        message = Rejected(
            op=op,  # type: ignore[arg-type]
            event_id=event_id(chain_id=CHAIN_ID, block_hash=bytes.fromhex(block.hash[2:]), position=log_index),
            revision=revision,
            chain_id=CHAIN_ID,
            block_number=block.number,
            block_hash=block.hash,
            block_timestamp=BEGIN + BLOCK_SECONDS * block.number,
            tx_hash=digest("tx rejected"),
            tx_index=0,
            log_index=log_index,
            address=GATEWAY,
            topics=[digest("topic")],
            data="0x1234",
            data_length=2,
            data_sha256=digest("data"),
            code="wrong_size",
            reason="2 bytes of data",
            contract="payment-gateway",
            book="gateway",
            description_version=registry().contract("payment-gateway").version,
        )
        self.put(message)
        return message

    def put(self, message: PaymentEvent | Watermark | Rejected, *, partition: int | None = None) -> Raw:
        """The next record of a stream, numbered."""
        if isinstance(message, PaymentEvent) and message.incident_id is not None:
            self.incidents.add(message.incident_id)
        kind = "rejected" if isinstance(message, Rejected) else "events"
        book = "" if isinstance(message, Watermark) else message.book
        where = self.partition_of.get(book, 0) if partition is None else partition
        seq = self._seqs[(kind, where)] = self._seqs.get((kind, where), 0) + 1
        offset = self._offsets[(kind, where)] = self._offsets.get((kind, where), -1) + (2 if seq % 7 == 0 else 1)
        position = StreamPosition(stream_id=self.stream_id, stream_seq=seq)
        raw = Raw(
            offset=offset,
            key=book.encode(),
            value=encode(message),
            headers=tuple(record_headers(message, position, partition=where)),
            partition=where,
        )
        (self.rejected if kind == "rejected" else self.records).append(raw)
        return raw

    def of(self, partition: int) -> list[Raw]:
        """The records of one partition of the events topic."""
        return [record for record in self.records if record.partition == partition]


def digest(text: str) -> str:
    return "0x" + hashlib.sha256(text.encode()).hexdigest()


def splits(records: Sequence[Raw], sizes: Sequence[int]) -> Iterator[Sequence[Raw]]:
    """The records in polls of these sizes, over and over."""
    start = turn = 0
    while start < len(records):
        size = max(sizes[turn % len(sizes)], 1)
        yield records[start : start + size]
        start, turn = start + size, turn + 1


def _event(log: Log, block: Block, tx_hash: str, tx_index: int, log_index: int, *, closes_tx: bool) -> PaymentEvent:
    return PaymentEvent(
        op="applied",
        event_id=event_id(chain_id=CHAIN_ID, block_hash=bytes.fromhex(block.hash[2:]), position=log_index),
        revision=1,
        chain_id=CHAIN_ID,
        block_number=block.number,
        block_hash=block.hash,
        block_timestamp=BEGIN + BLOCK_SECONDS * block.number,
        tx_hash=tx_hash,
        tx_index=tx_index,
        log_index=log_index,
        address=log.address,
        contract=log.contract,
        event=log.event,
        book=log.book,
        subject=log.args.get("accountId", log.address),
        args=log.args,
        amounts=[],
        correlation={},
        description_version=registry().contract(log.contract).version,
        contract_seq=None if log.seq is None else str(log.seq),
        closes_tx=closes_tx,
    )
