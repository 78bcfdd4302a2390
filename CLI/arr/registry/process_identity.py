"""One process, told apart from any other that may have its number later (Linux: /proc, pidfd)."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process by its number and the moment it started (clock ticks since the machine did)."""

    pid: int
    started: int


def identify(pid: int) -> ProcessIdentity | None:
    """The process that has this number now; None if none has, or it has already ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    return ProcessIdentity(pid, int(fields[19]))


def command_line(pid: int) -> list[str]:
    """The program and its arguments; [] if it cannot be read."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(part) for part in raw.split(b"\0")[:-1]]


def end(process: ProcessIdentity, still_ours: Callable[[int], bool], grace: float) -> bool:
    """TERM, then KILL after `grace` seconds; return once it has ended.

    False, with nothing sent, if the process has ended before or is another than was meant.
    """
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(process.pid)
        try:
            # The handle stays on this one process, so what is true now is true of the signals too.
            if identify(process.pid) != process or not still_ours(process.pid):
                return False
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if not _ended(handle, grace):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                _ended(handle, None)
            return True
        finally:
            os.close(handle)
    return False


def _ended(handle: int, seconds: float | None) -> bool:
    return bool(select.select([handle], [], [], seconds)[0])
