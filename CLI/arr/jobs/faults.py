"""Why a run failed, from what it left: its exit code, its last lines, and the kernel's count."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from arr.process import describe_exit

_EXCEPTION = re.compile(
    r"^(?:\S*: )?([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b(?::.*)?)$"
)
# What buildah says after a program in a container has ended; its own words come before.
_EPILOGUE = re.compile(r"^(subprocess exited (with status \d+|on \w.*)|Error: exit status \d+)$")
_KILLED = re.compile(r"\bSIGKILL\b|^Killed$", re.MULTILINE)


def oom_kills(vmstat: Path = Path("/proc/vmstat")) -> int | None:
    """How often the kernel has killed for lack of memory; None where that cannot be read."""
    try:
        found = re.search(r"^oom_kill (\d+)$", vmstat.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def describe(code: int, tail: Sequence[str], before: int | None, after: int | None) -> str:
    """Say in a line why a run ended with `code`; empty when it ended well.

    `before` and `after` are the kernel's out-of-memory counts around the run.
    """
    if code == 0:
        return ""
    killed = code in (137, -9) or _KILLED.search("\n".join(tail)) is not None
    if killed and before is not None and after is not None and after > before:
        return "out of memory: the kernel killed it; use a smaller batch, or a machine with more"
    if killed:
        return "killed by SIGKILL: by someone, or by a memory limit"
    for line in reversed(tail):
        if (found := _EXCEPTION.match(line.strip())) and "CalledProcessError" not in line:
            return found[1]
    words = (line.strip() for line in reversed(tail))
    last = next((line for line in words if line and not _EPILOGUE.match(line)), "")
    return f"{describe_exit(code)}: {last}" if last else describe_exit(code)
