"""The chain view: which blocks we hold, and what a new header means. A pure state machine (DESIGN §5).

The window is hash-linked from the published finalized block to the published head::

    finalized            head
       [F] ← [a] ← [b] ← [c]          held, published
                └─ [b'] ← [c'] ← [d']  candidate: linked downwards until it meets the window

A reorg needs positive evidence: another hash at a height that we hold, and a branch that links to the window. A head
that went backwards, or a block that a node does not have, changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from contracts.messages import BlockRef
from indexer.core.blocks import Header


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainView:
    """What we have published, and the branch that is being linked to it (oldest first)."""

    window: tuple[Header, ...]  # window[0] is the published finalized block, window[-1] the published head
    candidate: tuple[Header, ...] = ()

    @property
    def finalized(self) -> Header:
        return self.window[0]

    @property
    def head(self) -> Header:
        return self.window[-1]

    def at(self, number: int) -> Header | None:
        """The header that we hold at a height, or None."""
        index = number - self.window[0].number
        return self.window[index] if 0 <= index < len(self.window) else None

    def holds(self, ref: BlockRef) -> bool:
        held = self.at(ref.number)
        return held is not None and held.hash == ref.hash


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSeen:
    """A node says that this is a block of the canonical chain, most often its newest."""

    header: Header


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderFetched:
    """The answer to FetchHeader; None when the node does not have that block."""

    wanted: BlockRef
    header: Header | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalized:
    """A node says that this block is finalized (tag or depth)."""

    header: Header


Observation = HeadSeen | HeaderFetched | Finalized


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchHeader:
    """The candidate's parent is missing: fetch it by hash."""

    ref: BlockRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """The candidate links: retract what is above the ancestor (newest first), apply the branch (oldest first)."""

    ancestor: Header
    retract: tuple[Header, ...]
    apply: tuple[Header, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalize:
    """Blocks that became final (oldest first), all of them in the window."""

    blocks: tuple[Header, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViolationSuspected:
    """A chain that contradicts our finalized block: ``seen`` stands at or above it and does not descend from it."""

    ours: Header
    seen: Header


Action = FetchHeader | Switch | Finalize | ViolationSuspected
Step = tuple[ChainView, tuple[Action, ...]]


def step(view: ChainView, observation: Observation) -> Step:
    """What an observation changes, and what has to be done. Actions that publish take effect by committed()."""
    match observation:
        case HeadSeen(header=header):
            return _head_seen(view, header)
        case HeaderFetched(wanted=wanted, header=header):
            return _header_fetched(view, wanted, header)
        case Finalized(header=header):
            return _finalized(view, header)


def _head_seen(view: ChainView, header: Header) -> Step:
    if view.holds(header.ref):
        return replace(view, candidate=()), ()
    if header.number < view.finalized.number:
        return view, ()  # below what we hold: a node far behind, and no evidence of anything
    if header.number == view.finalized.number:
        return replace(view, candidate=()), (ViolationSuspected(ours=view.finalized, seen=header),)
    top = view.candidate[-1] if view.candidate else None
    if top is not None and header.parent_hash == top.hash and header.number == top.number + 1:
        return _link(replace(view, candidate=(*view.candidate, header)))
    if top is not None and header.hash == top.hash:
        return _link(view)
    return _link(replace(view, candidate=(header,)))


def _header_fetched(view: ChainView, wanted: BlockRef, header: Header | None) -> Step:
    if not view.candidate or view.candidate[0].parent_hash != wanted.hash:
        return view, ()  # an answer to a question that is no longer asked
    if header is None:
        return replace(view, candidate=()), ()  # lag, or the branch vanished: wait for the next head
    if header.ref != wanted:
        raise ValueError(f"asked for block {wanted.number} {wanted.hash}, got {header.number} {header.hash}")
    return _link(replace(view, candidate=(header, *view.candidate)))


def _link(view: ChainView) -> Step:
    bottom = view.candidate[0]
    parent = BlockRef(number=bottom.number - 1, hash=bottom.parent_hash)
    if view.holds(parent):
        ancestor = view.at(parent.number)
        assert ancestor is not None
        above = view.window[ancestor.number - view.finalized.number + 1 :]
        return view, (Switch(ancestor=ancestor, retract=tuple(reversed(above)), apply=view.candidate),)
    if parent.number <= view.finalized.number:
        return replace(view, candidate=()), (ViolationSuspected(ours=view.finalized, seen=bottom),)
    return view, (FetchHeader(ref=parent),)


def _finalized(view: ChainView, header: Header) -> Step:
    if header.number <= view.finalized.number or not view.holds(header.ref):
        return view, ()  # monotone, and only a block of ours
    count = header.number - view.finalized.number
    return view, (Finalize(blocks=view.window[1 : count + 1]),)


def retracted(view: ChainView, header: Header) -> ChainView:
    """The head was retracted, and its retraction is committed."""
    if view.head.hash != header.hash or len(view.window) == 1:
        raise ValueError(f"block {header.number} {header.hash} is not the head above finality")
    return replace(view, window=view.window[:-1])


def applied(view: ChainView, header: Header) -> ChainView:
    """The block is published on top of the head, and that is committed."""
    if header.parent_hash != view.head.hash or header.number != view.head.number + 1:
        raise ValueError(f"block {header.number} {header.hash} does not link to the head {view.head.hash}")
    candidate = view.candidate[1:] if view.candidate and view.candidate[0].hash == header.hash else view.candidate
    return ChainView(window=(*view.window, header), candidate=candidate)


def finalized_through(view: ChainView, header: Header) -> ChainView:
    """The block is published as finalized, and that is committed."""
    if not view.holds(header.ref):
        raise ValueError(f"block {header.number} {header.hash} is not held")
    still_open = view.candidate if view.candidate and view.candidate[0].number > header.number else ()
    return ChainView(window=view.window[header.number - view.finalized.number :], candidate=still_open)


def doubted(view: ChainView) -> ChainView:
    """An answer contradicted itself or another one: what was linked so far may come from the same source."""
    return replace(view, candidate=())


def rebased(header: Header) -> ChainView:
    """A view that starts at a finalized block (first start, or after a backfill chunk)."""
    return ChainView(window=(header,))
