"""Gathers what is known of a finality violation: what the nodes testify, what the streams told, where both still agree.

Nothing is taken over or published here. What comes out is the difference that a resolve has to publish.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from contracts.messages import BlockRef
from indexer.core.blocks import Header
from indexer.core.history import History, HistoryBroken
from indexer.core.incident import Counts, Step, applying, counted, incident_id, revoking, to_revoke
from indexer.core.state import STREAM_KINDS, Cursor, Latch
from indexer.errors import (
    NodeBehind,
    NodeLied,
    NodeUnavailable,
    RangeTooLarge,
    ResolveRefused,
    RetryableError,
    StateRefused,
    Unconfirmed,
)
from indexer.fetch import Fetcher
from indexer.patience import Patience
from indexer.ports import StreamsPort
from indexer.session import Session

_T = TypeVar("_T")
FIRST_LOOKBACK_BLOCKS: Final = 256  # below the violated block; doubled until a common ancestor is found
HEADERS_AT_ONCE: Final = 64
FETCHED_BYTES_MAX: Final = 4_000_000  # of blocks that wait to be published, about
NODE_ERRORS: Final = (NodeUnavailable, NodeBehind, NodeLied, RangeTooLarge)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What a resolve takes back. Two looks at the same facts give the same one."""

    incident_id: str
    ours: BlockRef  # published as final
    canonical: BlockRef  # what the nodes have at that height
    ancestor: BlockRef
    retracted_blocks: int  # unfinalized ones on top of ours, taken back as in any reorg
    revoked: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a resolve needs to know."""

    incident: Incident
    history: History
    target: Header  # the canonical block at the violated height
    headers: tuple[Header, ...]  # the canonical chain from above the ancestor to the target
    revoking: tuple[Step, ...]


class Investigation:
    """Asks nodes and streams. With a session it keeps the lease meanwhile, and reads behind that session's barrier."""

    def __init__(
        self,
        *,
        chain_id: int,
        fetcher: Fetcher,
        witnesses: Sequence[Fetcher],
        streams: StreamsPort,
        patience: Patience,
        timeout_s: float,
        session: Session | None,
    ) -> None:
        self._chain_id = chain_id
        self._fetcher = fetcher
        self._witnesses = tuple(witnesses)  # one for each configured node
        self._streams = streams
        self._patience = patience
        self._timeout_s = timeout_s
        self._session = session

    async def evidence(self, cursor: Cursor, latch: Latch, *, unfinalized: int, block_hash: str) -> Evidence:
        """Raises ResolveRefused, Unconfirmed, StateRefused, DependencyAway, BrokerUnavailable."""
        target = await self._confirmed(latch.ours, block_hash)
        incident = incident_id(self._chain_id, latch, block_hash)
        try:
            history, ancestor = await self._history(cursor, target)
            headers = await self.node(partial(self._linked, ancestor, target))
            steps = tuple(revoking(to_revoke(history, {h.number: h.hash for h in headers}), incident))
        except HistoryBroken as exc:
            raise StateRefused(f"the streams cannot be trusted: {exc}; nothing was published") from exc
        return Evidence(
            incident=Incident(
                incident_id=incident,
                ours=latch.ours,
                canonical=target.ref,
                ancestor=ancestor,
                retracted_blocks=0 if target.ref == latch.ours else unfinalized,
                revoked=counted(steps),
            ),
            history=history,
            target=target,
            headers=headers,
            revoking=steps,
        )

    async def applying(self, evidence: Evidence) -> AsyncIterator[Step]:
        """The canonical chain's records that do not stand yet, block by block, oldest first."""
        left = evidence.headers
        while left:
            blocks = await self.node(partial(self._fetcher.blocks, left, bytes_max=FETCHED_BYTES_MAX))
            left = left[len(blocks) :]
            for step in applying(blocks, evidence.history, evidence.incident.incident_id):
                yield step

    async def node(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Asks until a node answers; raises DependencyAway when that takes too long."""
        asking = self._patience.until(
            "node", call, limit_s=self._timeout_s, on=NODE_ERRORS, failed=self._fetcher.node.distrust
        )
        return await self._kept(asking)

    async def _kept(self, call: Awaitable[_T]) -> _T:
        return await (call if self._session is None else self._session.kept(call))

    async def _confirmed(self, ours: BlockRef, block_hash: str) -> Header:
        """The block at the violated height, if every node that answers has ``block_hash`` there and calls it final."""
        said = await self._kept(asyncio.gather(*(self._testimony(witness, ours.number) for witness in self._witnesses)))
        answers = [answer for answer in said if not isinstance(answer, str)]
        silent = "; ".join(answer for answer in said if isinstance(answer, str))
        wanted = min(len(self._witnesses), 2)
        if len(answers) < wanted:
            raise Unconfirmed(f"{len(answers)} of {len(self._witnesses)} nodes answer, {wanted} must: {silent}")
        found = sorted({header.hash for _, header, _ in answers})
        if len(found) > 1:
            told = "; ".join(f"{name} has {header.hash}" for name, header, _ in answers)
            raise Unconfirmed(f"the nodes do not agree on block {ours.number}: {told}. Wait, or remove the wrong one")
        if found != [block_hash]:
            raise ResolveRefused(
                f"the nodes have {found[0]} at block {ours.number}, not {block_hash}. Look again which one is right"
            )
        pending = [f"{name} says up to {final}" for name, _, final in answers if final < ours.number]
        if pending:
            raise Unconfirmed(f"block {ours.number} is not final for every node: {'; '.join(pending)}. Wait")
        return answers[0][1]

    async def _testimony(self, witness: Fetcher, number: int) -> tuple[str, Header, int] | str:
        """A node's name, its block at a height and its finalized height; why it does not tell, if it does not."""
        try:
            header, tips = await asyncio.gather(witness.at(number), witness.tips())
        except RetryableError as exc:
            return f"{witness.node.name}: {exc}"
        return witness.node.name, header, tips.finalized.number

    async def _history(self, cursor: Cursor, target: Header) -> tuple[History, BlockRef]:
        """What the streams say above a common ancestor, which is looked for further and further back."""
        hashes: dict[int, str] = {target.number: target.hash}
        lookback = FIRST_LOOKBACK_BLOCKS
        while True:
            floor = max(target.number - lookback, 0)
            from_ms = max(1000 * (await self._at(floor)).timestamp - 1, 0) if floor else 0
            history = await self._kept(self._scan(cursor, floor, from_ms))
            ancestor = await self._ancestor(history, hashes)
            if ancestor is not None:
                return history, ancestor
            if floor == 0 or (history.begins_at is not None and floor <= history.begins_at):
                raise ResolveRefused(
                    "no block that was ever published as final is on the nodes' chain. That is another chain: start "
                    "new streams with another [kafka] topic_prefix"
                )
            lookback *= 2

    async def _ancestor(self, history: History, hashes: dict[int, str]) -> BlockRef | None:
        """``hashes`` keeps what the nodes have at the heights that were asked for."""
        search = history.ancestor()
        try:
            asked = next(search)
            while True:
                if asked.number not in hashes:
                    hashes[asked.number] = (await self._at(asked.number)).hash
                asked = search.send(hashes[asked.number] == asked.hash)
        except StopIteration as done:
            found: BlockRef | None = done.value
            return found

    async def _scan(self, cursor: Cursor, floor: int, from_ms: int) -> History:
        history = History(cursor, floor=floor)
        for kind in STREAM_KINDS:
            await self._streams.read(
                kind,
                cursor.partitions,
                from_ms=from_ms,
                to_the_very_end=self._session is not None,
                take=history.take,
            )
        history.check_end()
        return history

    async def _at(self, number: int) -> Header:
        return await self.node(partial(self._fetcher.at, number))

    async def _linked(self, ancestor: BlockRef, target: Header) -> tuple[Header, ...]:
        """The canonical headers from above the ancestor to the target, linked by their parent hashes."""
        headers: list[Header] = []
        for first in range(ancestor.number + 1, target.number, HEADERS_AT_ONCE):
            numbers = range(first, min(first + HEADERS_AT_ONCE, target.number))
            headers += await asyncio.gather(*(self._fetcher.at(number) for number in numbers))
        if target.ref != ancestor:
            headers.append(target)
        below = ancestor
        for header in headers:
            if header.parent_hash != below.hash or header.number != below.number + 1:
                raise NodeLied(f"block {header.number} {header.hash} does not link to {below.number} {below.hash}")
            below = header.ref
        return tuple(headers)
