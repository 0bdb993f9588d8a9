"""What is wrong with a description: one line a problem, with the place and what to do.

Never a traceback for bad input.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in one place."""

    file: str
    line: int  # from 1; 0 when the place has no line (a document that did not come from a file)
    field: str  # for example "Deposited.postings[0].amount"; empty for the whole file
    what: str  # what is wrong
    do: str  # what the author does about it

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        field = f" {self.field}:" if self.field else ""
        return f"{place}:{field} {self.what}; {self.do}"


class RegistryError(ValueError):
    """Descriptions that cannot be used. ``problems`` has every one that was found, in file and line order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(problems, key=lambda p: (p.file, p.line, p.field, p.what)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def suggestion(name: str, candidates: Iterable[str]) -> str:
    """``did you mean 'amount'?`` with the nearest candidate, or the list of what there is."""
    known = sorted(set(candidates))
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    if not known:
        return "there is none to choose from"
    shown = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    return f"use one of: {shown}"
