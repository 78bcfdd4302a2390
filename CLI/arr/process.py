"""Child processes: their output line by line as it comes, and an end that reaches all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from arr.errors import Interrupted, MissingTool

GRACE = 8.0
"""Seconds between TERM and KILL."""

OnLine = Callable[[str], None]


class Children:
    """The process groups that one command started, so that they can be ended together."""

    def __init__(self, grace: float = GRACE) -> None:
        self._grace = grace
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def run(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        on_line: OnLine,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> tuple[int, list[str]]:
        """Run a program in its own process group; return (exit code, its last 50 lines).

        Its output, both streams together, is appended to `log` as it is and given to `on_line`.
        Raises MissingTool if it is not installed, Interrupted if `stop` was called.
        """
        tail: deque[str] = deque(maxlen=50)
        process = self._start(argv, environ, cwd)
        try:
            with log.open("ab") as file:
                for line in _lines(process, file.write):
                    tail.append(line)
                    on_line(line)
            code = process.wait()
        finally:
            if process.poll() is None:  # on_line raised, or the log could not be written
                _signal_group(process, signal.SIGKILL)
                process.wait()
            with self._lock:
                del self._running[process.pid]
        self.require_running()
        return code, list(tail)

    def require_running(self) -> None:
        """Raise Interrupted if `stop` was called."""
        if self._stopped:
            raise Interrupted("interrupted")

    def stop(self) -> None:
        """End every child: TERM to its group, after the grace KILL. None can be started after."""
        with self._lock:
            self._stopped = True
            running = list(self._running.values())
        for process in running:
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + self._grace
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            if process.returncode is None or _group_lives(process.pid):
                _signal_group(process, signal.SIGKILL)

    def _start(
        self, argv: Sequence[str], environ: Mapping[str, str] | None, cwd: Path | None
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise Interrupted("interrupted")
            try:
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env=None if environ is None else dict(environ),
                    cwd=cwd,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise MissingTool(
                    f"{argv[0]} is not installed", "`arr doctor` says how to install it."
                ) from error
            self._running[process.pid] = process
            return process


def _lines(process: subprocess.Popen[bytes], keep: Callable[[bytes], object]) -> Iterator[str]:
    assert process.stdout is not None
    with process.stdout as stream:
        for raw in stream:
            keep(raw)
            # A progress bar rewrites its line with carriage returns: the last state counts.
            text = raw.decode("utf-8", "replace").rstrip("\r\n").rpartition("\r")[2]
            yield text


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def describe_exit(code: int) -> str:
    """Say in words how a process ended: `exit code 3`, `killed by SIGKILL`."""
    number = -code if code < 0 else code - 128 if code > 128 else 0
    if number:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(number).name}"
    return f"exit code {code}"
