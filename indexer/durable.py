"""Reads the state topic: all of it at a start, and later the parts of blocks that memory has released.

A part that is not at the offset where it was written is looked for by key, in one pass over the topic. What is found is
checked against the block's digest: a part that differs ends in StateRefused, and nothing is published of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

import structlog

from indexer.core.parts import Parts, digest_of, part_hash
from indexer.core.state import (
    OWNER_KEY,
    BlockState,
    LoadedState,
    Owner,
    StateFold,
    StateUnreadable,
    decode_owner,
)
from indexer.errors import Fenced, StateRefused
from indexer.ports import StatePort

_log = structlog.get_logger(__name__)


async def read_state(state: StatePort, topic: str, *, to_the_very_end: bool, parts_bytes_max: int) -> LoadedState:
    """The whole state, with no more than ``parts_bytes_max`` of its parts. Raises StateRefused, BrokerUnavailable."""
    fold = StateFold(parts_bytes_max=parts_bytes_max)
    try:
        async with aclosing(state.read(topic, to_the_very_end=to_the_very_end)) as records:
            async for offset, key, value in records:
                fold.put(offset, key, value)
        return fold.loaded()
    except StateUnreadable as exc:
        raise StateRefused(
            f"the state topic cannot be trusted: {exc}; nothing is published. Restore it, or start new streams with "
            "another [kafka] topic_prefix"
        ) from exc


async def read_parts(
    state: StatePort, topic: str, blocks: Sequence[BlockState], *, instance_id: str
) -> dict[str, Parts]:
    """The parts of these blocks, by block hash, for the instance that believes to own the chain.

    Raises StateRefused, BrokerUnavailable, and Fenced when parts are gone because another instance has the chain now.
    """
    wanted = {key for block in blocks for key in block.part_keys}
    offsets = sorted(offset for block in blocks for offset in block.offsets if offset >= 0)
    found = {key: value for _, key, value in await state.read_at(topic, offsets) if key in wanted and value is not None}
    if wanted - found.keys():
        _log.warning("parts moved on the state topic; looking through all of it", parts=len(wanted - found.keys()))
        found, owner = await _look_through(state, topic, wanted)
        if wanted - found.keys() and owner is not None and owner.instance_id != instance_id:
            raise Fenced(f"{owner.instance_id} has the chain, and has finished blocks that we still hold")
    return {block.header.hash: _checked(block, found) for block in blocks}


async def _look_through(state: StatePort, topic: str, wanted: set[str]) -> tuple[dict[str, bytes], Owner | None]:
    """The parts and who owns the chain, to the very end: the marker of a kafka_tx of ours may still be on its way when
    its commit has returned.
    """
    found: dict[str, bytes] = {}
    owner: bytes | None = None
    async with aclosing(state.read(topic, to_the_very_end=True)) as records:
        async for _, key, value in records:
            if key == OWNER_KEY:
                owner = value
            elif key in wanted and value is not None:
                found[key] = value
            elif key in wanted:
                found.pop(key, None)
    try:
        return found, None if owner is None else decode_owner(owner)
    except StateUnreadable as exc:
        raise StateRefused(f"the state topic cannot be trusted: {exc}; nothing is published") from exc


def _checked(block: BlockState, found: dict[str, bytes]) -> Parts:
    parts = tuple(found[key] for key in block.part_keys if key in found)
    if len(parts) != block.parts or digest_of(map(part_hash, parts)) != block.digest:
        raise StateRefused(
            f"the state topic changed: of block {block.header.number} {block.header.hash}, {len(parts)} of "
            f"{block.parts} parts are there, or one has other content. Nothing is published; restore the topic"
        )
    return parts
