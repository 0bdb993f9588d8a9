"""Kafka in memory, with the semantics of real transactions: one log per partition, whose offsets count commit markers.

A commit is decided at the coordinator first and shows on each partition when its marker is written, one after the
other. A read_committed reader sees what lies below the last stable offset: the first offset of the oldest kafka_tx
that has no marker on that partition yet.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from indexer.errors import Fenced

Headers = list[tuple[str, bytes]]


@dataclass(eq=False, slots=True)
class Tx:
    """One kafka_tx at the coordinator."""

    epoch: int
    status: Literal["open", "commit", "abort"] = "open"
    unmarked: list[Log] = field(default_factory=list)  # partitions whose marker is not written yet


@dataclass(slots=True)
class Entry:
    """A record, or a marker (``tx`` is over on this partition)."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    tx: Tx
    partition: int = 0
    marker: bool = False
    compacted: bool = False

    @property
    def readable(self) -> bool:
        return not self.marker and not self.compacted and self.tx.status == "commit"


@dataclass(eq=False, slots=True)
class Log:
    """One partition."""

    topic: str
    partition: int
    entries: list[Entry] = field(default_factory=list)
    undecided: dict[Tx, int] = field(default_factory=dict)  # → its first offset here

    @property
    def end(self) -> int:
        return len(self.entries)

    @property
    def stable(self) -> int:
        """The last stable offset."""
        return min(self.undecided.values(), default=len(self.entries))

    def append(self, tx: Tx, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        self.undecided.setdefault(tx, self.end)
        if self not in tx.unmarked:
            tx.unmarked.append(self)
        self.entries.append(Entry(self.end, key, value, headers, tx, self.partition))

    def mark(self, tx: Tx) -> None:
        """Writes the marker."""
        self.undecided.pop(tx)
        tx.unmarked.remove(self)
        self.entries.append(Entry(self.end, None, None, [], tx, self.partition, marker=True))

    def read(self, position: int, count_max: int, *, below: int | None = None) -> tuple[list[Entry], int]:
        """Committed records from a position on, and the position after them."""
        found: list[Entry] = []
        end = self.stable if below is None else min(below, self.stable)
        while position < end and len(found) < count_max:
            entry = self.entries[position]
            position += 1
            if entry.readable:
                found.append(entry)
        return found, position

    def compact(self) -> int:
        """Drops what a newer committed record of the same key replaces; returns how many."""
        newest = {entry.key: entry.offset for entry in self.entries[: self.stable] if entry.readable}
        gone = 0
        for entry in self.entries[: self.stable]:
            if entry.readable and newest[entry.key] != entry.offset:
                entry.compacted = True
                gone += 1
        return gone


@dataclass(eq=False, slots=True)
class Coordinator:
    """The transaction coordinator's view of one transactional id."""

    epoch: int = 0
    tx: Tx | None = None
    delayed: Tx | None = None  # a commit request that is still under way, though its client has given up

    def init(self) -> int:
        """InitProducerId: fences every older producer, ends their kafka_tx."""
        self._end("abort")
        self.epoch += 1
        return self.epoch

    def begin(self, epoch: int) -> Tx:
        self.check(epoch)
        self.write_markers()
        self.tx = Tx(epoch)
        return self.tx

    def check(self, epoch: int) -> None:
        if epoch != self.epoch:
            raise Fenced(f"epoch {epoch} is over, {self.epoch} holds the transactional id")

    def commit(self, tx: Tx) -> None:
        """Decides the commit, if it is still to be decided."""
        if tx is self.tx and tx.epoch == self.epoch and tx.status == "open":
            tx.status = "commit"

    def abort(self, tx: Tx) -> None:
        if tx is self.tx and tx.epoch == self.epoch and tx.status == "open":
            tx.status = "abort"
            self.write_markers()

    def expire(self) -> None:
        """The kafka_tx took too long: the coordinator aborts it and fences its producer."""
        self._end("abort")
        self.epoch += 1

    def deliver_delayed(self) -> None:
        tx, self.delayed = self.delayed, None
        if tx is not None:
            self.commit(tx)

    def write_markers(self, count: int | None = None) -> None:
        """Markers of what is decided: ``count`` of them, or all."""
        tx = self.tx
        if tx is None or tx.status == "open":
            return
        for log in list(tx.unmarked)[:count]:
            log.mark(tx)

    def _end(self, how: Literal["abort"]) -> None:
        if self.tx is not None:
            if self.tx.status == "open":
                self.tx.status = how
            self.write_markers()


class Broker:
    """All logs and coordinators."""

    def __init__(self) -> None:
        self._logs: dict[tuple[str, int], Log] = {}
        self._coordinators: dict[str, Coordinator] = {}

    def log(self, topic: str, partition: int = 0) -> Log:
        return self._logs.setdefault((topic, partition), Log(topic, partition))

    def coordinator(self, transactional_id: str) -> Coordinator:
        return self._coordinators.setdefault(transactional_id, Coordinator())

    def tick(self, pick: random.Random) -> None:
        """A little of what goes on inside: a marker may be written, a delayed commit may arrive."""
        for coordinator in self._coordinators.values():
            if coordinator.delayed is not None and pick.random() < 0.1:
                coordinator.deliver_delayed()
            if coordinator.tx is not None and coordinator.tx.unmarked and pick.random() < 0.4:
                coordinator.write_markers(1)

    def finish(self) -> None:
        """Everything under way arrives."""
        for coordinator in self._coordinators.values():
            coordinator.deliver_delayed()
            coordinator.write_markers()

    @property
    def unsettled(self) -> bool:
        """Whether a decided kafka_tx lacks a marker somewhere."""
        return any(c.tx is not None and c.tx.status != "open" and c.tx.unmarked for c in self._coordinators.values())


def committed(log: Log) -> Iterable[Entry]:
    """All that a read_committed reader sees."""
    return log.read(0, log.end)[0]
