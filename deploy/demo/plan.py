"""What the demo is going to do, as values: calls in blocks, one reorg, and quiet blocks at the end. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Ref:
    """The address of a person, a contract or an asset, known once the chain runs."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One tx: a function of a contract, called from a person's account."""

    sender: str
    contract: str  # gateway, vault, or the symbol of a token
    function: str
    args: tuple[Any, ...]  # ABI values; a Ref stands for an address
    value_wei: int = 0
    about: str  # for people: what happens


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The calls of one block, in their order."""

    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reorg:
    """Replaces the last ``depth`` blocks by as many others.

    They hold the same calls, but ``dropped`` is gone for good and ``moved`` stands in the last of them.
    """

    depth: int
    dropped: Call
    moved: Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole run. Everything in it follows from the seed."""

    seed: int
    setup: tuple[Block, ...]
    business: tuple[Block | Reorg, ...]
    quiet_blocks: int  # empty ones, so that the last call becomes final
    silent: Call  # the vault's withdrawal without an event: the one break that has to be found

    def count(self, function: str, contract: str) -> int:
        """How many calls of a function stand in the end."""
        made = [
            call.contract == contract and call.function == function
            for step in (*self.setup, *self.business)
            if isinstance(step, Block)
            for call in step.calls
        ]
        dropped = [
            step.dropped.contract == contract and step.dropped.function == function
            for step in self.business
            if isinstance(step, Reorg)
        ]
        return sum(made) - sum(dropped)
