"""Opens a chain for publishing: wait as standby, take the transactional id, load durable state, refuse what is wrong.

What comes out is an open session; whatever fails afterwards closes it, and a new one is opened from durable state
alone.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import structlog

from contracts.messages import BlockRef, RegistryRecord, Topics
from indexer.core.blocks import Header
from indexer.core.chain import ChainView
from indexer.core.compose import Change, KafkaTx, compose, heartbeat, latched
from indexer.core.ownership import foreign_and_fresh
from indexer.core.parts import UNFINALIZED_BYTES_MAX, Parts, PartShelf
from indexer.core.state import (
    OWNER_KEY,
    STREAM_KINDS,
    BlockState,
    Cursor,
    Latch,
    LoadedState,
    Owner,
    StateUnreadable,
    canonical_window,
    decode_owner,
    finalized_header,
)
from indexer.durable import read_parts, read_state
from indexer.errors import ConfigurationRefused, Fenced, Latched, ResolveRefused, StateRefused, Superseded
from indexer.fetch import Fetcher
from indexer.ports import ClockPort, PublisherPort, StatePort

_T = TypeVar("_T")
WATERMARK_INTERVAL_MS: Final = 1_000
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractStart:
    """From which block a described contract is followed."""

    contract: str
    start_block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPlan:
    """What this instance wants to follow."""

    chain_id: int
    partitions: int
    topics: Topics
    instance_id: str
    lease_ms: int
    registry: Sequence[RegistryRecord]
    starts: Sequence[ContractStart]
    unfinalized_bytes_max: int = UNFINALIZED_BYTES_MAX  # of parts in memory; older ones are read again when needed

    @property
    def start_block(self) -> int:
        return min(start.start_block for start in self.starts)


class Session:
    """An open producer and the state that it continues from. Only ``publish`` changes anything."""

    def __init__(
        self, *, plan: ChainPlan, publisher: PublisherPort, clock: ClockPort, state: StatePort, loaded: LoadedState
    ) -> None:
        if loaded.cursor is None:
            raise ValueError("a session needs a cursor")
        self.plan = plan
        self.cursor: Cursor = loaded.cursor
        self.blocks: dict[str, BlockState] = dict(loaded.blocks)
        self.view = ChainView(window=canonical_window(loaded.cursor, loaded.blocks))
        self._shelf = PartShelf(bytes_max=plan.unfinalized_bytes_max)
        for block_hash, parts in loaded.parts.items():
            self._shelf.put(block_hash, parts)
        self._publisher = publisher
        self._state = state
        self._clock = clock
        self._started_at_ms = clock.now_ms()
        self._lease_until_ms = 0
        self._watermarks_at_ms = 0
        self._watermarked: tuple[BlockRef, BlockRef] | None = None  # head and finalized that all partitions know

    @property
    def lease_needs_renewal(self) -> bool:
        return self._clock.now_ms() > self._lease_until_ms - 2 * self.plan.lease_ms // 3

    async def parts_of(self, change: Change, fetched: Mapping[str, Parts]) -> dict[str, Parts]:
        """What ``publish`` needs of a change: from ``fetched``, from memory, else from the state topic.

        Raises StateRefused, BrokerUnavailable, Fenced.
        """
        parts: dict[str, Parts] = {}
        released: list[BlockState] = []
        for block in change.restated:
            at_hand = fetched.get(block.header.hash) if block.parts else ()
            if at_hand is None:
                at_hand = self._shelf.get(block.header.hash)
            if at_hand is None:
                released.append(block)
            else:
                parts[block.header.hash] = at_hand
        if released:
            parts |= await read_parts(self._state, self.plan.topics.state, released, instance_id=self.plan.instance_id)
        return parts

    async def publish(
        self,
        change: Change,
        view: ChainView,
        *,
        parts: Mapping[str, Parts] | None = None,
        registry: Sequence[RegistryRecord] = (),
        traceparent: str | None = None,
        received_ms: int | None = None,
    ) -> KafkaTx:
        """Commits one change; only then memory follows. Raises PublisherLost, Fenced: then this session is over.

        ``parts`` of every block that the change restates, see parts_of.
        """
        now = self._clock.now_ms()
        moved = change.finalized.number != self.cursor.finalized.number
        everywhere = moved or now - self._watermarks_at_ms >= WATERMARK_INTERVAL_MS
        tx = compose(
            self.cursor,
            change,
            parts=parts or {},
            owner=self._owner(now),
            all_partitions=everywhere,
            registry=registry,
            traceparent=traceparent,
            received_ms=received_ms,
        )
        offsets = await self._commit(tx, now)
        if everywhere:
            self._watermarks_at_ms = now
            self._watermarked = (tx.cursor.head, tx.cursor.finalized)
        written = {key: offset for (key, _), offset in zip(tx.state, offsets, strict=True)}
        for block in tx.blocks:
            at = block.offsets or tuple(written[key] for key in block.part_keys)
            self.blocks[block.header.hash] = replace(block, offsets=at)
            if block.canonical and parts is not None:
                self._shelf.put(block.header.hash, parts[block.header.hash])
        for block in (*change.finalize, *change.forget):
            self.blocks.pop(block.header.hash, None)
            self._shelf.drop(block.header.hash)
        self.view = view
        return tx

    @property
    def watermarks_due_ms(self) -> int | None:
        """In how many ms partitions have to be told of a head that they do not know; None when all know it."""
        if self._watermarked == (self.cursor.head, self.cursor.finalized):
            return None
        return max(self._watermarks_at_ms + WATERMARK_INTERVAL_MS - self._clock.now_ms(), 0)

    async def publish_watermarks(self) -> None:
        """Tells every partition how far the chain is: a block without events is news too."""
        change = Change(head=self.view.head, safe=self.cursor.safe, finalized=self.view.finalized)
        await self.publish(change, self.view)

    async def renew_lease(self) -> None:
        """Commits a kafka_tx that only says that we are alive."""
        now = self._clock.now_ms()
        await self._commit(heartbeat(self.cursor, self._owner(now)), now)

    async def latch(self, latch: Latch) -> None:
        """Commits the cursor with a latch and nothing else."""
        await self.commit(lambda cursor, owner: latched(cursor, latch, owner))

    async def commit(self, made: Callable[[Cursor, Owner], KafkaTx]) -> KafkaTx:
        """Commits what ``made`` composes from the cursor and a fresh owner record. Memory of blocks does not follow."""
        now = self._clock.now_ms()
        tx = made(self.cursor, self._owner(now))
        await self._commit(tx, now)
        return tx

    async def kept(self, call: Awaitable[_T]) -> _T:
        """Awaits a node (or nothing), and renews the lease meanwhile. Never used around a publish."""
        task = asyncio.ensure_future(call)
        try:
            while True:
                done, _ = await asyncio.wait({task}, timeout=self.plan.lease_ms / 3000)
                if done:
                    return task.result()
                if self.lease_needs_renewal:
                    await self.renew_lease()
        finally:
            task.cancel()

    async def release(self) -> None:
        """Gives the lease up, so that a standby need not wait for it to run out."""
        owner = Owner(instance_id=self.plan.instance_id, lease_until_ms=0, started_at_ms=self._started_at_ms)
        await self._publisher.publish(heartbeat(self.cursor, owner))

    async def close(self) -> None:
        await self._publisher.close()

    def _owner(self, now_ms: int) -> Owner:
        return Owner(
            instance_id=self.plan.instance_id,
            lease_until_ms=now_ms + self.plan.lease_ms,
            started_at_ms=self._started_at_ms,
        )

    async def _commit(self, tx: KafkaTx, now_ms: int) -> Sequence[int]:
        offsets = await self._publisher.publish(tx)
        self.cursor = tx.cursor
        self._lease_until_ms = now_ms + self.plan.lease_ms
        return offsets


async def open_session(
    plan: ChainPlan,
    *,
    fetcher: Fetcher,
    state: StatePort,
    publisher: PublisherPort,
    clock: ClockPort,
    standby: Callable[[str], None],
) -> Session:
    """Takes the chain over.

    Waits while a foreign lease is fresh (``standby`` is told whose). Raises RetryableError, ConfigurationRefused,
    StateRefused, Latched; on any error the publisher is closed.
    """
    try:
        loaded = await _taken_over(plan, state=state, publisher=publisher, clock=clock, standby=standby)
        first = loaded.cursor is None
        if first:
            await _refuse_lost_state(plan, state)
            loaded = LoadedState(cursor=await _first_cursor(plan, fetcher), owner=None, blocks={}, parts={})
        assert loaded.cursor is not None
        await _refuse_lost_streams(plan, loaded.cursor, state)
        if loaded.cursor.latch is not None:
            raise Latched(latch_text(loaded.cursor.latch))
        await refuse_other_chain(plan, loaded.cursor, fetcher)
        session = Session(plan=plan, publisher=publisher, clock=clock, state=state, loaded=loaded)
        await _announce(session, first=first)
    except BaseException:
        await publisher.close()
        raise
    _log.info(
        "chain opened",
        chain=plan.topics.chain,
        instance=plan.instance_id,
        head=session.cursor.head.number,
        finalized=session.cursor.finalized.number,
        first_start=first,
    )
    return session


async def open_latched(
    plan: ChainPlan,
    *,
    fetcher: Fetcher,
    state: StatePort,
    publisher: PublisherPort,
    clock: ClockPort,
    standby: Callable[[str], None],
) -> Session:
    """Takes a latched chain over, to resolve it; takes the lease, publishes nothing.

    Raises as open_session, and ResolveRefused when the chain is not latched.
    """
    try:
        loaded = await _taken_over(plan, state=state, publisher=publisher, clock=clock, standby=standby)
        latched_cursor(loaded)
        session = Session(plan=plan, publisher=publisher, clock=clock, state=state, loaded=loaded)
        await refuse_other_chain(plan, session.cursor, fetcher)
        refuse_other_descriptions(plan, session.cursor, first=False)
        await session.renew_lease()
    except BaseException:
        await publisher.close()
        raise
    return session


def latched_cursor(loaded: LoadedState) -> tuple[Cursor, Latch]:
    """The cursor of a latched chain and its latch. Raises ResolveRefused when there is nothing to resolve."""
    cursor = loaded.cursor
    if cursor is None:
        raise ResolveRefused("this chain has never been published: there is nothing to resolve")
    if cursor.latch is None:
        raise ResolveRefused(
            f"the chain is not latched: there is nothing to resolve. Published up to block {cursor.head.number}, "
            f"final up to {cursor.finalized.number}"
        )
    if cursor.latch.ours != cursor.finalized:
        raise StateRefused(
            f"the latch is for block {cursor.latch.ours.number} {cursor.latch.ours.hash}, but block "
            f"{cursor.finalized.number} {cursor.finalized.hash} is published as final: the state contradicts itself"
        )
    return cursor, cursor.latch


def latch_text(latch: Latch) -> str:
    """What happened, and the command that goes on."""
    return (
        f"latched: {latch.reason}. Nothing is published until it is resolved. Look at both blocks on nodes that you "
        f"trust; then: chainbooks-indexer resolve --block-hash {latch.seen.hash}"
    )


async def judge_fencing(plan: ChainPlan, *, state: StatePort, clock: ClockPort) -> None:
    """After ProducerFenced: returns when the chain is ours or nobody's, raises Superseded when somebody else has it."""
    owner = await _owner_now(plan, state)
    if foreign_and_fresh(owner, instance_id=plan.instance_id, now_ms=clock.now_ms()):
        assert owner is not None
        raise Superseded(
            f"superseded by {owner.instance_id}, which owns chain {plan.topics.chain} now; "
            "run one instance per chain, or let this one wait as standby by starting it again"
        )


async def _taken_over(
    plan: ChainPlan,
    *,
    state: StatePort,
    publisher: PublisherPort,
    clock: ClockPort,
    standby: Callable[[str], None],
) -> LoadedState:
    """Waits for the lease, starts the producer, reads the state behind the barrier.

    A topic that is compacted while a successor writes to it can be read in pieces that do not fit: then the owner is
    another one than before, and this is no damage.
    """
    seen = await _wait_for_lease(plan, state=state, clock=clock, standby=standby)
    await publisher.open()
    try:
        loaded = await _state_behind_barrier(plan, state)
    except StateRefused as exc:
        owner = await _owner_now(plan, state)
        if owner is not None and owner != seen:
            raise Fenced(f"{owner.instance_id} took the chain over while the state was read") from exc
        raise
    if foreign_and_fresh(loaded.owner, instance_id=plan.instance_id, now_ms=clock.now_ms()):
        raise Fenced(f"{loaded.owner.instance_id if loaded.owner else '?'} took the chain over first")
    return loaded


async def _state_behind_barrier(plan: ChainPlan, state: StatePort) -> LoadedState:
    """Every kafka_tx of older producers is decided, and counts."""
    return await read_state(state, plan.topics.state, to_the_very_end=True, parts_bytes_max=plan.unfinalized_bytes_max)


async def _wait_for_lease(
    plan: ChainPlan, *, state: StatePort, clock: ClockPort, standby: Callable[[str], None]
) -> Owner | None:
    """The owner record with which the chain is nobody's, or ours."""
    told = ""
    while True:
        owner = await _owner_now(plan, state)
        now = clock.now_ms()
        if not foreign_and_fresh(owner, instance_id=plan.instance_id, now_ms=now):
            return owner
        assert owner is not None
        if told != owner.instance_id:
            _log.info("standby: another instance owns the chain", chain=plan.topics.chain, owner=owner.instance_id)
            told = owner.instance_id
        standby(owner.instance_id)
        await clock.sleep(min((owner.lease_until_ms - now) / 1000 + 0.05, 1.0))


async def _owner_now(plan: ChainPlan, state: StatePort) -> Owner | None:
    """The owner record alone: whoever is not the owner has no business judging the rest."""
    value = await state.latest(plan.topics.state, OWNER_KEY)
    try:
        return None if value is None else decode_owner(value)
    except StateUnreadable as exc:
        raise StateRefused(f"the state topic cannot be trusted: {exc}; nothing is published. Restore it") from exc


async def _refuse_lost_state(plan: ChainPlan, state: StatePort) -> None:
    for topic in (plan.topics.events, plan.topics.final, plan.topics.rejected):
        if await state.any_records(topic, plan.partitions):
            if (await _state_behind_barrier(plan, state)).cursor is not None:
                raise Fenced("another instance began the streams in between")
            raise StateRefused(
                f"{plan.topics.state} holds no cursor, but {topic} holds records: the state topic was lost. "
                "Publishing from the start would double every event. Restore it, or start new streams with another "
                "[kafka] topic_prefix"
            )


async def _refuse_lost_streams(plan: ChainPlan, cursor: Cursor, state: StatePort) -> None:
    """The next record would have a number that no consumer of an emptied topic can join to anything."""
    names = {"events": plan.topics.events, "final": plan.topics.final, "rejected": plan.topics.rejected}
    for kind in STREAM_KINDS:
        published = sum(cursor.stream_seq[kind])
        if published and not await state.any_records(names[kind], plan.partitions):
            raise StateRefused(
                f"{names[kind]} is empty, but {published} records were published to it: it was emptied or made anew. "
                "Restore it, or start new streams with another [kafka] topic_prefix"
            )


async def _first_cursor(plan: ChainPlan, fetcher: Fetcher) -> Cursor:
    """Begins the streams just below the first block that is followed, but never above the finalized block."""
    genesis = await fetcher.at(0)
    tips = await fetcher.tips()
    start = await fetcher.at(min(max(plan.start_block - 1, 0), tips.finalized.number))
    return Cursor(
        chain_id=plan.chain_id,
        genesis_hash=genesis.hash,
        stream_id=uuid.uuid4().hex,
        partitions=plan.partitions,
        head=start.ref,
        head_timestamp=start.timestamp,
        safe=start.ref,
        finalized=start.ref,
        finalized_header=finalized_header(start),
        stream_seq={kind: [0] * plan.partitions for kind in STREAM_KINDS},
        descriptions={},
    )


async def refuse_other_chain(plan: ChainPlan, cursor: Cursor, fetcher: Fetcher) -> None:
    """Raises StateRefused or ConfigurationRefused when node, settings and streams are not of one chain."""
    if cursor.chain_id != plan.chain_id:
        raise StateRefused(f"the state topic belongs to chain id {cursor.chain_id}, the node to {plan.chain_id}")
    if cursor.partitions != plan.partitions:
        raise ConfigurationRefused(
            f"the streams have {cursor.partitions} partitions, [kafka] partitions says {plan.partitions}: P is pinned; "
            "another P is another topic version"
        )
    genesis: Header = await fetcher.at(0)
    if genesis.hash != cursor.genesis_hash:
        raise StateRefused(
            f"the node's block 0 is {genesis.hash}, the streams began on {cursor.genesis_hash}: another chain"
        )


async def _announce(session: Session, *, first: bool) -> None:
    """The first kafka_tx of a session: takes the lease, publishes descriptions that the streams do not know yet."""
    cursor = session.cursor
    refuse_other_descriptions(session.plan, cursor, first=first)
    fresh = [r for r in session.plan.registry if r.contract not in cursor.descriptions]
    change = Change(head=session.view.head, safe=cursor.safe, finalized=session.view.finalized)
    await session.publish(change, session.view, registry=fresh)


def refuse_other_descriptions(plan: ChainPlan, cursor: Cursor, *, first: bool) -> None:
    """Raises ConfigurationRefused when the descriptions are not those that the streams were published with."""
    changed = [r for r in plan.registry if cursor.descriptions.get(r.contract, r.version) != r.version]
    gone = sorted(set(cursor.descriptions) - {r.contract for r in plan.registry})
    starts = {start.contract: start.start_block for start in plan.starts}
    fresh = [r.contract for r in plan.registry if r.contract not in cursor.descriptions]
    missed = [name for name in fresh if not first and starts.get(name, 0) <= cursor.head.number]
    for names, why in (
        (sorted(r.contract for r in changed), "changed"),
        (gone, "are gone"),
        (missed, f"are new, but start at or below the published head {cursor.head.number}"),
    ):
        if names:
            raise ConfigurationRefused(
                f"descriptions {why}: {', '.join(names)}. A running chain keeps its descriptions in this version; "
                "restore them, or start new streams with another [kafka] topic_prefix"
            )
