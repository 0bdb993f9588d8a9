"""What can go wrong in the indexer, by what the pipeline does about it. Adapters raise these from library errors."""

from __future__ import annotations


class IndexerError(Exception):
    """Root of all operating errors of the indexer."""


class RetryableError(IndexerError):
    """Passes by itself or after asking another node: wait with jitter and try again."""


class FatalError(IndexerError):
    """Does not pass by itself: stop, and say why."""


class NodeUnavailable(RetryableError):
    """The node is away, slow, or answered with an error that says nothing about our request."""


class MethodMissing(NodeUnavailable):
    """The node does not have this JSON-RPC method (−32601)."""


class NodeBehind(RetryableError):
    """The node does not have this block (yet, or any more). Never evidence that there are no logs."""


class NodeLied(RetryableError):
    """The node's answer contradicts itself, its own header or what we asked for."""


class RangeTooLarge(RetryableError):
    """The node refuses this block range; ``blocks_max`` is the limit that it names, if it names one."""

    def __init__(self, message: str, *, blocks_max: int | None = None) -> None:
        super().__init__(message)
        self.blocks_max = blocks_max


class PublisherLost(RetryableError):
    """A send failed or a commit's outcome is unknown: discard the producer, reload from the state topic."""


class Fenced(RetryableError):
    """A newer producer has our transactional id: read the owner record to learn whether we were superseded."""


class BrokerUnavailable(RetryableError):
    """Kafka is away or does not answer in time."""


class PublishingRefused(FatalError):
    """Kafka refuses a record or this client for good: asking again cannot help. Exit code 2."""


class DependencyAway(FatalError):
    """A node or Kafka stayed away longer than the limit. Exit code 3."""


class ConfigurationRefused(FatalError):
    """Settings, registry, topics or node do not fit together. Exit code 2."""


class StateRefused(FatalError):
    """The state topic cannot be trusted: lost, incomplete or unlinked. Exit code 2."""


class Superseded(FatalError):
    """Another instance owns this chain now. Exit code 5."""


class Latched(FatalError):
    """The chain changed below finality; an operator must resolve it. Exit code 4."""


class ResolveRefused(FatalError):
    """What an operator wants to resolve is not there, or is not what the nodes have. Exit code 2."""


class Unconfirmed(FatalError):
    """The nodes do not confirm a block, contradict each other, or cannot tell yet. Exit code 3."""
