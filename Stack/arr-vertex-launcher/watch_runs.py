"""How many runs the agent took and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

SETTLING = 60.0
"""Seconds in which the agent's own count may still lag behind a run that it has just taken."""


class Outcome(Enum):
    """What became of a run. UNKNOWN is never counted as either of the others.

    W&B's agent says that a job has finished in the same words whether it succeeded or failed.
    """

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PREEMPTED = "preempted"
    UNKNOWN = "unknown"


def _none() -> dict[Outcome, int]:
    return dict.fromkeys(Outcome, 0)


@dataclass(slots=True)
class Runs:
    """Counts. taken = succeeded + failed + preempted + unknown + running, at any time.

    `idle_since` is when the last one ended, or the agent started; meaningless while one is running.
    A run that was taken is running, whether its job is still waiting for a machine or not.
    """

    idle_since: float
    taken: int = 0
    ended: dict[Outcome, int] = field(default_factory=_none)
    taken_at: float = 0.0

    @property
    def running(self) -> int:
        return self.taken - sum(self.ended.values())

    def take(self, now: float) -> None:
        self.taken += 1
        self.taken_at = now

    def end(self, outcome: Outcome, now: float) -> None:
        """One run has ended; nothing happens if none is running."""
        if self.running == 0:
            return
        self.ended[outcome] += 1
        if self.running == 0:
            self.idle_since = now

    def settle(self, running: int, now: float) -> None:
        """Believe the agent that no more than `running` are left: an end may have gone unsaid."""
        if now - self.taken_at < SETTLING:
            return
        while self.running > running:
            self.end(Outcome.UNKNOWN, now)

    def counts(self) -> dict[str, int]:
        """Return the counts by name, `taken` first and `running` last."""
        ended = {outcome.value: count for outcome, count in self.ended.items()}
        return {"taken": self.taken, **ended, "running": self.running}

    def __str__(self) -> str:
        shown = [
            f"{count} {name}"
            for name, count in self.counts().items()
            if count or name in ("taken", "succeeded", "failed", "running")
        ]
        return ", ".join(shown)
