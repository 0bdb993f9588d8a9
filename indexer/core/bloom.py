"""The logs bloom of a block header (Yellow Paper §4.3.1): may this block hold a log of that address or topic?

A bloom never denies what is there; it may affirm what is not. So "absent" is proof and "present" is a hint.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from eth_hash.auto import keccak

BLOOM_BITS = 2048


@lru_cache(maxsize=1 << 16)
def bits_of(value: bytes) -> int:
    """The three bits that a 20-byte address or a 32-byte topic sets, as a 2048-bit mask."""
    digest = keccak(value)
    mask = 0
    for i in (0, 2, 4):
        mask |= 1 << (int.from_bytes(digest[i : i + 2], "big") & (BLOOM_BITS - 1))
    return mask


def contains(bloom: int, value: bytes) -> bool:
    """Whether ``bloom`` (256 bytes, big endian, as int) may hold ``value``."""
    mask = bits_of(value)
    return bloom & mask == mask


def bloom_of(logs: Iterable[tuple[str, Sequence[bytes]]]) -> bytes:
    """The 256 bytes that a block with these logs has: (address as 0x hex, topics) of every log."""
    value = 0
    for address, topics in logs:
        value |= bits_of(bytes.fromhex(address[2:]))
        for topic in topics:
            value |= bits_of(topic)
    return value.to_bytes(BLOOM_BITS // 8, "big")


def may_hold_logs(bloom: bytes, *, addresses: frozenset[bytes], topic0s: frozenset[bytes]) -> bool:
    """Whether a block with this bloom may hold a log that we watch."""
    if not any(bloom):
        return False
    value = int.from_bytes(bloom, "big")
    return any(contains(value, topic) for topic in topic0s) and any(contains(value, address) for address in addresses)
