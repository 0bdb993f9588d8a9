"""What a run was like, in a few lines and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.e2e.chaos.supervisor import Ended, Recovery
from tests.e2e.chaos.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run, whatever its verdict."""

    seed: int
    seconds: float  # of load
    events_per_s: float  # standing ones
    calls_failed: int
    reorgs: Counter[int]  # depth → how many
    reorgs_while_down: int
    recoveries: list[Recovery]
    ended: list[Ended]
    stopped_with: dict[str, int | None]  # service → exit code after SIGTERM
    traces: list[str]  # lines that no log may hold
    settled_after_s: float
    verdict: Verdict

    @property
    def kills(self) -> Counter[str]:
        return Counter(recovery.part for recovery in self.recoveries)

    def summary(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "events": self.verdict.standing,
            "events_per_s": round(self.events_per_s, 1),
            "retracted": self.verdict.retracted,
            "final": self.verdict.final,
            "aborted": self.verdict.aborted,
            "kills": dict(sorted(self.kills.items())),
            "reorgs": {str(depth): count for depth, count in sorted(self.reorgs.items())},
            "reorgs_while_down": self.reorgs_while_down,
            "calls_failed": self.calls_failed,
            "recovery_s": {part: self._times(part) for part in sorted(self.kills)},
            "all_ready_s_max": round(max((r.all_ready_after_s or 0.0 for r in self.recoveries), default=0.0), 1),
            "ended_by_itself": [f"{ended.part} with {ended.exit_code}" for ended in self.ended],
            "stopped_with": self.stopped_with,
            "settled_after_s": round(self.settled_after_s, 1),
            "traces": self.traces,
            "differences": list(self.verdict.differences),
        }

    def lines(self) -> list[str]:
        """For people."""
        shown = self.summary()
        times = ", ".join(f"{part} {'/'.join(map(str, found))}" for part, found in shown["recovery_s"].items())
        kills = ", ".join(f"{part} {count}" for part, count in shown["kills"].items())
        itself = ", ".join(shown["ended_by_itself"]) or "none"
        text = f"""\
seed {self.seed}: {shown["events"]} events stand after {shown["seconds"]} s of load ({shown["events_per_s"]}/s)
{shown["retracted"]} were retracted, {shown["final"]} are final, {self.calls_failed} calls failed on the chain
{shown["aborted"]} records on the topics belong to a kafka_tx that was cut off
kill -9: {kills}
reorgs: {sum(self.reorgs.values())}, by depth {shown["reorgs"]}, {self.reorgs_while_down} of them while a part was down
from kill to ready, median/slowest in seconds: {times}
slowest until all were ready: {shown["all_ready_s_max"]} s; settled {shown["settled_after_s"]} s after the load
ended by itself: {itself}; after SIGTERM: {self.stopped_with}
differences: {len(self.verdict.differences)}, tracebacks and the like: {len(self.traces)}"""
        return text.splitlines()

    def _times(self, part: str) -> list[float]:
        times = sorted(r.ready_after_s or 0.0 for r in self.recoveries if r.part == part)
        return [round(times[len(times) // 2], 1), round(times[-1], 1)]
