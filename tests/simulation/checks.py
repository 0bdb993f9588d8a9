"""What a read_committed observer must see at every moment, partition by partition.

Numbers have no gap, revisions alternate, retractions take back exactly the newest standing event, what is applied
stands on it, and whenever a watermark names a block the partition holds exactly the events of that block's branch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from contracts.messages import Topics, decode_event, decode_rejected, decode_watermark
from tests.simulation.chain import PARTITIONS, Chain, chained
from tests.simulation.kafka import Broker, Entry, Log


class Inconsistent(AssertionError):
    """A promise was broken."""


def demand(holds: bool, what: str) -> None:
    if not holds:
        raise Inconsistent(what)


@dataclass(slots=True)
class Stream:
    """One partition as the observer has read it so far."""

    log: Log
    position: int = 0
    seq: int = 0
    stream_id: bytes = b""
    finalized: int = -1

    def news(self) -> list[tuple[Entry, dict[str, bytes]]]:
        """What was committed since; its numbers are checked."""
        entries, self.position = self.log.read(self.position, self.log.end)
        found = []
        for entry in entries:
            headers = dict(entry.headers)
            where = f"{self.log.topic}/{self.log.partition}@{entry.offset}"
            seq = int(headers["stream_seq"])
            demand(seq == self.seq + 1, f"{where}: stream_seq {seq} after {self.seq}")
            self.seq = seq
            self.stream_id = self.stream_id or headers["stream_id"]
            demand(headers["stream_id"] == self.stream_id, f"{where}: another stream_id")
            found.append((entry, headers))
        return found


@dataclass(slots=True)
class Standing:
    """An event that was applied and not retracted, and the digest over it and all below."""

    event_id: str
    block_hash: str
    number: int
    log_index: int
    digest: bytes


@dataclass(slots=True)
class Events(Stream):
    """A partition of the events topic."""

    standing: list[Standing] = field(default_factory=list)
    revisions: dict[str, int] = field(default_factory=dict)
    retracted: int = 0

    def look(self, chain: Chain) -> None:
        for entry, headers in self.news():
            match headers["op"]:
                case b"applied":
                    self._apply(entry, chain)
                case b"retracted":
                    self._retract(entry, chain)
                case b"watermark":
                    self._watermark(entry, chain)
                case op:
                    raise Inconsistent(f"op {op!r} on the events topic")

    def _apply(self, entry: Entry, chain: Chain) -> None:
        event = decode_event(entry.value or b"")
        block = chain.blocks.get(event.block_hash)
        demand(block is not None, f"an event of an unknown block {event.block_number}")
        assert block is not None
        revision = self.revisions.get(event.event_id, 0) + 1
        demand(event.revision == revision, f"block {block.label}: revision {event.revision}, expected {revision}")
        demand(revision % 2 == 1, f"block {block.label}: applied with an even revision")
        self.revisions[event.event_id] = revision
        digest = bytes(32)
        if self.standing:
            top = self.standing[-1]
            digest = top.digest
            place, below = (event.block_number, event.log_index), (top.number, top.log_index)
            demand(place > below, f"block {block.label}: applied out of chain order, after {below}")
            demand(
                block.descends_from(chain.blocks[top.block_hash]),
                f"block {block.label} is applied on another branch's block {chain.blocks[top.block_hash].label}",
            )
        demand(event.block_number > self.finalized, f"block {block.label}: applied at or below finality")
        self.standing.append(
            Standing(
                event.event_id, event.block_hash, event.block_number, event.log_index, chained(digest, event.event_id)
            )
        )

    def _retract(self, entry: Entry, chain: Chain) -> None:
        event = decode_event(entry.value or b"")
        label = chain.blocks[event.block_hash].label
        demand(bool(self.standing), f"block {label}: retracted, but nothing stands")
        top = self.standing.pop()
        demand(top.event_id == event.event_id, f"block {label}: retracted, but {top.number} {top.log_index} is newer")
        revision = self.revisions[event.event_id] + 1
        demand(event.revision == revision and revision % 2 == 0, f"block {label}: retracted as {event.revision}")
        demand(event.block_number > self.finalized, f"block {label}: retracted below finality {self.finalized}")
        rivals = chain.heights[event.block_number]
        demand(
            len(rivals) > 1 or self._branch_exists(chain, event.block_hash), f"block {label}: retracted on no evidence"
        )
        self.revisions[event.event_id] = revision
        self.retracted += 1

    @staticmethod
    def _branch_exists(chain: Chain, block_hash: str) -> bool:
        """Whether there is a block that does not descend from this one, at or below its height, above an ancestor."""
        block = chain.blocks[block_hash]
        return any(len(chain.heights[number]) > 1 for number in range(1, block.number + 1))

    def _watermark(self, entry: Entry, chain: Chain) -> None:
        mark = decode_watermark(entry.value or b"")
        block = chain.blocks.get(mark.latest.hash)
        demand(block is not None and block.number == mark.latest.number, f"watermark of unknown block {mark.latest}")
        assert block is not None
        digest = self.standing[-1].digest if self.standing else bytes(32)
        demand(
            digest == block.digests[self.log.partition],
            f"partition {self.log.partition} does not hold what block {block.label} says",
        )
        demand(chain.is_final(mark.finalized.hash), f"finalized {mark.finalized.number} is not final")
        demand(mark.finalized.number >= self.finalized, f"finalized went back to {mark.finalized.number}")
        demand(block.number >= mark.finalized.number, "latest below finalized")
        self.finalized = mark.finalized.number


@dataclass(slots=True)
class Finals(Stream):
    """A partition of the final topic."""

    digest: bytes = bytes(32)

    def look(self, chain: Chain) -> None:
        for entry, headers in self.news():
            if headers["op"] == b"watermark":
                mark = decode_watermark(entry.value or b"")
                demand(chain.is_final(mark.finalized.hash), f"final topic: {mark.finalized.number} is not final")
                block = chain.blocks[mark.finalized.hash]
                demand(
                    self.digest == block.digests[self.log.partition],
                    f"final topic {self.log.partition} does not hold what final block {block.label} says",
                )
                self.finalized = mark.finalized.number
                continue
            demand(headers["op"] == b"finalized", f"op {headers['op']!r} on the final topic")
            event = decode_event(entry.value or b"")
            demand(chain.is_final(event.block_hash), f"block {event.block_number} is on the final topic, and not final")
            demand(
                event.block_number > self.finalized, f"final event of block {event.block_number} comes again or late"
            )
            self.digest = chained(self.digest, event.event_id)


@dataclass(slots=True)
class RejectedLogs(Stream):
    """A partition of the rejected topic."""

    standing: set[str] = field(default_factory=set)
    revisions: dict[str, int] = field(default_factory=dict)

    def look(self, chain: Chain) -> None:
        del chain
        for entry, _ in self.news():
            rejected = decode_rejected(entry.value or b"")
            revision = self.revisions.get(rejected.event_id, 0) + 1
            demand(rejected.revision == revision, f"rejected log: revision {rejected.revision}, expected {revision}")
            self.revisions[rejected.event_id] = revision
            demand((rejected.op == "retracted") == (revision % 2 == 0), f"rejected log: {rejected.op} {revision}")
            (self.standing.discard if rejected.op == "retracted" else self.standing.add)(rejected.event_id)


class Observer:
    """A consumer of all topics of the chain."""

    def __init__(self, broker: Broker, topics: Topics, chain: Chain) -> None:
        self._chain = chain
        self.events = [Events(broker.log(topics.events, p)) for p in range(PARTITIONS)]
        self.finals = [Finals(broker.log(topics.final, p)) for p in range(PARTITIONS)]
        self.rejected = [RejectedLogs(broker.log(topics.rejected, p)) for p in range(PARTITIONS)]

    def look(self) -> None:
        """Reads what is new. Raises Inconsistent."""
        for stream in (*self.events, *self.finals, *self.rejected):
            stream.look(self._chain)
