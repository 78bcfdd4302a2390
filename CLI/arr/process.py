"""Child processes: their output line by line as it comes, and an end that reaches all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
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
        self._keepers: dict[int, str] = {}
        self._ended = threading.Condition(self._lock)
        self._stopped = False

    def run(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        on_line: OnLine,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        keeper: str = "",
    ) -> tuple[int, list[str]]:
        """Run a program in its own process group; return (exit code, its last 50 lines).

        `keeper` starts the name of a program that, sent TERM, would kill what it runs at once:
        `stop` then asks only what runs below it.

        Its output, both streams together, is appended to `log` as it is and given to `on_line`.
        Raises MissingTool if it is not installed, Interrupted if `stop` was called.
        """
        tail: deque[str] = deque(maxlen=50)
        process = self._start(argv, environ, cwd)
        self._keepers[process.pid] = keeper
        try:
            # Unbuffered: whoever follows the log reads along.
            with log.open("ab", buffering=0) as file, _guarded(process.pid):
                for line in _lines(process, file.write):
                    tail.append(line)
                    on_line(line)
            code = process.wait()
        finally:
            # It runs on if on_line raised or the log could not be written. Once stopped, also what
            # it started is ended, whether that still has the output open or not.
            if process.poll() is None or self._stopped:
                _signal_group(process, signal.SIGKILL)
                process.wait()
            with self._ended:
                del self._running[process.pid]
                self._keepers.pop(process.pid, None)
                self._ended.notify_all()
        self.require_running()
        return code, list(tail)

    def require_running(self) -> None:
        """Raise Interrupted if `stop` was called."""
        if self._stopped:
            raise Interrupted("interrupted")

    def stop(self) -> None:
        """End every child: TERM to its group, after the grace KILL. None can be started after.

        The grace lasts until the whole group has closed its output: what a child started may take
        longer than the child itself. A second Ctrl-C ends the grace.
        """
        with self._lock:
            self._stopped = True
            running = list(self._running.values())
        for process in running:
            _ask_to_end(process, self._keepers.get(process.pid, ""))
        try:
            with self._ended:
                self._ended.wait_for(lambda: not self._running, self._grace)
        finally:
            with self._lock:
                for process in self._running.values():
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
                raise _missing(argv) from error
            self._running[process.pid] = process
            return process


def answer(
    argv: Sequence[str], environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program that answers at once, and return what it said, whatever its exit code.

    Raises MissingTool if it is not installed.
    """
    try:
        return subprocess.run(
            argv, env=environ, capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError as error:
        raise _missing(argv) from error


def _missing(argv: Sequence[str]) -> MissingTool:
    return MissingTool(f"{argv[0]} is not installed", "`arr doctor` says how to install it.")


@contextlib.contextmanager
def _guarded(group: int) -> Iterator[None]:
    """End the group even if this process is killed outright: nobody would know of it then.

    The guard's input ends with this process, whatever ends it.
    """
    guard = subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; kill -s KILL -- "-$1"', "sh", str(group)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        guard.kill()
        guard.communicate()


def _lines(process: subprocess.Popen[bytes], keep: Callable[[bytes], object]) -> Iterator[str]:
    assert process.stdout is not None
    with process.stdout as stream:
        for raw in stream:
            keep(raw)
            # A progress bar rewrites its line with carriage returns: the last state counts.
            text = raw.decode("utf-8", "replace").rstrip("\r\n").rpartition("\r")[2]
            yield text


def _ask_to_end(process: subprocess.Popen[bytes], keeper: str) -> None:
    kept = [p for p in _members(process.pid) if not _name(p).startswith(keeper)] if keeper else []
    for member in kept:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(member, signal.SIGTERM)
    if not kept:
        _signal_group(process, signal.SIGTERM)


def _members(group: int) -> list[int]:
    """The processes of a group, by /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            if int(stat[2]) == group:
                found.append(int(folder.name))
    return found


def _name(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(os.fsdecode(Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[0])).name
    return ""


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def describe_exit(code: int) -> str:
    """Say in words how a process ended: `exit code 3`, `killed by SIGKILL`."""
    number = -code if code < 0 else code - 128 if code > 128 else 0
    if number:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(number).name}"
    return f"exit code {code}"
