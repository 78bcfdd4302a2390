"""What a custom job's state means to W&B's agent, by the name of the state: plain data only."""

from __future__ import annotations

import re
from typing import Any

# Each JobState of google.cloud.aiplatform -> each state of wandb.sdk.launch.runner.abstract.
# The agent polls on for ever on "unknown", so only what is neither over nor under way has it.
STATES = {
    "JOB_STATE_UNSPECIFIED": "unknown",
    "JOB_STATE_QUEUED": "starting",
    "JOB_STATE_PENDING": "starting",
    "JOB_STATE_RUNNING": "running",
    "JOB_STATE_UPDATING": "running",
    "JOB_STATE_PAUSED": "unknown",
    "JOB_STATE_CANCELLING": "stopping",
    "JOB_STATE_SUCCEEDED": "finished",
    "JOB_STATE_FAILED": "failed",
    "JOB_STATE_EXPIRED": "failed",
    "JOB_STATE_PARTIALLY_SUCCEEDED": "failed",
    "JOB_STATE_CANCELLED": "stopped",
}
# google.rpc.Code; Vertex AI puts the number into a job's `error`.
CODES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS "
    "PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED "
    "INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED"
).split()
_TAKEN_AWAY = re.compile(r"preempt|stockout|resources are insufficient", re.IGNORECASE)


def state_of(job: Any, strategy: str) -> str:
    """Return the agent's word for the state of `job` (a CustomJob message).

    A job that may wait is not "starting" while it waits: the agent stops what starts for too long.
    A spot job whose machine was taken away is "preempted": the agent puts it into the queue again.
    """
    state = STATES.get(job.state.name, "unknown")
    if state == "starting" and strategy != "STANDARD":
        return "unknown"
    if state == "failed" and strategy == "SPOT" and _started(job) and _taken_away(job.error):
        return "preempted"
    return state


def is_over(job: Any) -> bool:
    """Whether the job has ended, however it did."""
    return STATES.get(job.state.name) in ("finished", "failed", "stopped")


def _started(job: Any) -> bool:
    return bool(job.start_time)


def _taken_away(error: Any) -> bool:
    """Whether the machine went: Vertex AI has no state for that, it calls it a stockout."""
    return error.code == CODES.index("RESOURCE_EXHAUSTED") or bool(
        _TAKEN_AWAY.search(error.message)
    )


def reason_of(job: Any) -> str:
    """Say how a job that did not succeed ended: its state, and Vertex AI's own words."""
    state = job.state.name.removeprefix("JOB_STATE_")
    error = job.error
    when = "" if _started(job) else " before it started"
    if not (error.code or error.message):
        return f"{state}{when}; Vertex AI gives no reason"
    code = CODES[error.code] if 0 <= error.code < len(CODES) else str(error.code)
    return f"{state}{when}: {error.code} {code}: {error.message}"
