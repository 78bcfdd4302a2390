"""The local agent: takes runs from the queue, one at a time, until it is empty.

`python -m arr.jobs.agent ROOT [LAUNCHER]`. It lives on its own, so that a run survives the
terminal. Its output is for the launcher's watch, under which it runs where the stack has one: a
line for each run that begins or ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path

from arr.build.buildah import Buildah
from arr.build.docker import Docker
from arr.build.engine import Container, Engine, Work
from arr.errors import ArrError, Interrupted
from arr.exclusive import only_one
from arr.jobs import fault_table, faults, queue
from arr.jobs import spec as specs
from arr.jobs.fault_table import FaultTable
from arr.jobs.spec import RunSpec
from arr.process import Children
from arr.state import Run, State

POLL = 0.3
RUN_GRACE = 30.0
"""Seconds a run has after TERM: it may write a checkpoint."""


class Agent:
    """An agent of one clone's queue. `say` is told what becomes of each run, a line each.

    `table` has the classes of failures; without it they have none.
    """

    def __init__(
        self,
        root: Path,
        stopping: threading.Event,
        clock: Callable[[], float],
        table: FaultTable | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._root, self._stopping, self._clock = root, stopping, clock
        self._table, self._say = table, say

    def work_off(self) -> None:
        """Carry out every queued run; waits its turn if another agent is at work."""
        with only_one(queue.agent_lock(self._root)), State(self._root / ".arr") as state:
            for lost in state.runs():
                if lost.status == "running":  # we hold the lock: whoever ran it is gone
                    state.finish_run(lost.id, "lost", self._clock(), None, queue.LOST)
                    _clear_away(lost)
            while not self._stopping.is_set() and (run := state.claim_run(self._clock())):
                self._say(f"arr: run {run.id} taken")
                self._carry_out(run, state)

    def _carry_out(self, run: Run, state: State) -> None:
        folder = Path(run.folder)
        children = Children(grace=RUN_GRACE)
        over = threading.Event()
        stops = (run.id, state, self._stopping, children, over)
        watcher = threading.Thread(target=_end_when_asked, args=stops)
        watcher.start()
        code: int | None = None
        try:
            code, fault = self._run(specs.read(folder), folder, children)
            status = "succeeded" if code == 0 else "failed"
        except Interrupted:
            status, fault = "cancelled", "cancelled"
        except ArrError as error:
            status, fault = "failed", str(error)
        except Exception as error:  # noqa: BLE001 - the agent must go on to the next run
            _append(folder / specs.LOG, traceback.format_exc())
            status, fault = "failed", f"the agent failed: {error!r}; its log's end has more"
        finally:
            over.set()
            watcher.join()
        state.finish_run(run.id, status, self._clock(), code, fault)
        if status == "succeeded":
            self._say(f"arr: run {run.id} succeeded")
        else:  # the watch knows no third end
            first = fault.partition("\n")[0]
            self._say(f"arr: run {run.id} failed: {' '.join(first.split())}")

    def _run(self, spec: RunSpec, folder: Path, children: Children) -> tuple[int, str]:
        """Run the container; return its exit code and the fault, empty if there was none."""
        log = folder / specs.LOG
        tail: deque[str] = deque(maxlen=faults.TAIL)
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
        before = faults.oom_kills()
        with tempfile.TemporaryDirectory(prefix="arr-run-") as scratch:
            work = Work(children, log, lambda line: tail.append(faults.clip(line)), Path(scratch))
            code = engine_of(spec).run(container, work)
        code = code if code >= 0 else 128 - code
        return code, faults.describe(code, list(tail), before, faults.oom_kills(), self._table)


def _append(log: Path, text: str) -> None:
    with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as file:
        file.write(text)


def _clear_away(run: Run) -> None:
    """Remove the container that a run may have left behind: docker's would go on for ever."""
    with contextlib.suppress(ArrError):  # it may be gone, and its spec with it
        spec = specs.read(Path(run.folder))
        engine_of(spec).remove(container_name(spec))


def container_name(spec: RunSpec) -> str:
    return f"arr-run-{spec.id}"


def engine_of(spec: RunSpec) -> Engine:
    """Return the engine that the launch chose for the run."""
    if spec.engine == "docker":
        return Docker(spec.program or "docker")
    return Buildah(Path(spec.store) if spec.store else None)


def _end_when_asked(
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


def _say(line: str) -> None:
    """Write a line at once. Nobody may read it any more: a watch that was killed ends no run."""
    with contextlib.suppress(OSError):
        os.write(1, f"{line}\n".encode("utf-8", "replace"))


def main() -> None:
    """Entry of `python -m arr.jobs.agent ROOT [LAUNCHER]`."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    table = fault_table.load_from(Path(sys.argv[2])) if len(sys.argv) > 2 else None
    Agent(Path(sys.argv[1]), stopping, time.time, table, _say).work_off()


if __name__ == "__main__":
    main()
