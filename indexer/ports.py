"""What the pipeline needs from the outside, as protocols. Adapters implement them; fakes do too."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from indexer.core.assemble import PlacedLog
from indexer.core.blocks import Header
from indexer.core.compose import KafkaTx
from indexer.core.history import StreamRecord
from indexer.core.state import StreamKind


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """What we ask eth_getLogs for: addresses and first topics, lower-case 0x hex, sorted."""

    addresses: tuple[str, ...]
    topic0s: tuple[str, ...]


class NodePort(Protocol):
    """A JSON-RPC node. Every method may raise RetryableError; None means that the node does not have it."""

    @property
    def name(self) -> str: ...

    @property
    def count(self) -> int:
        """How many nodes stand behind this one."""

    def distrust(self) -> None:
        """The last answer was no use: ask another node from now on, if there is one."""

    async def hashes_at(self, number: int) -> list[str]:
        """What every node that answers has at a height."""

    async def chain_id(self) -> int: ...

    async def genesis_hash(self) -> str: ...

    async def header_by_tag(self, tag: Literal["latest", "safe", "finalized"]) -> Header | None: ...

    async def header_by_number(self, number: int) -> Header | None: ...

    async def header_by_hash(self, block_hash: str) -> Header | None: ...

    async def logs_of_block(self, header: Header, wanted: LogFilter) -> list[PlacedLog]: ...

    async def logs_from_receipts(self, header: Header, wanted: LogFilter) -> list[PlacedLog]:
        """The logs of a block, after all its logs have been seen to make its bloom. Never fewer than there are."""

    async def logs_of_range(self, from_block: int, to_block: int, wanted: LogFilter) -> list[PlacedLog]: ...


class PublisherPort(Protocol):
    """One producer's life. After an exception it must be closed and replaced."""

    async def open(self) -> None: ...

    async def publish(self, tx: KafkaTx) -> Sequence[int]:
        """Commits; the offsets of ``tx.state`` on the state topic, in order."""

    async def close(self) -> None: ...


StateRecord = tuple[int, str, bytes | None]
"""Offset, key and value of a committed record of the state topic; None is a tombstone."""


class StatePort(Protocol):
    """Reads what is durable. Every method raises BrokerUnavailable when Kafka is away or nothing comes any more."""

    def read(self, topic: str, *, to_the_very_end: bool) -> AsyncGenerator[StateRecord, None]:
        """The committed records of a compacted topic as they come. ``to_the_very_end`` is for the one whose producer

        has started: it waits until nothing undecided is left. Everybody else reads whole kafka_txs up to the last
        decided one.
        """

    async def read_at(self, topic: str, offsets: Sequence[int]) -> list[StateRecord]:
        """The committed records at these offsets (ascending), as far as they are there."""

    async def latest(self, topic: str, key: str) -> bytes | None:
        """The newest committed value of a key, read from the end backwards; None when there is none."""

    async def any_records(self, topic: str, partitions: int) -> bool: ...


class StreamsPort(Protocol):
    """Reads the published streams back."""

    async def read(
        self,
        kind: StreamKind,
        partitions: int,
        *,
        from_ms: int,
        to_the_very_end: bool,
        take: Callable[[StreamRecord], None],
    ) -> None:
        """Gives ``take`` every committed record from the first one whose time is ``from_ms`` or later; 0: from the
        stream's begin. ``to_the_very_end`` as in StatePort.
        """


class HeadsPort(Protocol):
    """Tells when there may be a new head."""

    async def wait(self, timeout_s: float) -> int | None:
        """Returns when a head was announced (Unix ms of its arrival) or, with None, when the time is over."""


class ClockPort(Protocol):
    """Time, so that tests can set it."""

    def now_ms(self) -> int: ...

    async def sleep(self, seconds: float) -> None: ...
