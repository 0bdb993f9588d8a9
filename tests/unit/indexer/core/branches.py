"""Small block trees for tests of the core."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import msgspec

from contracts.messages import PaymentEvent, encode, event_id
from indexer.core.blocks import Header
from indexer.core.parts import Parts, StoredRecord
from indexer.core.state import BlockState, new_block


def block_hash(label: str) -> str:
    return "0x" + hashlib.sha256(label.encode()).hexdigest()


def header(number: int, branch: str, parent: Header | None = None) -> Header:
    """A block of a branch; its hash depends on number, branch and parent."""
    parent_hash = parent.hash if parent else block_hash("nothing")
    return Header(
        number=number,
        hash=block_hash(f"{number} {branch} {parent_hash}"),
        parent_hash=parent_hash,
        timestamp=1_700_000_000 + 12 * number,
        logs_bloom=bytes(256),
    )


def branch(parent: Header, name: str, length: int) -> list[Header]:
    """``length`` blocks on top of ``parent``, oldest first."""
    blocks = [parent]
    for _ in range(length):
        blocks.append(header(blocks[-1].number + 1, name, blocks[-1]))
    return blocks[1:]


GENESIS = header(0, "genesis")


def event(at: Header, log_index: int, *, book: str = "gateway") -> PaymentEvent:
    return PaymentEvent(
        op="applied",
        event_id=event_id(chain_id=31337, block_hash=bytes.fromhex(at.hash[2:]), position=log_index),
        revision=1,
        chain_id=31337,
        block_number=at.number,
        block_hash=at.hash,
        block_timestamp=at.timestamp,
        tx_hash=block_hash(f"tx {at.number} {log_index}"),
        tx_index=0,
        log_index=log_index,
        address="0x" + "11" * 20,
        contract="payment-gateway",
        event="Deposited",
        book=book,
        subject="0x01",
        args={"received": str(log_index)},
        amounts=[],
        correlation={},
        description_version="0x" + "22" * 32,
    )


def records_at(at: Header, events: int) -> list[StoredRecord]:
    return [
        StoredRecord(topic="events", partition=i % 2, value=msgspec.Raw(encode(event(at, i)))) for i in range(events)
    ]


def block_state(at: Header, events: int = 1, *, canonical: bool = True, revision: int = 1) -> BlockState:
    return replace(new_block(at, records_at(at, events)).state, canonical=canonical, revision=revision)


def parts_of(block: BlockState) -> Parts:
    """The parts of a block that block_state made."""
    return new_block(block.header, records_at(block.header, block.records)).parts


def body(value: bytes) -> dict[str, object]:
    decoded: dict[str, object] = json.loads(value)
    return decoded
