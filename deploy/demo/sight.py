"""What the second connection sees: runs ``probe.py`` as a process and keeps when each block became visible."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field

from deploy.demo.failure import DemoFailure
from deploy.demo.statements import STATEMENTS
from deploy.local.paths import REPOSITORY


@dataclass(slots=True)
class Seen:
    """Per partition the newest visible block, and when (Unix ms) each block could first be seen."""

    latest: dict[int, int] = field(default_factory=dict)
    final: int = -1
    visible_ms: dict[int, dict[int, float]] = field(default_factory=dict)  # partition → block → Unix ms

    @property
    def through(self) -> int:
        """The block that every partition shows."""
        return min(self.latest.values(), default=-1)

    def take(self, line: bytes) -> None:
        """One line of the probe."""
        found = json.loads(line)
        for subject, latest, final in found["seen"]:
            partition = int(subject.rpartition("/")[2])
            visible = self.visible_ms.setdefault(partition, {})
            for number in range(self.latest.get(partition, -1) + 1, latest + 1):
                visible.setdefault(number, found["at_ms"])
            self.latest[partition] = latest
            self.final = final


class Sight:
    """The probe's process. Call ``run`` as a task."""

    def __init__(self, dsn: str) -> None:
        self.seen = Seen()
        self._dsn = dsn

    async def run(self) -> None:
        """Reads what the probe says until cancelled. Raises DemoFailure when it ends."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "deploy.demo.probe",
            self._dsn,
            STATEMENTS["progress"],
            cwd=REPOSITORY,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async for line in process.stdout:
                self.seen.take(line)
            reason = (await process.stderr.read()).decode().strip().splitlines()
            raise DemoFailure(f"the reader's connection ended: {reason[-1] if reason else 'it said nothing'}")
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
