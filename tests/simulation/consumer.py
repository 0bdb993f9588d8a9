"""The ledger's side of the simulated Kafka: a consumer group with rebalances, and its members.

Members heartbeat beside their poll loop; a process that was killed is missed after the session timeout, one that is
only slow finds out later that it was expelled, and until then goes on with what it has.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ledger.errors import BrokerUnavailable
from ledger.ports import Lag, Listener, OffsetsLost, Partition
from tests.simulation.faults import Faults
from tests.simulation.kafka import Broker, Entry
from tests.simulation.loop import Gate, Killed

HEARTBEAT_S: Final = 1.0
SESSION_S: Final = 10.0
REBALANCE_S: Final = 12.0
FETCH_MAX: Final = 60


Assignment = tuple[int, frozenset[Partition]]
"""Generation and partitions."""


@dataclass(eq=False, slots=True)
class Member:
    """What the group knows of a consumer."""

    number: int
    seen_at: float
    joined: asyncio.Future[Assignment] | None = None


@dataclass(eq=False, slots=True)
class Group:
    """The group coordinator: eager rebalances, partition n of every topic to the same member."""

    topics: tuple[str, ...]
    partitions: int
    generation: int = 0
    members: list[Member] = field(default_factory=list)
    rebalancing: bool = False
    _numbers: int = 0

    def add(self) -> Member:
        self._numbers += 1
        member = Member(self._numbers, asyncio.get_running_loop().time())
        self.members.append(member)
        return member

    def remove(self, member: Member) -> None:
        if member in self.members:
            self.members.remove(member)
            self.rebalance()

    def heartbeat(self, member: Member, generation: int) -> bool:
        """False: join again."""
        loop = asyncio.get_running_loop()
        member.seen_at = loop.time()
        return member in self.members and not self.rebalancing and generation == self.generation

    async def join(self, member: Member) -> Assignment:
        """Waits for the end of the rebalance."""
        loop = asyncio.get_running_loop()
        if member not in self.members:
            self.members.append(member)
        member.seen_at = loop.time()
        joined: asyncio.Future[Assignment] = loop.create_future()
        member.joined = joined
        self.rebalance()
        self._complete()
        loop.call_later(SESSION_S, self._expire)
        return await joined

    def rebalance(self) -> None:
        if not self.rebalancing and self.members:
            self.rebalancing = True
            asyncio.get_running_loop().call_later(REBALANCE_S, self._too_late, self.generation)

    def _expire(self) -> None:
        """Members that were not heard of for a session are out."""
        loop = asyncio.get_running_loop()
        silent = [m for m in self.members if m.joined is None and loop.time() - m.seen_at >= SESSION_S]
        for member in silent:
            self.remove(member)
        self._complete()
        if self.members:
            loop.call_later(SESSION_S / 2, self._expire)

    def _too_late(self, generation: int) -> None:
        if self.rebalancing and generation == self.generation:
            self.members = [member for member in self.members if member.joined is not None]
            self._complete()

    def _complete(self) -> None:
        if not self.rebalancing or not self.members or any(m.joined is None for m in self.members):
            return
        self.rebalancing = False
        self.generation += 1
        members = sorted(self.members, key=lambda m: m.number)
        now = asyncio.get_running_loop().time()
        for index, member in enumerate(members):
            owned = [p for p in range(self.partitions) if p % len(members) == index]
            future, member.joined, member.seen_at = member.joined, None, now
            if future is not None and not future.done():
                partitions = frozenset(Partition(topic, p) for topic in self.topics for p in owned)
                future.set_result((self.generation, partitions))


class SimConsumer:
    """Implements ledger.ports.ConsumerPort."""

    def __init__(
        self,
        broker: Broker,
        group: Group,
        *,
        gate: Gate,
        faults: Faults,
        pick: random.Random,
        trace: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._trace = trace
        self._broker = broker
        self._group = group
        self._gate = gate
        self._faults = faults
        self._pick = pick
        self._assigned: frozenset[Partition] = frozenset()
        self._positions: dict[Partition, int] = {}
        self._old: dict[Partition, int] = {}  # where it stood before the assignment, as long as it is not sought
        self._paused: set[Partition] = set()
        self._member: Member | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, listener: Listener) -> None:
        await self._gate.wait("join")
        if self._faults.happens("kafka: broker away for a reader"):
            raise BrokerUnavailable("Kafka cannot be joined")
        self._member = self._group.add()
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._coordinate(self._member, listener, first))
        self._task.add_done_callback(self._ended)
        await first

    async def poll(self, timeout_s: float) -> Mapping[Partition, Sequence[Entry]]:
        await self._gate.wait("poll")
        if self._faults.happens("kafka: poll fails"):
            raise BrokerUnavailable("Kafka cannot be read")
        found = self._collect()
        if not found:
            await asyncio.sleep(timeout_s)
            found = self._collect()
        return found

    def seek(self, partition: Partition, offset: int) -> bool:
        if partition not in self._assigned or not self._gate.open:
            return False
        self._positions[partition] = offset
        self._old.pop(partition, None)
        self._paused.discard(partition)
        return True

    def pause(self, partition: Partition) -> None:
        if partition in self._assigned:
            self._paused.add(partition)

    async def lag(self) -> Mapping[Partition, Lag]:
        lags = {}
        for partition in sorted(self._assigned - self._paused):
            position = self._positions.get(partition)
            if position is not None:
                end = self._broker.log(*partition).stable
                lags[partition] = Lag(records=max(end - position, 0), position=position)
        return lags

    async def stop(self) -> None:
        member, task = self._member, self._task
        self._member = self._task = None
        if task is not None:
            task.cancel()
        self._assigned = frozenset()
        if member is not None and self._gate.open:
            await self._gate.wait("leave")
            self._group.remove(member)

    @property
    def sought(self) -> frozenset[Partition]:
        """What is assigned and positioned."""
        return self._assigned & self._positions.keys()

    def rewind(self, offset: int) -> None:
        """Delivers everything again from an offset on."""
        for partition in self.sought:
            self._positions[partition] = min(offset, self._positions[partition])

    async def _coordinate(self, member: Member, listener: Listener, first: asyncio.Future[None]) -> None:
        while True:
            generation, assigned = await self._group.join(member)
            self._old = {**self._old, **self._positions}
            self._positions = {}
            self._paused = set()
            self._assigned = assigned
            await self._gate.wait("assigned")
            await self._told(listener.assigned(sorted(assigned)))
            if not first.done():
                first.set_result(None)
            while True:
                await asyncio.sleep(HEARTBEAT_S)
                await self._gate.wait("heartbeat")
                if not self._group.heartbeat(member, generation):
                    break
            await self._told(listener.revoked(sorted(self._assigned)))
            self._assigned = frozenset()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._faults.unexpected.append(f"the consumer's background task ended: {exc!r}")

    async def _told(self, callback: object) -> None:
        """What a listener raises is swallowed, as by the real client."""
        try:
            await callback  # type: ignore[misc]
        except Killed:
            raise
        except Exception as exc:
            self._faults.unexpected.append(f"listener raised {exc!r}")

    def _collect(self) -> dict[Partition, Sequence[Entry]]:
        """What has arrived. An error of one partition is told when there is nothing else: no record is lost by it."""
        found: dict[Partition, Sequence[Entry]] = {}
        for partition in sorted(self._assigned):
            if not found:
                self._fall_out_of_range(partition)
            records = self._fetch(partition)
            if records:
                found[partition] = records
                kind = partition.topic.split(".")[-2]
                self._trace(f"gets {kind}/{partition.number} {records[0].offset}-{records[-1].offset}")
        return found

    def _fall_out_of_range(self, partition: Partition) -> None:
        position = self._positions.get(partition)
        if position is None or partition in self._paused:
            return
        beyond = position > self._broker.log(*partition).end
        if beyond or (position and self._faults.happens("kafka: offset out of range")):
            raise OffsetsLost({partition: position})

    def _fetch(self, partition: Partition) -> Sequence[Entry]:
        log = self._broker.log(*partition)
        position = self._positions.get(partition)
        if position is None:
            old = self._old.get(partition)
            if old is None or old >= log.stable:
                return ()
            if not self._faults.happens("kafka: poll hands out the old position before the seek"):
                return ()
            records, self._old[partition] = log.read(old, FETCH_MAX)
            return records
        if partition in self._paused:
            return ()
        if position and self._faults.happens("kafka: poll delivers again"):
            position = max(position - self._pick.randint(1, 80), 0)
        if position + 2 < log.stable and self._faults.happens("kafka: poll skips records"):
            position += self._pick.randint(1, 3)
        records, self._positions[partition] = log.read(position, self._pick.randint(1, FETCH_MAX))
        return records
