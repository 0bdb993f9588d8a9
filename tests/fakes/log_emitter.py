"""A contract that emits whatever log its caller asks for, so that tests can make any log on a real chain.

Call data: one byte with the number of topics (0…4), the topics, then the data of the log.
"""

from __future__ import annotations

from collections.abc import Sequence

_LOG0 = 0xA0


def call_data(topics: Sequence[bytes], data: bytes = b"") -> bytes:
    """What to send to the emitter for one log."""
    assert len(topics) <= 4
    assert all(len(topic) == 32 for topic in topics)
    return bytes([len(topics)]) + b"".join(topics) + data


def creation_code() -> bytes:
    """Creation code that returns the runtime code."""
    runtime = _runtime()
    size = len(runtime).to_bytes(2, "big")
    # PUSH2 size, PUSH1 14, PUSH1 0, CODECOPY, PUSH2 size, PUSH1 0, RETURN
    header = bytes([0x61, *size, 0x60, 14, 0x60, 0, 0x39, 0x61, *size, 0x60, 0, 0xF3])
    assert len(header) == 14
    return header + runtime


def _runtime() -> bytes:
    # [n] = first byte; [n off] = 1 + 32 n; [n off size] = calldatasize − off; copy the data to memory; [size n]
    start = bytes.fromhex("60003560001a8060051b6001018036038082600037905090")
    jumps_at = len(start)
    branches = [_branch(count) for count in range(5)]
    offset = jumps_at + 5 * 8 + 1
    jumps = b""
    for count, branch in enumerate(branches):
        # DUP1, PUSH1 count, EQ, PUSH2 offset, JUMPI
        jumps += bytes([0x80, 0x60, count, 0x14, 0x61, *offset.to_bytes(2, "big"), 0x57])
        offset += len(branch)
    return start + jumps + b"\x00" + b"".join(branches)


def _branch(count: int) -> bytes:
    topics = b"".join(bytes([0x60, 1 + 32 * i, 0x35]) for i in reversed(range(count)))  # PUSH1 place, CALLDATALOAD
    # JUMPDEST, POP n, topics, DUP size, PUSH1 0, LOGn, STOP
    return bytes([0x5B, 0x50]) + topics + bytes([0x80 + count, 0x60, 0, _LOG0 + count, 0x00])
