"""What the pipeline needs of the outside: Kafka, Postgres, the registry. Adapters and fakes implement these.

Every method may raise the errors of ``ledger.errors`` that it names, and no others of the libraries below.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ledger.core.fold import Folded, Knowledge, Needs, RuleBook, StreamState
from ledger.core.recall import Recalled, Unread
from ledger.core.records import Record, Stop, StreamKind


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A partition that is ours until another one takes it: its stream's row at the moment of the claim."""

    partition: Partition
    stream_no: int
    kind: StreamKind
    epoch: int
    state: StreamState


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A folded batch, with what the store has made of it already."""

    folded: Folded
    payload: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """One step of the final balances."""

    number: int
    breaks_opened: int
    breaks_resolved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far a partition is behind, in offsets (commit markers included), and where its position stands."""

    records: int
    position: int


class StorePort(Protocol):
    """The database connection of one partition's worker."""

    async def claim(self, partition: Partition, owner: str, *, held_before: bool) -> Claim:
        """Takes the partition (epoch + 1). ``owner`` is ``name#process``.

        Raises DatabaseUnavailable, ConfigurationRefused, and Superseded when this process had the partition before and
        another process of the same name has it now: the two would take it from each other for ever.
        """
        ...

    async def read_back(self, claim: Claim, needs: Needs) -> Knowledge:
        """What earlier batches posted. Raises DatabaseUnavailable, Contended."""
        ...

    async def recall(self, claim: Claim, unread: Unread) -> Recalled:
        """What rules ask of the books. Raises DatabaseUnavailable, Contended."""
        ...

    def stage(self, claim: Claim, folded: Folded) -> Staged:
        """Makes what ``commit`` will send. Pure work: may run in a thread, also while another batch is committed."""
        ...

    async def commit(self, claim: Claim, staged: Staged) -> None:
        """One db_tx. Raises DatabaseUnavailable, Contended, Fenced, DatabaseRefused."""
        ...

    async def stop(self, claim: Claim, stop: Stop) -> None:
        """Writes down why the partition stopped. Raises DatabaseUnavailable, Fenced when it is not ours any more."""
        ...

    async def accepted(self, incidents: Collection[str]) -> frozenset[str]:
        """Which of these incidents were accepted. Raises DatabaseUnavailable."""
        ...

    async def maintain(self) -> None:
        """What has to be done once a day. Raises DatabaseUnavailable, Contended."""
        ...

    async def close(self) -> None: ...


class PromoterPort(Protocol):
    """The database connection of the promotion."""

    async def step(self) -> Promotion | None:
        """Moves final balances on by a bounded step; None when there is nothing to do.

        Raises DatabaseUnavailable, Contended, DatabaseRefused.
        """
        ...

    async def close(self) -> None: ...


class RegistryPort(Protocol):
    """The posting rules by description version."""

    @property
    def rules(self) -> RuleBook: ...

    async def refresh(self) -> None:
        """Reads the registry topic to its end. Raises BrokerUnavailable, DatabaseUnavailable, ConfigurationRefused."""
        ...


class Listener(Protocol):
    """Who hears of rebalances. Called while the group waits."""

    async def revoked(self, partitions: Sequence[Partition]) -> None: ...
    async def assigned(self, partitions: Sequence[Partition]) -> None: ...


class OffsetsLost(Exception):
    """The broker no longer has what comes next on these partitions (or never had it): partition → next offset."""

    def __init__(self, offsets: Mapping[Partition, int]) -> None:
        super().__init__(str(dict(offsets)))
        self.offsets = dict(offsets)


class ConsumerPort(Protocol):
    """A member of the consumer group."""

    async def start(self, listener: Listener) -> None:
        """Joins. Raises BrokerUnavailable."""
        ...

    async def poll(self, timeout_s: float) -> Mapping[Partition, Sequence[Record]]:
        """Everything that has arrived, or nothing after the timeout. Raises OffsetsLost, BrokerUnavailable."""
        ...

    def seek(self, partition: Partition, offset: int) -> bool:
        """Continues there, also when it was paused. False, and nothing done, when it is not ours (any more)."""
        ...

    def pause(self, partition: Partition) -> None:
        """Fetches no more of it, if it is ours."""
        ...

    async def lag(self) -> Mapping[Partition, Lag]:
        """Of partitions that were fetched at least once."""
        ...

    async def stop(self) -> None: ...


OpenStore = Callable[[], Awaitable[StorePort]]
"""Connects. Raises DatabaseUnavailable, ConfigurationRefused."""

OpenPromoter = Callable[[], Awaitable[PromoterPort]]
"""Connects. Raises as OpenStore."""

MakeConsumer = Callable[[], ConsumerPort]


class ReaderPort(Protocol):
    """Partitions as they are on the broker, without a group."""

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Offset after the last record that a read_committed consumer sees. Raises BrokerUnavailable."""
        ...

    def read(self, partition: Partition, from_offset: int, to_offset: int) -> AsyncIterator[Sequence[Record]]:
        """Records at or above ``from_offset`` and below ``to_offset``. Raises OffsetsLost, BrokerUnavailable."""
        ...
