"""What a queue item asks of a custom job beyond what W&B's runner passes on. Plain data only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STRATEGIES = ("SPOT", "FLEX_START", "STANDARD")
# The keys of the `run` block that W&B's runner reads itself; all others it would drop silently.
UPSTREAM_KEYS = frozenset(
    "timeout service_account network enable_web_access experiment experiment_run tensorboard "
    "restart_job_on_worker_restart".split()
)
KEYS = frozenset({"scheduling_strategy", "max_wait_duration", "disable_retries"})
KEY = "WANDB_API_KEY"
SECRET = "WANDB_API_KEY_SECRET"
SETTING = "ARR_TRAIN_"
_SECRET_FORM = re.compile(r"projects/[^/\s]+/secrets/[\w-]+/versions/(latest|\d+)")
_SETTING_FORM = re.compile(r"[A-Za-z]\w*", re.ASCII)


class RequestError(ValueError):
    """The queue item cannot be carried out as it is; says which part, and what would do."""


@dataclass(frozen=True, slots=True)
class Scheduling:
    """How Vertex AI is to find machines for a job. Seconds; 0 waits without limit."""

    strategy: str
    max_wait_duration: int | None
    disable_retries: bool

    @property
    def may_wait(self) -> bool:
        """Whether waiting for machines is what was asked for, and no sign of trouble."""
        return self.strategy != "STANDARD"


def scheduling_of(run: Mapping[str, Any]) -> Scheduling:
    """Read the `run` block of the queue item. Raises RequestError, also for keys nobody reads."""
    unknown = sorted(set(run) - UPSTREAM_KEYS - KEYS)
    if unknown:
        raise RequestError(
            f"run: nothing reads {', '.join(unknown)}; known are "
            f"{', '.join(sorted(UPSTREAM_KEYS | KEYS))}"
        )
    strategy = run.get("scheduling_strategy")
    if strategy not in STRATEGIES:
        raise RequestError(
            f"run.scheduling_strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}: "
            "nothing is bought at the on-demand price that was not asked for (STANDARD)"
        )
    disable_retries = run.get("disable_retries", False)
    if not isinstance(disable_retries, bool):
        raise RequestError(f"run.disable_retries must be true or false, not {disable_retries!r}")
    return Scheduling(strategy, _seconds(run.get("max_wait_duration")), disable_retries)


def _seconds(value: Any) -> int | None:
    """Return whole seconds, given as a number or as Google writes a duration ("7200s")."""
    text = str(value).removesuffix("s") if isinstance(value, str) else value
    if text is None or (type(text) is int and text >= 0):
        return text
    if isinstance(text, str) and text.isascii() and text.isdigit():
        return int(text)
    raise RequestError(f"run.max_wait_duration must be seconds (7200 or '7200s'), not {value!r}")


def require_secret(name: str) -> str:
    """Return the resource name of the secret that holds the W&B key. Raises RequestError."""
    if not _SECRET_FORM.fullmatch(name):
        what = "has another form" if name else "is not set"  # it is not shown: it may be the key
        raise RequestError(
            f"{SECRET} {what}; it must name the secret that training reads the W&B key from: "
            "projects/PROJECT/secrets/NAME/versions/latest"
        )
    return name


def settings_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return a run's settings as the environment variables that training reads (ARR_TRAIN_KEY)."""
    found = {}
    for name, value in config.items():
        if name.startswith("_") or value is None:  # W&B's own entries; what was left open
            continue
        if not _SETTING_FORM.fullmatch(name):
            raise RequestError(f"run_config: {name!r} cannot be an environment variable")
        found[SETTING + name.upper()] = value if isinstance(value, str) else json.dumps(value)
    return found


def fill_environment(spec: Mapping[str, Any], variables: Mapping[str, str]) -> None:
    """Add `variables` to every worker pool of `spec`, in place, and take the W&B key out."""
    names = {KEY, *variables}
    for pool in spec["worker_pool_specs"]:
        container = pool["container_spec"]
        kept = [entry for entry in container.get("env", []) if entry.get("name") not in names]
        container["env"] = kept + [{"name": n, "value": v} for n, v in variables.items()]


def refuse_hidden(job: Mapping[str, Any], hidden: Mapping[str, str]) -> None:
    """Raise RequestError if the job shows what is hidden (what it is -> its value).

    It may be there yet, as when a macro of the queue's configuration wrote it.
    """
    written = json.dumps(job, ensure_ascii=False, default=str)
    for what, value in hidden.items():
        if value and value in written:
            raise RequestError(f"the queue's configuration writes {what} in clear into the job")
