"""Python source that is written by us, from checked values only, and compiled once per event type.

Text from a description or an ABI never becomes code: it enters as a constant (``constant``) or as the repr of a
checked name.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any


class Source:
    """Lines of one module that defines functions, and the constants that they see."""

    def __init__(self, title: str) -> None:
        self._title = f"<chainbooks {title}>"
        self._lines: list[str] = []
        self._constants: dict[str, Any] = {}

    def line(self, text: str, *, depth: int = 0) -> None:
        """One line at an indentation of ``depth`` levels."""
        self._lines.append("    " * depth + text)

    def constant(self, value: Any, *, name: str | None = None) -> str:
        """The name under which the generated code sees a value."""
        key = name or f"K{len(self._constants)}"
        assert key not in self._constants or self._constants[key] is value, key
        self._constants[key] = value
        return key

    @property
    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def function(self, name: str) -> Callable[..., Any]:
        """Compile and return one of the functions that the lines define; tracebacks show the generated lines."""
        namespace: dict[str, Any] = dict(self._constants)
        linecache.cache[self._title] = (len(self.text), None, self.text.splitlines(keepends=True), self._title)
        exec(compile(self.text, self._title, "exec"), namespace)  # noqa: S102  # our own source; see the module's promise
        function: Callable[..., Any] = namespace[name]
        return function
