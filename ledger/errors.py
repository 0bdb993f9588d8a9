"""What can go wrong in the ledger, by what the pipeline does about it. Adapters raise these from library errors."""

from __future__ import annotations


class LedgerError(Exception):
    """Root of all operating errors of the ledger."""


class RetryableError(LedgerError):
    """Passes by itself: wait with jitter and try again."""


class FatalError(LedgerError):
    """Does not pass by itself: stop, and say why. Exit code 2."""


class DatabaseUnavailable(RetryableError):
    """Postgres is away, or the connection was lost. The outcome of an open db_tx is unknown: claim again."""


class Contended(RetryableError):
    """Deadlock, serialisation failure or lock timeout: nothing was committed, the same batch may be tried again."""


class BrokerUnavailable(RetryableError):
    """Kafka is away or does not answer in time."""


class NodeUnavailable(RetryableError):
    """The node is away, slow, or does not have the block that was asked for."""


class Fenced(RetryableError):
    """The stream's row is not what we hold. ``by`` is who claimed it; None when only the position has moved."""

    def __init__(self, message: str, *, by: str | None = None) -> None:
        super().__init__(message)
        self.by = by


class DatabaseRefused(LedgerError):
    """The database refuses the content of a batch. ``constraint`` names the constraint, if it was one."""

    def __init__(self, message: str, *, constraint: str | None = None) -> None:
        super().__init__(message)
        self.constraint = constraint


class ConfigurationRefused(FatalError):
    """Settings, topics, schema or node do not fit together."""


class Superseded(FatalError):
    """Another process has our name in the consumer group now. Exit code 5."""


class CallFailed(LedgerError):
    """A contract refused a call at the block that was asked about, for example because it was not there yet."""


def operating_error(failure: BaseException | None) -> BaseException | None:
    """The error inside a task group's group, if all that it has are ours: the first fatal one, else the first."""
    if not isinstance(failure, BaseExceptionGroup):
        return failure
    leaves = list(_leaves(failure))
    if not all(isinstance(leaf, FatalError | RetryableError) for leaf in leaves):
        return failure
    return next((leaf for leaf in leaves if isinstance(leaf, FatalError)), leaves[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found
