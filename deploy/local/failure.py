"""What went wrong in the local stack, told so that a person can act on it. Never a traceback."""

from __future__ import annotations


class LocalError(Exception):
    """A part could not be set up or started. ``str()`` is the whole message: what, why, what to do."""

    def __init__(self, what: str, *, why: str = "", do: str = "") -> None:
        self.what = what
        self.why = why
        self.do = do
        lines = [what, *(f"  {line}" for line in why.splitlines()), *([f"  → {do}"] if do else [])]
        super().__init__("\n".join(lines))
