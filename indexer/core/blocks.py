"""Headers and raw logs as the node gives them (Ethereum JSON-RPC API), typed and checked. No I/O.

Hashes and addresses are lower-case ``0x`` hex here; they become bytes only where they are hashed or decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from contracts.messages import BlockRef

HASH_CHARACTERS: Final = 66
ADDRESS_CHARACTERS: Final = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What we keep of a block header."""

    number: int
    hash: str
    parent_hash: str
    timestamp: int  # Unix seconds
    logs_bloom: bytes  # 256 bytes

    @property
    def ref(self) -> BlockRef:
        return BlockRef(number=self.number, hash=self.hash)


class RawLog(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One log of eth_getLogs; quantities are 0x hex as on the wire."""

    address: str
    topics: list[str]
    data: str
    block_number: str | None
    block_hash: str | None
    transaction_hash: str | None
    transaction_index: str | None
    log_index: str | None
    block_timestamp: str | None = None
    removed: bool = False


class RawBlock(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The header fields that we read of eth_getBlockByHash and eth_getBlockByNumber."""

    number: str | None
    hash: str | None
    parent_hash: str
    timestamp: str
    logs_bloom: str


class MalformedAnswer(ValueError):
    """The node's answer does not have the form that the JSON-RPC API promises."""


def quantity(value: str | None, what: str) -> int:
    """A 0x quantity as int (0 … 2^64−1). Raises MalformedAnswer."""
    if value is None or not value.startswith("0x") or not 3 <= len(value) <= 18:
        raise MalformedAnswer(f"{what} is {value!r}, not a 0x quantity")
    try:
        return int(value, 16)
    except ValueError:
        raise MalformedAnswer(f"{what} is {value!r}, not a 0x quantity") from None


def fixed_hex(value: str | None, characters: int, what: str) -> str:
    """A 0x hex value of known length, lower-cased. Raises MalformedAnswer."""
    if value is None or len(value) != characters or not value.startswith("0x"):
        raise MalformedAnswer(f"{what} is {value!r}, not 0x hex of {characters - 2} digits")
    try:
        size = len(bytes.fromhex(value[2:]))
    except ValueError:
        raise MalformedAnswer(f"{what} is {value!r}, not hex") from None
    if 2 * size != characters - 2:  # fromhex overlooks blanks
        raise MalformedAnswer(f"{what} is {value!r}, not hex")
    return value.lower()


def header_of(block: RawBlock) -> Header:
    """Checks the form of every field. Raises MalformedAnswer."""
    bloom = fixed_hex(block.logs_bloom, 514, "logsBloom")
    return Header(
        number=quantity(block.number, "block number"),
        hash=fixed_hex(block.hash, HASH_CHARACTERS, "block hash"),
        parent_hash=fixed_hex(block.parent_hash, HASH_CHARACTERS, "parentHash"),
        timestamp=quantity(block.timestamp, "timestamp"),
        logs_bloom=bytes.fromhex(bloom[2:]),
    )
