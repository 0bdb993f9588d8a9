"""Follows one chain: look at the tips, step the chain view, fetch, publish, repeat. The core decides, this performs.

A node that is away is asked again with jitter; while a node works on an answer the lease is kept. Anything that goes
wrong with the producer ends the session, and the next one starts from the state topic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from contracts.messages import BlockRef
from indexer.core.blocks import Header
from indexer.core.chain import (
    FetchHeader,
    HeaderFetched,
    HeadSeen,
    Observation,
    Switch,
    ViolationSuspected,
    doubted,
    rebased,
    step,
)
from indexer.core.compose import Change
from indexer.core.parts import Parts
from indexer.core.plan import Planned, Tips, merged, plan
from indexer.core.state import BlockState, Cursor, Latch
from indexer.errors import (
    BrokerUnavailable,
    Fenced,
    Latched,
    NodeBehind,
    NodeLied,
    NodeUnavailable,
    PublisherLost,
    RangeTooLarge,
    RetryableError,
)
from indexer.fetch import Fetcher
from indexer.observe import Observer
from indexer.patience import Patience
from indexer.ports import ClockPort, HeadsPort, PublisherPort, StatePort
from indexer.session import ChainPlan, Session, judge_fencing, latch_text, open_session

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)
RELEASE_S: Final = 1.0
LINKED_AT_ONCE: Final = 256  # blocks that one step may run ahead of the head: bounds the candidate and the branch
ORPHANS_FACTOR: Final = 2  # replaced blocks stay in memory too: so many times the window in all
NODE_ERRORS: Final = (NodeUnavailable, NodeBehind, NodeLied, RangeTooLarge)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How the chain is followed; see indexer.settings.FollowSettings for meaning and units."""

    poll_s: float
    range_blocks_max: int
    kafka_tx_bytes_max: int
    window_blocks_max: int
    start_timeout_s: float
    outage_max_s: float


class Pipeline:
    """The indexer of one chain. ``run`` returns only by an exception or cancellation."""

    def __init__(
        self,
        *,
        chain: ChainPlan,
        limits: Limits,
        fetcher: Fetcher,
        state: StatePort,
        publisher: Callable[[], PublisherPort],
        heads: HeadsPort,
        clock: ClockPort,
        observer: Observer,
    ) -> None:
        self._chain = chain
        self._limits = limits
        self._fetcher = fetcher
        self._state = state
        self._publisher = publisher
        self._heads = heads
        self._clock = clock
        self._observer = observer
        self._patience = Patience(clock=clock, observer=observer, chain=chain.topics.chain)
        self._session: Session | None = None
        self._range_blocks = limits.range_blocks_max

    async def run(self) -> None:
        """Raises FatalError; DependencyAway when an outage outlasts its limit."""
        limit_s = self._limits.start_timeout_s
        while True:
            session = await self._patience.until("open", self._open, limit_s=limit_s)
            limit_s = self._limits.outage_max_s
            self._session = session
            try:
                await self._follow(session)
            except (Fenced, PublisherLost, BrokerUnavailable) as exc:
                _log.warning("producer discarded; reloading from the state topic", reason=str(exc))
                self._observer.producer_rebuilt()
                await self._discard(session)
                if isinstance(exc, Fenced):
                    await self._patience.until("fencing", self._judge, limit_s=limit_s)
                await self._patience.pause("kafka", str(exc), limit_s=limit_s)

    async def until_up(self, stage: str, call: Callable[[], Awaitable[_T]]) -> _T:
        """Calls something at the start until it succeeds; raises DependencyAway when that takes too long."""
        return await self._patience.until(stage, call, limit_s=self._limits.start_timeout_s)

    async def release(self) -> None:
        """At an end: hand the lease back if a session is open. Takes RELEASE_S and the closing at most."""
        session = self._session
        if session is None:
            return
        try:
            async with asyncio.timeout(RELEASE_S):
                await session.release()
        except (RetryableError, TimeoutError) as exc:
            _log.warning("the lease was not released; it runs out by itself", reason=f"{type(exc).__name__} {exc}")
        await self._discard(session)

    async def _discard(self, session: Session) -> None:
        self._session = None
        await session.close()

    async def _open(self) -> Session:
        def standby(owner: str) -> None:
            self._observer.standby(owner)
            self._patience.progressed()

        return await open_session(
            self._chain,
            fetcher=self._fetcher,
            state=self._state,
            publisher=self._publisher(),
            clock=self._clock,
            standby=standby,
        )

    async def _judge(self) -> None:
        await judge_fencing(self._chain, state=self._state, clock=self._clock)

    async def _follow(self, session: Session) -> None:
        received_ms: int | None = None
        while True:

            async def advance(seen_ms: int | None = received_ms) -> None:
                try:
                    await self._advance(session, received_ms=seen_ms)
                except NodeLied:
                    session.view = doubted(session.view)
                    raise

            async def idle(seconds: float) -> None:
                await self._kept(session, self._clock.sleep(seconds))

            await self._patience.until(
                "node",
                advance,
                limit_s=self._limits.outage_max_s,
                sleep=idle,
                on=NODE_ERRORS,
                failed=self._fetcher.node.distrust,
            )
            if session.lease_needs_renewal:
                await session.renew_lease()
            due_ms = session.watermarks_due_ms
            if due_ms == 0:
                await session.publish_watermarks()
                due_ms = None
            waits_s = [self._limits.poll_s, self._chain.lease_ms / 3000, *([due_ms / 1000] if due_ms else [])]
            received_ms = await self._heads.wait(min(waits_s))

    async def _kept(self, session: Session, call: Awaitable[_T]) -> _T:
        """Awaits a node (or nothing), and renews the lease meanwhile. Never used around a publish."""
        return await session.kept(call)

    async def _advance(self, session: Session, *, received_ms: int | None) -> None:
        """One look at the tips, and everything that follows from it."""
        tips = await self._kept(session, self._fetcher.tips())
        self._observer.tips(tips)
        if tips.finalized.number > session.view.head.number:
            await self._catch_up(session, tips)
            tips = await self._kept(session, self._fetcher.tips())
        header = await self._next_head(session, tips)
        switch = await self._observe(session, HeadSeen(header=header)) if header is not None else None
        await self._publish(session, switch, tips, received_ms=received_ms)
        self._observer.followed(session.cursor)

    async def _next_head(self, session: Session, tips: Tips) -> Header | None:
        """The node's head, or a block on the way to it when it is far ahead or beyond what the window may hold.

        In a finality stall none, unless finality went on along another branch than ours: then its block at our height.
        """
        view = session.view
        unfinalized, blocks_max = len(view.window) - 1, self._limits.window_blocks_max
        if unfinalized < blocks_max and len(session.blocks) < ORPHANS_FACTOR * blocks_max:
            self._observer.stalled("")
            highest = view.head.number + min(LINKED_AT_ONCE, blocks_max - unfinalized)
            return (
                tips.latest if tips.latest.number <= highest else await self._kept(session, self._fetcher.at(highest))
            )
        self._observer.stalled(
            f"finality stalls: {unfinalized} blocks above {view.finalized.number} are not final, and "
            f"{len(session.blocks) - unfinalized} replaced ones are kept with them; publishing pauses until it moves"
        )
        if tips.finalized.number <= view.finalized.number or view.holds(tips.finalized.ref):
            return None
        return await self._kept(session, self._fetcher.at(min(tips.latest.number, view.head.number)))

    async def _observe(self, session: Session, observation: Observation) -> Switch | None:
        """Steps the view until the candidate links, is dropped, or contradicts finality."""
        while True:
            session.view, actions = step(session.view, observation)
            for action in actions:
                match action:
                    case Switch():
                        return action
                    case ViolationSuspected(ours=ours, seen=seen):
                        await self._judge_violation(session, ours, seen)
            wanted = next((action.ref for action in actions if isinstance(action, FetchHeader)), None)
            if wanted is None:
                return None
            header = await self._kept(session, self._fetcher.node.header_by_hash(wanted.hash))
            if header is not None and header.ref != wanted:
                raise NodeLied(f"block {wanted.hash} has number {header.number}, its child says {wanted.number}")
            observation = HeaderFetched(wanted=wanted, header=header)

    async def _publish(self, session: Session, switch: Switch | None, tips: Tips, *, received_ms: int | None) -> None:
        """Commits a switch and what became final, in changes of bounded size.

        A branch is fetched as it is published, a bounded piece at a time; the first piece is there before anything is
        retracted.
        """
        retract = switch.retract if switch else ()
        missing = switch.apply if switch else ()
        while True:
            apply, fetched = await self._branch(session, missing)
            missing = missing[len(apply) :]
            if switch and retract:
                self._tell_reorg(switch)
            planned = plan(
                session.view,
                blocks=session.blocks,
                retract=retract,
                apply=apply,
                tips=tips,
                safe_before=session.cursor.safe,
                bytes_max=self._limits.kafka_tx_bytes_max,
            )
            for item in merged(list(planned), self._limits.kafka_tx_bytes_max):
                await self._commit(session, item, fetched, received_ms=received_ms)
            retract = ()
            if not missing:
                return

    async def _commit(
        self, session: Session, item: Planned, fetched: Mapping[str, Parts], *, received_ms: int | None
    ) -> None:
        parts = await self._kept(session, session.parts_of(item.change, fetched))
        with self._observer.publishing(item.change) as traceparent:
            tx = await session.publish(
                item.change, item.view, parts=parts, traceparent=traceparent, received_ms=received_ms
            )
        self._observer.published(item.change, tx)
        self._patience.progressed()

    def _tell_reorg(self, switch: Switch) -> None:
        _log.warning(
            "reorg",
            chain=self._chain.topics.chain,
            depth=len(switch.retract),
            common_ancestor=switch.ancestor.number,
            new_head=switch.apply[-1].number,
        )
        self._observer.reorg(depth=len(switch.retract))

    async def _branch(self, session: Session, headers: tuple[Header, ...]) -> tuple[list[BlockState], dict[str, Parts]]:
        """The first blocks of a branch with the revision to publish, as many as a kafka_tx holds, and fetched parts.

        A branch that comes back is taken from our own state.
        """
        bytes_max = self._limits.kafka_tx_bytes_max
        unknown = [header for header in headers if header.hash not in session.blocks]
        new = await self._kept(session, self._fetcher.blocks(unknown, bytes_max=bytes_max)) if unknown else []
        fetched = {block.state.header.hash: block for block in new}
        apply: list[BlockState] = []
        for header in headers:
            if header.hash in fetched:
                apply.append(fetched[header.hash].state)
            elif header.hash in session.blocks:
                ours = session.blocks[header.hash]
                if ours.canonical or ours.header != header:
                    raise NodeLied(f"block {header.number} {header.hash} is told with another header than before")
                apply.append(ours.applied_again())
            else:
                break  # not fetched yet
        return apply, {block_hash: block.parts for block_hash, block in fetched.items()}

    async def _catch_up(self, session: Session, tips: Tips) -> None:
        """The node's finalized block is above our head: settle every height that we hold, then read by range.

        Orphans may stand above our head: if they came back meanwhile, they need their next revision, and a range knows
        no revisions. So settling goes up to the highest of them.
        """
        highest = max([session.view.head.number, *(block.header.number for block in session.blocks.values())])
        settled_number = min(highest, tips.finalized.number)
        canonical = await self._kept(session, self._fetcher.at(settled_number))
        switch = await self._observe(session, HeadSeen(header=canonical))
        settled = Tips(latest=canonical, safe=canonical, finalized=canonical)
        await self._publish(session, switch, settled, received_ms=None)
        if session.view.finalized.hash != canonical.hash:
            raise NodeBehind(f"block {canonical.number} is final for the node, but does not link to ours yet")
        if settled_number < tips.finalized.number:
            _log.info(
                "backfill",
                chain=self._chain.topics.chain,
                from_block=settled_number + 1,
                to_block=tips.finalized.number,
            )
        while session.view.head.number < tips.finalized.number:
            await self._backfill_chunk(session, tips.finalized)

    async def _backfill_chunk(self, session: Session, finalized: Header) -> None:
        ours = session.view.head
        from_block = ours.number + 1
        to_block = min(from_block + self._range_blocks - 1, finalized.number)
        try:
            chunk = await self._kept(session, self._fetcher.chunk(from_block, to_block))
        except RangeTooLarge as exc:
            blocks = to_block - from_block + 1
            self._range_blocks = max(min(exc.blocks_max or blocks // 2, blocks // 2 or 1), 1)
            _log.info("range too large for the node", blocks=blocks, next=self._range_blocks, reason=str(exc))
            if blocks == 1:
                raise
            return
        if chunk.first.parent_hash != ours.hash:
            await self._judge_violation(session, ours, chunk.first)
        if chunk.last.number == finalized.number and chunk.last.hash != finalized.hash:
            raise NodeLied(f"block {finalized.number} was told final as {finalized.hash}, now it is {chunk.last.hash}")
        weight = sum(2 * len(record.value) + 600 for record in chunk.records)
        if weight > self._limits.kafka_tx_bytes_max and to_block > from_block:
            self._range_blocks = max((to_block - from_block + 1) // 2, 1)
            return
        if weight < self._limits.kafka_tx_bytes_max // 2:
            self._range_blocks = min(self._range_blocks * 2, self._limits.range_blocks_max)
        last = chunk.last
        change = Change(head=last, safe=last.ref, finalized=last, backfilled=tuple(chunk.records))
        with self._observer.publishing(change) as traceparent:
            tx = await session.publish(change, rebased(last), traceparent=traceparent)
        self._observer.published(change, tx)
        self._observer.followed(session.cursor)
        self._patience.progressed()

    async def _judge_violation(self, session: Session, ours: Header, seen: Header) -> None:
        """Always raises: Latched when the nodes agree that our finalized block is another one now, else NodeLied."""
        await self._kept(session, self._doubt_other_chain(session.cursor))
        tips = await self._kept(session, self._fetcher.tips())
        said = await self._kept(session, self._fetcher.node.hashes_at(ours.number))
        wanted = min(self._fetcher.node.count, 2)
        if tips.finalized.number < ours.number or ours.hash in said or len(said) < wanted or len(set(said)) != 1:
            raise NodeLied(
                f"block {seen.number} {seen.hash} does not descend from our finalized block {ours.number} {ours.hash}; "
                f"asked {self._fetcher.node.count} nodes, which have {said} there: not enough to believe it"
            )
        reason = f"block {ours.number} was final as {ours.hash}, and is final as {said[0]} now"
        latch = Latch(
            ours=ours.ref,
            seen=BlockRef(number=ours.number, hash=said[0]),
            noticed_at_ms=self._clock.now_ms(),
            reason=reason,
        )
        await session.latch(latch)
        raise Latched(f"finality violation: {latch_text(latch)}")

    async def _doubt_other_chain(self, cursor: Cursor) -> None:
        """Raises NodeLied when a node answers for another chain by now: no evidence of anything about ours."""
        chain_id = await self._fetcher.node.chain_id()
        genesis = set(await self._fetcher.node.hashes_at(0))
        if chain_id != cursor.chain_id or genesis != {cursor.genesis_hash}:
            raise NodeLied(
                f"asked for chain id {cursor.chain_id} with block 0 {cursor.genesis_hash}, "
                f"answered for {chain_id} with {sorted(genesis)}: another chain"
            )
