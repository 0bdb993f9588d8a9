"""What is wrong with a document, by its path: collected, all of it, before anything is refused. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from contracts.references import RuleError

T = TypeVar("T")
Where = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """What is wrong at a path of the document; the loader turns the path into a file and a line."""

    path: Where
    what: str
    do: str


class DocumentError(ValueError):
    """A document that cannot be used, with all issues."""

    def __init__(self, issues: list[Issue]) -> None:
        self.issues = issues
        super().__init__("; ".join(f"{'.'.join(map(str, issue.path))}: {issue.what}" for issue in issues))


@dataclass(slots=True)
class Issues:
    """The issues so far."""

    found: list[Issue] = field(default_factory=list)

    def add(self, path: Where, what: str, do: str) -> None:
        self.found.append(Issue(path=path, what=what, do=do))

    def attempt(self, path: Where, make: Callable[[], T]) -> T | None:
        """The value, or None and an issue at this path."""
        try:
            return make()
        except RuleError as exc:
            self.add(path, exc.what, exc.do)
            return None

    def finish(self) -> None:
        """Raises DocumentError when there is any."""
        if self.found:
            raise DocumentError(self.found)
