"""The local agent: takes runs from the queue, one at a time, until it is empty.

`python -m arr.jobs.agent ROOT`. It lives on its own, so that a run survives the terminal.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from arr.build.buildah import Buildah
from arr.build.docker import Docker
from arr.build.engine import Container, Engine, Work
from arr.errors import ArrError, Interrupted
from arr.exclusive import only_one
from arr.jobs import faults, queue
from arr.jobs import spec as specs
from arr.jobs.spec import RunSpec
from arr.process import Children
from arr.state import Run, State

POLL = 0.3
RUN_GRACE = 30.0
"""Seconds a run has after TERM: it may write a checkpoint."""


def work_off(root: Path, stopping: threading.Event, clock: Callable[[], float]) -> None:
    """Carry out every queued run of the clone; waits its turn if another agent is at work."""
    with only_one(queue.agent_lock(root)), State(root / ".arr") as state:
        for lost in state.runs():
            if lost.status == "running":  # we hold the lock: whoever ran it is gone
                state.finish_run(lost.id, "lost", clock(), None, queue.LOST)
                _clear_away(lost)
        while not stopping.is_set() and (run := state.claim_run(clock())):
            _carry_out(run, state, stopping, clock)


def _clear_away(run: Run) -> None:
    """Remove the container that a run may have left behind: docker's would go on for ever."""
    with contextlib.suppress(ArrError):  # it may be gone, and its spec with it
        spec = specs.read(Path(run.folder))
        engine_of(spec).remove(container_name(spec))


def container_name(spec: RunSpec) -> str:
    return f"arr-run-{spec.id}"


def _carry_out(
    run: Run, state: State, stopping: threading.Event, clock: Callable[[], float]
) -> None:
    folder = Path(run.folder)
    children = Children(grace=RUN_GRACE)
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(run.id, state, stopping, children, over))
    watcher.start()
    before = faults.oom_kills()
    code: int | None = None
    try:
        code, fault = _run(specs.read(folder), folder, children, before)
        status = "succeeded" if code == 0 else "failed"
    except Interrupted:
        status, fault = "cancelled", "cancelled"
    except ArrError as error:
        status, fault = "failed", str(error)
    except Exception as error:  # noqa: BLE001 - the agent must go on to the next run
        traceback.print_exc()
        status, fault = "failed", f"the agent failed: {error!r}; see .arr/agent.log"
    finally:
        over.set()
        watcher.join()
    state.finish_run(run.id, status, clock(), code, fault)


def _run(
    spec: RunSpec, folder: Path, children: Children, oom_before: int | None
) -> tuple[int, str]:
    """Run the container; return its exit code and the fault, empty if there was none."""
    log = folder / specs.LOG
    tail: list[str] = []
    container = Container(
        name=container_name(spec),
        source=spec.source,
        command=spec.command,
        environ=spec.environ,
        passed=specs.PASSED,
        gpus=spec.gpus,
        mounts={folder: specs.MOUNT},
        user=spec.user,
    )
    with tempfile.TemporaryDirectory(prefix="arr-run-") as scratch:
        code = engine_of(spec).run(container, Work(children, log, tail.append, Path(scratch)))
    code = code if code >= 0 else 128 - code
    return code, faults.describe(code, tail[-50:], oom_before, faults.oom_kills())


def engine_of(spec: RunSpec) -> Engine:
    """Return the engine that the launch chose for the run."""
    if spec.engine == "docker":
        return Docker(spec.program or "docker")
    return Buildah(Path(spec.store) if spec.store else None)


def _watch(
    run: str,
    state: State,
    stopping: threading.Event,
    children: Children,
    over: threading.Event,
) -> None:
    """End the run's children when its cancelling is asked for, or the agent is to stop."""
    while not over.wait(POLL):
        row = state.run(run)
        if stopping.is_set() or (row and row.cancel):
            children.stop()
            return


def main() -> None:
    """Entry of `python -m arr.jobs.agent ROOT`."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    work_off(Path(sys.argv[1]), stopping, time.time)


if __name__ == "__main__":
    main()
