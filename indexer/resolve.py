"""Resolves a finality violation: takes back what was published of the replaced blocks, publishes what came instead.

The operator names the canonical block; every node that answers has to confirm it. What has to be done is the difference
between the streams, read back from the broker, and the canonical chain: an attempt that was interrupted leaves a
latched chain, and the next one does the rest. The latch is lifted in the last kafka_tx, together with the cursor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from indexer.core.compose import Change
from indexer.core.incident import Counts, Step, compose_incident, counted, total
from indexer.core.plan import Tips, merged, plan
from indexer.core.state import LoadedState
from indexer.durable import read_state
from indexer.errors import DependencyAway, ResolveRefused, RetryableError
from indexer.evidence import Evidence, Incident, Investigation
from indexer.fetch import Fetcher
from indexer.patience import Patience
from indexer.ports import ClockPort, PublisherPort, StatePort, StreamsPort
from indexer.session import (
    ChainPlan,
    Session,
    latched_cursor,
    open_latched,
    refuse_other_chain,
    refuse_other_descriptions,
)

_log = structlog.get_logger(__name__)
RELEASE_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """An incident, and what is published in its place."""

    incident: Incident
    applied: Counts
    resolved: bool  # False: only looked at


class Resolver:
    """Looks at a latched chain and resolves it."""

    def __init__(
        self,
        *,
        chain: ChainPlan,
        fetcher: Fetcher,
        witnesses: Sequence[Fetcher],
        state: StatePort,
        streams: StreamsPort,
        publisher: Callable[[], PublisherPort],
        clock: ClockPort,
        patience: Patience,
        start_timeout_s: float,
        kafka_tx_bytes_max: int,
    ) -> None:
        self._chain = chain
        self._fetcher = fetcher
        self._witnesses = tuple(witnesses)  # one for each configured node
        self._state = state
        self._streams = streams
        self._publisher = publisher
        self._clock = clock
        self._patience = patience
        self._start_timeout_s = start_timeout_s
        self._bytes_max = kafka_tx_bytes_max

    async def look(self, block_hash: str) -> Outcome:
        """What ``resolve`` would do. Takes nothing over and publishes nothing. Raises as resolve."""
        loaded = await self._durable()
        cursor, latch = latched_cursor(loaded)
        asking = self._investigation(None)
        await asking.node(lambda: refuse_other_chain(self._chain, cursor, self._fetcher))
        refuse_other_descriptions(self._chain, cursor, first=False)
        unfinalized = sum(1 for block in loaded.blocks.values() if block.canonical)
        evidence = await asking.evidence(cursor, latch, unfinalized=unfinalized, block_hash=block_hash)
        applied = total([counted([step]) async for step in asking.applying(evidence)])
        return Outcome(incident=evidence.incident, applied=applied, resolved=False)

    async def resolve(self, block_hash: str, *, shown: Incident | None) -> Outcome:
        """Takes the chain over and resolves it. Refuses when the incident is not the one that was ``shown``.

        Raises ResolveRefused, Unconfirmed, StateRefused, ConfigurationRefused; DependencyAway when another instance
        keeps the lease or something stays away; Fenced, PublisherLost, BrokerUnavailable: then it is begun again.
        """
        # before anybody is waited for: an instance that works keeps its lease for ever
        latched_cursor(await self._durable())
        session = await self._open()
        try:
            cursor, latch = session.cursor, session.cursor.latch
            if latch is None:
                raise ValueError("a session of a chain that is not latched")
            asking = self._investigation(session)
            unfinalized = len(session.view.window) - 1
            evidence = await asking.evidence(cursor, latch, unfinalized=unfinalized, block_hash=block_hash)
            if shown is not None and evidence.incident != shown:
                raise ResolveRefused("the chain or the streams changed since this was shown: look at it again")
            await self._retract_unfinalized(session, evidence)
            applied = await self._publish(session, asking, evidence)
        finally:
            await self._release(session)
        _log.warning("resolved", chain=self._chain.topics.chain, incident=evidence.incident.incident_id)
        return Outcome(incident=evidence.incident, applied=applied, resolved=True)

    async def _durable(self) -> LoadedState:
        return await read_state(self._state, self._chain.topics.state, to_the_very_end=False, parts_bytes_max=0)

    def _investigation(self, session: Session | None) -> Investigation:
        return Investigation(
            chain_id=self._chain.chain_id,
            fetcher=self._fetcher,
            witnesses=self._witnesses,
            streams=self._streams,
            patience=self._patience,
            timeout_s=self._start_timeout_s,
            session=session,
        )

    async def _open(self) -> Session:
        owner = ""

        def standby(name: str) -> None:
            nonlocal owner
            owner = name

        try:
            async with asyncio.timeout(self._start_timeout_s):
                return await open_latched(
                    self._chain,
                    fetcher=self._fetcher,
                    state=self._state,
                    publisher=self._publisher(),
                    clock=self._clock,
                    standby=standby,
                )
        except TimeoutError as exc:
            holds = f"{owner} keeps its lease: stop it" if owner else "node or Kafka does not answer"
            raise DependencyAway(f"not taken over in {self._start_timeout_s:.0f} s: {holds}") from exc

    async def _release(self, session: Session) -> None:
        try:
            async with asyncio.timeout(RELEASE_S):
                await session.release()
        except (RetryableError, TimeoutError) as exc:
            _log.warning("the lease was not released; it runs out by itself", reason=f"{type(exc).__name__} {exc}")
        await session.close()

    async def _retract_unfinalized(self, session: Session, evidence: Evidence) -> None:
        """What stands on top of our block goes first, as in any reorg; its state stays until its height is final."""
        view = session.view
        if evidence.target.ref == view.finalized.ref or len(view.window) == 1:
            return
        planned = plan(
            view,
            blocks=session.blocks,
            retract=tuple(reversed(view.window[1:])),
            apply=(),
            tips=Tips(latest=view.finalized, safe=view.finalized, finalized=view.finalized),
            safe_before=session.cursor.safe,
            bytes_max=self._bytes_max,
        )
        for item in merged(list(planned), self._bytes_max):
            parts = await session.kept(session.parts_of(item.change, {}))
            await session.publish(item.change, item.view, parts=parts)

    async def _publish(self, session: Session, asking: Investigation, evidence: Evidence) -> Counts:
        """Revokes, applies, and lifts the latch with the last kafka_tx. Returns what was applied."""
        applied: list[Counts] = []

        async def steps() -> AsyncIterator[Step]:
            for step in evidence.revoking:
                yield step
            async for step in asking.applying(evidence):
                applied.append(counted([step]))
                yield step

        waiting: list[Step] = []
        weight = 0
        async for step in steps():
            if waiting and weight + step.weight > self._bytes_max:
                await self._commit(session, waiting, lifted=None)
                waiting, weight = [], 0
            waiting.append(step)
            weight += step.weight
        head, safe = evidence.target, evidence.target.ref
        if evidence.target.ref == session.view.finalized.ref:  # it was right all along: what stands on it stays
            head, safe = session.view.head, session.cursor.safe
        await self._commit(session, waiting, lifted=Change(head=head, safe=safe, finalized=evidence.target))
        return total(applied)

    async def _commit(self, session: Session, steps: Sequence[Step], *, lifted: Change | None) -> None:
        await session.commit(lambda cursor, owner: compose_incident(cursor, steps, owner=owner, lifted=lifted))
