"""Cuts what has to be published into changes of bounded size, at block borders, and says the view after each. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from contracts.messages import BlockRef
from indexer.core.blocks import Header
from indexer.core.chain import ChainView, Finalize, Finalized, applied, finalized_through, retracted, step
from indexer.core.compose import Change, change_bytes
from indexer.core.state import BlockState


@dataclass(frozen=True, slots=True, kw_only=True)
class Tips:
    """What the node says of the chain's ends. ``safe`` and ``finalized`` at or below ``latest``."""

    latest: Header
    safe: Header
    finalized: Header


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One change and the view that is true once it is committed."""

    change: Change
    view: ChainView


def plan(
    view: ChainView,
    *,
    blocks: Mapping[str, BlockState],
    retract: Sequence[Header],
    apply: Sequence[BlockState],
    tips: Tips,
    safe_before: BlockRef,
    bytes_max: int,
) -> Iterator[Planned]:
    """The changes that retract, apply and finalize, each of about ``bytes_max`` at most, in the order to commit them.

    ``blocks`` holds every block of the window and the orphans, by hash; ``apply`` carries the revision to publish.
    """
    for group in _grouped([blocks[header.hash] for header in retract], bytes_max):
        for block in group:
            view = retracted(view, block.header)
        change = Change(head=view.head, safe=_safe(view, tips, safe_before), finalized=view.finalized, retract=group)
        yield Planned(change=change, view=view)
    known = dict(blocks) | {block.header.hash: block for block in apply}
    for group in _grouped(apply, bytes_max):
        for block in group:
            view = applied(view, block.header)
        change = Change(head=view.head, safe=_safe(view, tips, safe_before), finalized=view.finalized, apply=group)
        yield Planned(change=change, view=view)
    _, actions = step(view, Finalized(header=tips.finalized))
    becoming_final = [header for action in actions if isinstance(action, Finalize) for header in action.blocks]
    for group in _grouped([known[header.hash] for header in becoming_final], bytes_max):
        last = group[-1].header
        below = view.finalized.number
        view = finalized_through(view, last)
        final_hashes = {block.header.hash for block in group}
        orphans = tuple(
            block
            for block in known.values()
            if below < block.header.number <= last.number and block.header.hash not in final_hashes
        )
        change = Change(
            head=view.head, safe=_safe(view, tips, safe_before), finalized=last, finalize=group, forget=orphans
        )
        yield Planned(change=change, view=view)


def merged(planned: Sequence[Planned], bytes_max: int) -> Iterator[Planned]:
    """Joins neighbours while they stay within ``bytes_max``, so that a usual block costs one kafka_tx."""
    waiting: list[Planned] = []
    size = 0
    for item in planned:
        weight = _weight(item.change)
        if waiting and size + weight > bytes_max:
            yield _joined(waiting)
            waiting, size = [], 0
        waiting.append(item)
        size += weight
    if waiting:
        yield _joined(waiting)


def _joined(planned: Sequence[Planned]) -> Planned:
    last = planned[-1]
    change = Change(
        head=last.change.head,
        safe=last.change.safe,
        finalized=last.change.finalized,
        retract=tuple(block for p in planned for block in p.change.retract),
        apply=tuple(block for p in planned for block in p.change.apply),
        finalize=tuple(block for p in planned for block in p.change.finalize),
        forget=tuple(block for p in planned for block in p.change.forget),
    )
    return Planned(change=change, view=last.view)


def _weight(change: Change) -> int:
    return sum(change_bytes(block) for block in (*change.retract, *change.apply, *change.finalize))


def _grouped(blocks: Sequence[BlockState], bytes_max: int) -> Iterator[tuple[BlockState, ...]]:
    group: list[BlockState] = []
    size = 0
    for block in blocks:
        weight = change_bytes(block)
        if group and size + weight > bytes_max:
            yield tuple(group)
            group, size = [], 0
        group.append(block)
        size += weight
    if group:
        yield tuple(group)


def _safe(view: ChainView, tips: Tips, before: BlockRef) -> BlockRef:
    """The node's safe block if it is ours, else what was safe before if we still hold it, else the finalized block."""
    for ref in (tips.safe.ref, before):
        if view.holds(ref) and ref.number >= view.finalized.number:
            return ref
    return view.finalized.ref
