"""Agents under the watch, as real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAUNCHER = Path(__file__).resolve().parents[2] / "Stack" / "arr-vertex-launcher"
WATCH = LAUNCHER / "watch.py"
WRAPPER = LAUNCHER / "entrypoint-wrapper.sh"
LIMIT = 60

QUOTA = (
    "google.api_core.exceptions.ResourceExhausted: 429 The following quota metrics exceed quota "
    "limits: aiplatform.googleapis.com/custom_model_training_nvidia_l4_gpus"
)
TAKEN = """\
wandb: launch: Launch agent received job:
wandb: {'runQueueItemId': 'I1',
wandb:  'runSpec': {'entity': 'arr', 'project': 'trial', 'run_id': 'r1'}}
wandb:\x20
"""
ENDED = """\
wandb: launch: Vertex AI job projects/1/locations/us-central1/customJobs/17 is SUCCEEDED
wandb: launch: Job finished with ID: 17
"""
FAILED = """\
wandb: ERROR launch: Error running job: Traceback (most recent call last):
wandb: ERROR   File "/opt/agent.py", line 3, in launch
wandb: ERROR     spec = item["spec"]
wandb: ERROR            ~~~~^^^^^^^^
wandb: ERROR KeyError: 'spec'
wandb: ERROR\x20
"""


@dataclass(frozen=True, slots=True)
class Done:
    """What a watch that has ended left."""

    code: int
    out: bytes
    err: str
    seconds: float

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "replace")

    @property
    def last(self) -> dict[str, Any]:
        """The last line, for programs."""
        told = json.loads(self.text.splitlines()[-1])
        assert isinstance(told, dict)
        return told

    @property
    def agents(self) -> bytes:
        """What the agent wrote: all but the watch's own lines."""
        lines = self.out.splitlines(keepends=True)
        return b"".join(x for x in lines if not x.startswith((b"arr-watch: ", b'{"watch": 1')))


def begin(*command: str | Path, env: Mapping[str, str] | None = None, **how: Any) -> Any:
    """Start a command, by default with its output in pipes."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ARR_")}
    return subprocess.Popen(command, env={**clean, **(env or {})}, **streams)


def finish(process: Any, since: float) -> Done:
    try:
        out, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    return Done(process.returncode, out or b"", (err or b"").decode(), time.monotonic() - since)


def watch(script: str, *options: str, env: Mapping[str, str] | None = None, **how: Any) -> Done:
    """Run a shell script as the agent, until it has ended."""
    since = time.monotonic()
    return finish(
        begin(sys.executable, WATCH, *options, "--", "sh", "-c", script, env=env, **how), since
    )


def watching(script: str, *options: str, **how: Any) -> Any:
    """Start a shell script as the agent; return the watch's process."""
    return begin(sys.executable, WATCH, *options, "--", "sh", "-c", script, **how)


def python(code: str) -> str:
    """Return a shell command that runs Python code (which has no single quote)."""
    assert "'" not in code
    return f"{sys.executable} -S -E -u -c '{code}'"


def read_until(process: Any, words: bytes) -> bytes:
    """Read what a process writes until `words` are there."""
    found = b""
    while words not in found:
        chunk = os.read(process.stdout.fileno(), 65536)
        assert chunk, found
        found += chunk
    return found


def wait_for(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


TERM, INT = signal.SIGTERM, signal.SIGINT
