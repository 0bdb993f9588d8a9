"""Why the demo cannot go on or did not end well, told in sentences."""

from __future__ import annotations


class DemoFailure(Exception):
    """``str()`` says what is wrong and where to look. The exit code goes with it (deploy.runtime.exit_codes)."""

    def __init__(self, what: str, *, look: str = "", exit_code: int = 3) -> None:
        super().__init__(f"{what}\n  → {look}" if look else what)
        self.exit_code = exit_code
