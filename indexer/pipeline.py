"""Follows one chain: look at the tips, step the chain view, fetch, publish, repeat. The core decides, this performs.

Retries live here. A node that is away is asked again with jitter while the lease is kept; anything that goes wrong with
the producer ends the session, and the next one starts from the state topic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay, wait_random_exponential

from indexer.core.blocks import Header
from indexer.core.chain import (
    FetchHeader,
    HeaderFetched,
    HeadSeen,
    Observation,
    Switch,
    ViolationSuspected,
    rebased,
    step,
)
from indexer.core.compose import Change
from indexer.core.plan import Tips, merged, plan
from indexer.core.state import BlockState, Latch
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
from indexer.ports import ClockPort, HeadsPort, PublisherPort, StatePort
from indexer.session import ChainPlan, Session, judge_fencing, open_session

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)
RELEASE_S: Final = 1.0
_NODE_ERRORS: Final = (NodeUnavailable, NodeBehind, NodeLied)


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
        self._session: Session | None = None
        self._range_blocks = limits.range_blocks_max

    async def run(self) -> None:
        """Raises FatalError, or RetryableError when an outage outlasts its limit."""
        patience_s = self._limits.start_timeout_s
        while True:
            session = await self._persistently("open", self._open, patience_s=patience_s, sleep=self._clock.sleep)
            patience_s = self._limits.outage_max_s
            self._session = session
            try:
                await self._follow(session)
            except Fenced as exc:
                _log.warning("fenced by a newer producer", chain=self._chain.topics.chain, reason=str(exc))
                await self._discard(session)
                await self._persistently("fencing", self._judge, patience_s=patience_s, sleep=self._clock.sleep)
            except (PublisherLost, BrokerUnavailable) as exc:
                _log.warning("producer discarded; reloading from the state topic", reason=str(exc))
                self._observer.producer_rebuilt()
                await self._discard(session)

    async def _discard(self, session: Session) -> None:
        self._session = None
        await session.close()

    async def until_up(self, stage: str, call: Callable[[], Awaitable[_T]]) -> _T:
        """Calls something at the start until it succeeds; raises its RetryableError when that takes too long."""
        return await self._persistently(stage, call, patience_s=self._limits.start_timeout_s, sleep=self._clock.sleep)

    async def release(self) -> None:
        """At an orderly stop: hand the lease back if a session is open. Takes RELEASE_S and the closing at most."""
        session = self._session
        if session is None:
            return
        try:
            await asyncio.wait_for(session.release(), timeout=RELEASE_S)
        except (RetryableError, TimeoutError) as exc:
            _log.warning("the lease was not released; it runs out by itself", reason=f"{type(exc).__name__} {exc}")
        await self._discard(session)

    async def _open(self) -> Session:
        return await open_session(
            self._chain,
            fetcher=self._fetcher,
            state=self._state,
            publisher=self._publisher(),
            clock=self._clock,
            standby=self._observer.standby,
        )

    async def _judge(self) -> None:
        await judge_fencing(self._chain, state=self._state, clock=self._clock)

    async def _follow(self, session: Session) -> None:
        received_ms: int | None = None
        while True:

            async def advance(seen_ms: int | None = received_ms) -> None:
                await self._advance(session, received_ms=seen_ms)

            async def idle(seconds: float) -> None:
                if session.lease_needs_renewal:
                    await session.renew_lease()
                await self._clock.sleep(min(seconds, self._chain.lease_ms / 3000))

            await self._persistently("node", advance, patience_s=self._limits.outage_max_s, sleep=idle, on=_NODE_ERRORS)
            if session.lease_needs_renewal:
                await session.renew_lease()
            due_ms = session.watermarks_due_ms
            if due_ms == 0:
                await session.publish_watermarks()
                due_ms = None
            waits_s = [self._limits.poll_s, self._chain.lease_ms / 3000, *([due_ms / 1000] if due_ms else [])]
            received_ms = await self._heads.wait(min(waits_s))

    async def _advance(self, session: Session, *, received_ms: int | None) -> None:
        """One look at the tips, and everything that follows from it."""
        tips = await self._fetcher.tips()
        self._observer.tips(tips)
        if tips.finalized.number > session.view.head.number:
            await self._catch_up(session, tips)
            tips = await self._fetcher.tips()
        if len(session.view.window) > self._limits.window_blocks_max:
            self._observer.stalled(f"finality stalls: {len(session.view.window)} blocks are not final")
            await self._publish(session, None, tips, received_ms=None)
            return
        switch = await self._observe(session, HeadSeen(header=tips.latest))
        await self._publish(session, switch, tips, received_ms=received_ms)
        self._observer.followed(session.cursor)

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
            if len(session.view.candidate) > self._limits.window_blocks_max:
                raise NodeLied(f"a branch of {len(session.view.candidate)} blocks does not link to ours")
            header = await self._fetcher.node.header_by_hash(wanted.hash)
            observation = HeaderFetched(wanted=wanted, header=header)

    async def _publish(self, session: Session, switch: Switch | None, tips: Tips, *, received_ms: int | None) -> None:
        """Commits a switch and what became final, in changes of bounded size."""
        apply = await self._branch(session, switch.apply) if switch else []
        planned = plan(
            session.view,
            blocks=session.blocks,
            retract=switch.retract if switch else (),
            apply=apply,
            tips=tips,
            safe_before=session.cursor.safe,
            bytes_max=self._limits.kafka_tx_bytes_max,
        )
        if switch and switch.retract:
            _log.warning(
                "reorg",
                chain=self._chain.topics.chain,
                depth=len(switch.retract),
                common_ancestor=switch.ancestor.number,
                new_head=switch.apply[-1].number,
            )
            self._observer.reorg(depth=len(switch.retract))
        for item in merged(list(planned), self._limits.kafka_tx_bytes_max):
            with self._observer.publishing(item.change) as traceparent:
                tx = await session.publish(item.change, item.view, traceparent=traceparent, received_ms=received_ms)
            self._observer.published(item.change, tx)

    async def _branch(self, session: Session, headers: tuple[Header, ...]) -> list[BlockState]:
        """The blocks of a branch with the revision to publish; a branch that comes back is taken from our own state."""
        unknown = await self._fetcher.blocks([h for h in headers if h.hash not in session.blocks])
        fetched = {block.header.hash: block for block in unknown}
        return [fetched[h.hash] if h.hash in fetched else session.blocks[h.hash].applied_again() for h in headers]

    async def _catch_up(self, session: Session, tips: Tips) -> None:
        """The node's finalized block is above our head: settle what we hold, then read by range."""
        canonical = await self._fetcher.at(session.view.head.number)
        switch = await self._observe(session, HeadSeen(header=canonical))
        settled = Tips(latest=canonical, safe=canonical, finalized=canonical)
        await self._publish(session, switch, settled, received_ms=None)
        if session.view.finalized.hash != canonical.hash:
            raise NodeBehind(f"block {canonical.number} is final for the node, but does not link to ours yet")
        _log.info(
            "backfill", chain=self._chain.topics.chain, from_block=canonical.number + 1, to_block=tips.finalized.number
        )
        while session.view.head.number < tips.finalized.number:
            await self._backfill_chunk(session, tips.finalized.number)

    async def _backfill_chunk(self, session: Session, to_block_max: int) -> None:
        from_block = session.view.head.number + 1
        to_block = min(from_block + self._range_blocks - 1, to_block_max)
        try:
            records, last = await self._fetcher.chunk(from_block, to_block)
        except RangeTooLarge as exc:
            blocks = to_block - from_block + 1
            self._range_blocks = max(min(exc.blocks_max or blocks // 2, blocks // 2 or 1), 1)
            _log.info("range too large for the node", blocks=blocks, next=self._range_blocks, reason=str(exc))
            if blocks == 1:
                raise NodeUnavailable(str(exc)) from exc
            return
        weight = sum(2 * len(record.value) + 600 for record in records)
        if weight > self._limits.kafka_tx_bytes_max and to_block > from_block:
            self._range_blocks = max((to_block - from_block + 1) // 2, 1)
            return
        if weight < self._limits.kafka_tx_bytes_max // 2:
            self._range_blocks = min(self._range_blocks * 2, self._limits.range_blocks_max)
        change = Change(head=last, safe=last.ref, finalized=last, backfilled=tuple(records))
        with self._observer.publishing(change) as traceparent:
            tx = await session.publish(change, rebased(last), traceparent=traceparent)
        self._observer.published(change, tx)
        self._observer.followed(session.cursor)

    async def _judge_violation(self, session: Session, ours: Header, seen: Header) -> None:
        """Latches when the node's canonical block at our finalized height is another one, and final for it too."""
        tips = await self._fetcher.tips()
        canonical = await self._fetcher.at(ours.number)
        if canonical.hash == ours.hash or tips.finalized.number < ours.number:
            raise NodeLied(f"block {seen.number} {seen.hash} does not descend from our finalized {ours.number}")
        reason = f"block {ours.number} was final as {ours.hash}, and is final as {canonical.hash} now"
        latch = Latch(ours=ours.ref, seen=canonical.ref, noticed_at_ms=self._clock.now_ms(), reason=reason)
        await session.latch(latch)
        raise Latched(f"finality violation: {reason}; nothing is published until it is resolved")

    async def _persistently(
        self,
        stage: str,
        call: Callable[[], Awaitable[_T]],
        *,
        patience_s: float,
        sleep: Callable[[float], Awaitable[None]],
        on: tuple[type[RetryableError], ...] = (RetryableError,),
    ) -> _T:
        """Calls until it succeeds, with jitter; one log line when a stage begins to fail, one when it recovers."""

        def failing(attempt: RetryCallState) -> None:
            reason = str(attempt.outcome.exception()) if attempt.outcome else ""
            self._observer.waiting(stage, reason)
            if attempt.attempt_number == 1:
                _log.warning("waiting", stage=stage, chain=self._chain.topics.chain, reason=reason)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(on),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            stop=stop_after_delay(patience_s),
            before_sleep=failing,
            sleep=sleep,
            reraise=True,
        )

        async def attempted() -> _T:  # tenacity awaits only what it sees to be a coroutine function
            return await call()

        result: _T = await retrying(attempted)
        attempts = retrying.statistics.get("attempt_number", 1)
        if attempts > 1:
            _log.info("recovered", stage=stage, chain=self._chain.topics.chain, tries=attempts)
            self._observer.recovered(stage)
        return result
