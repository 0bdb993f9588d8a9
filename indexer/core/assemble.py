"""From raw logs to the records of a block: dispatch, decode, name the event, or say why it was rejected. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec

from contracts.codec import EventCodec, Rejection
from contracts.messages import (
    ARGUMENT_BYTES_MAX,
    EVENT_RECORD_BYTES_MAX,
    PaymentEvent,
    Rejected,
    encode,
    event_id,
)
from indexer.core.blocks import ADDRESS_CHARACTERS, HASH_CHARACTERS, MalformedAnswer, RawLog, fixed_hex, quantity
from indexer.core.parts import StoredRecord

REJECTED_DATA_BYTES_MAX = ARGUMENT_BYTES_MAX
LOG_NUMBER_MAX = 2**32 - 1


Dispatch = Callable[[bytes, Sequence[bytes], int], EventCodec | None]
"""Address (20 bytes), topics and block number of a log → who decodes it; None: not ours (contracts.registry)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedLog:
    """A log whose place on the chain was checked. ``topics`` and ``data`` are the bytes to decode."""

    block_number: int
    block_hash: str
    block_timestamp: int
    tx_hash: str
    tx_index: int
    log_index: int
    address: str
    topics: tuple[bytes, ...]
    data: bytes

    def at_time(self, timestamp: int) -> PlacedLog:
        """The same log with its block's timestamp, Unix seconds."""
        return replace(self, block_timestamp=timestamp)


def placed(log: RawLog, *, block_timestamp: int | None) -> PlacedLog:
    """Checks the form of a log. Raises MalformedAnswer; a removed log is one, for we ask only for canonical blocks."""
    if log.removed:
        raise MalformedAnswer("a log is marked removed")
    timestamp = block_timestamp if block_timestamp is not None else quantity(log.block_timestamp, "blockTimestamp")
    if len(log.topics) > 4 or not log.data.startswith("0x"):
        raise MalformedAnswer("a log has more than four topics, or data that is not 0x hex")
    log_index = quantity(log.log_index, "logIndex")
    if log_index > LOG_NUMBER_MAX:
        raise MalformedAnswer(f"logIndex {log_index} is not a 32-bit number")
    try:
        topics = tuple(bytes.fromhex(topic[2:]) for topic in log.topics)
        data = bytes.fromhex(log.data[2:])
    except ValueError as exc:
        raise MalformedAnswer(f"a log's topics or data are not hex: {exc}") from None
    if any(len(topic) != 32 for topic in topics):
        raise MalformedAnswer("a topic is not 32 bytes long")
    return PlacedLog(
        block_number=quantity(log.block_number, "blockNumber"),
        block_hash=fixed_hex(log.block_hash, HASH_CHARACTERS, "blockHash"),
        block_timestamp=timestamp,
        tx_hash=fixed_hex(log.transaction_hash, HASH_CHARACTERS, "transactionHash"),
        tx_index=quantity(log.transaction_index, "transactionIndex"),
        log_index=log_index,
        address=fixed_hex(log.address, ADDRESS_CHARACTERS, "address"),
        topics=topics,
        data=data,
    )


def check_order(logs: Sequence[PlacedLog]) -> None:
    """Logs must be in chain order, without a log index twice. Raises MalformedAnswer."""
    before = (-1, -1)
    for log in logs:
        place = (log.block_number, log.log_index)
        if place <= before:
            raise MalformedAnswer(f"log {log.log_index} of block {log.block_number} comes twice or out of order")
        before = place


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeRecord:
    """A message as applied for the first time (revision 1), encoded, with its partition."""

    message: PaymentEvent | Rejected
    value: bytes
    partition: int

    def stored(self) -> StoredRecord:
        return StoredRecord(
            topic="events" if isinstance(self.message, PaymentEvent) else "rejected",
            partition=self.partition,
            value=msgspec.Raw(self.value),
        )


class Assembler:
    """Turns the logs of blocks into records, with the registry's dispatch and the topic's partitioner."""

    def __init__(self, *, chain_id: int, dispatch: Dispatch, partition_of: Callable[[str], int]) -> None:
        self._chain_id = chain_id
        self._dispatch = dispatch
        self._partition_of = partition_of

    def records(self, logs: Iterable[PlacedLog]) -> list[MadeRecord]:
        """The records of these logs, in their order; logs that are not ours make none."""
        made = [(log, codec, message) for log in logs for codec, message in self._message(log)]
        while True:
            closing = _last_of_each_tx(message for _, _, message in made)
            records = [self._record(message, closes_tx=i in closing) for i, (_, _, message) in enumerate(made)]
            oversized = [i for i, record in enumerate(records) if len(record.value) > EVENT_RECORD_BYTES_MAX]
            if not oversized:
                return records
            for i in oversized:
                log, codec, message = made[i]
                if isinstance(message, Rejected):
                    raise ValueError(f"rejected record of {len(records[i].value)} bytes: its bounds do not hold")
                reason = f"the record would have {len(records[i].value)} bytes, the limit is {EVENT_RECORD_BYTES_MAX}"
                made[i] = (log, codec, self._rejected(log, codec, message.event_id, "record_too_large", reason))

    def _message(self, log: PlacedLog) -> Iterator[tuple[EventCodec, PaymentEvent | Rejected]]:
        codec = self._dispatch(bytes.fromhex(log.address[2:]), log.topics, log.block_number)
        if codec is None:
            return
        outcome = codec.decode(log.topics, log.data)
        if outcome is None:
            return
        identity = event_id(
            chain_id=self._chain_id, block_hash=bytes.fromhex(log.block_hash[2:]), position=log.log_index
        )
        if isinstance(outcome, Rejection):
            yield codec, self._rejected(log, codec, identity, outcome.code, outcome.reason)
            return
        yield (
            codec,
            PaymentEvent(
                op="applied",
                event_id=identity,
                revision=1,
                chain_id=self._chain_id,
                block_number=log.block_number,
                block_hash=log.block_hash,
                block_timestamp=log.block_timestamp,
                tx_hash=log.tx_hash,
                tx_index=log.tx_index,
                log_index=log.log_index,
                address=log.address,
                contract=codec.contract,
                event=codec.event,
                book=outcome.book,
                subject=outcome.subject,
                args=outcome.args,
                amounts=outcome.amounts,
                correlation=outcome.correlation,
                description_version=codec.version,
                contract_seq=outcome.contract_seq,
                closes_tx=False,
            ),
        )

    def _rejected(self, log: PlacedLog, codec: EventCodec, identity: str, code: str, reason: str) -> Rejected:
        return Rejected(
            op="rejected",
            event_id=identity,
            revision=1,
            chain_id=self._chain_id,
            block_number=log.block_number,
            block_hash=log.block_hash,
            block_timestamp=log.block_timestamp,
            tx_hash=log.tx_hash,
            tx_index=log.tx_index,
            log_index=log.log_index,
            address=log.address,
            topics=["0x" + topic.hex() for topic in log.topics],
            data="0x" + log.data[:REJECTED_DATA_BYTES_MAX].hex(),
            data_length=len(log.data),
            data_sha256="0x" + hashlib.sha256(log.data).hexdigest(),
            code=code,
            reason=reason,
            contract=codec.contract,
            book=codec.book,
            description_version=codec.version,
        )

    def _record(self, message: PaymentEvent | Rejected, *, closes_tx: bool) -> MadeRecord:
        if isinstance(message, PaymentEvent) and closes_tx:
            message = msgspec.structs.replace(message, closes_tx=True)
        return MadeRecord(message=message, value=encode(message), partition=self._partition_of(message.book))


def _last_of_each_tx(messages: Iterable[PaymentEvent | Rejected]) -> set[int]:
    """Positions of the events that are the last of their tx in their book."""
    last: dict[tuple[str, str, str], int] = {}
    for i, message in enumerate(messages):
        if isinstance(message, PaymentEvent):
            last[(message.block_hash, message.tx_hash, message.book)] = i
    return set(last.values())
