"""Following a run: its output as it comes, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from arr.errors import RunError, UsageError
from arr.events import Emit, RunFinished, RunLog, RunStarted
from arr.jobs import queue
from arr.jobs import spec as specs
from arr.state import Run, State

POLL = 0.1
PATIENCE = 15.0
"""Seconds that an agent may take to start before its absence means that it died."""


def find_run(state: State, name: str) -> Run:
    """Return the run `name`: an id, the unique start of one, or `last`. Raises UsageError."""
    runs = state.runs()
    if name == "last" and runs:
        return runs[0]
    found = [run for run in runs if run.id == name] or [r for r in runs if r.id.startswith(name)]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} runs start with {name}" if found else f"there is no run {name}"
    raise UsageError(what, "`arr runs` lists them.")


def follow(
    state: State,
    root: Path,
    run_id: str,
    emit: Emit,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Run:
    """Emit the run's output until it is over; return it as it ended."""
    started = False
    since = clock()
    run = find_run(state, run_id)
    with _log(run) as log:
        pending = ""
        while True:
            run = find_run(state, run_id)
            if run.started is not None and not started:
                started = True
                emit(RunStarted(at=clock(), run=run.id))
            pending = _pass_on(pending + log.read(), run.id, emit, clock)
            if run.over:
                break
            # An agent that holds no lock has recorded how its run ended, or it is dead.
            if run.status == "running" or clock() - since > PATIENCE:
                queue.settle(state, root, run, clock())
            sleep(POLL)
        rest = _pass_on(pending + log.read(), run.id, emit, clock)
        if rest:
            emit(RunLog(at=clock(), run=run.id, line=rest))
    emit(finished(run, clock()))
    return run


def _log(run: Run) -> TextIO:
    path = Path(run.folder) / specs.LOG
    try:
        # A carriage return is a progress bar's, and ends no line.
        return path.open("r", encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise RunError(
            f"the log of the run {run.id} cannot be read: {error}", "Launch it again."
        ) from error


def finished(run: Run, now: float) -> RunFinished:
    """Return the event that tells how a run ended."""
    folder = Path(run.folder)
    return RunFinished(
        at=now,
        run=run.id,
        status=run.status,
        exit_code=exit_code(run),
        seconds=(run.finished or now) - (run.started or run.created),
        folder=run.folder,
        log=str(folder / specs.LOG),
        fault=run.fault,
        result=specs.result(folder),
    )


def exit_code(run: Run) -> int:
    """The run's own exit code; 130 if it was cancelled, 7 if it never had one."""
    if run.status == "cancelled":
        return 130
    if run.exit_code is not None:
        return run.exit_code
    return 0 if run.status == "succeeded" else 7


def _pass_on(text: str, run: str, emit: Emit, clock: Callable[[], float]) -> str:
    """Emit the whole lines of `text`; return what is left of an unfinished one."""
    lines = text.split("\n")
    for line in lines[:-1]:
        shown = line.rpartition("\r")[2]
        if shown or line == "":
            emit(RunLog(at=clock(), run=run, line=shown))
    return lines[-1]
