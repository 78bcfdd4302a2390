"""Why a run failed, from what it left: its exit code, its last lines, and the kernel's count.

What the lines mean is told by the stack's fault table, the one that the launcher's watch has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from arr.jobs.fault_table import Fault, FaultTable
from arr.process import describe_exit

TAIL = 500
"""Lines at the end of a run's output that the table's judge looks at: tracebacks are long."""
LAST = 50
"""Lines at the end in which a sign is looked for that may stand anywhere."""
LONGEST = 1000
"""Characters of a line that are told."""
CLIP = 16 * 1024
"""Characters at each end of a line that are looked at."""

_EXCEPTION = re.compile(
    r"^(?:\S*: )?([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b(?::.*)?)$"
)
# What buildah says after a program in a container has ended; its own words come before.
_EPILOGUE = re.compile(r"^(subprocess exited (with status \d+|on \w.*)|Error: exit status \d+)$")
# What a program says that started the training; why that failed stands before it.
_WRAPPED = re.compile(r"\b(?:CalledProcessError|ChildFailedError)\b")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|.)")
_KILLED = re.compile(r"\bSIGKILL\b|^Killed$", re.MULTILINE)


def oom_kills(vmstat: Path = Path("/proc/vmstat")) -> int | None:
    """How often the kernel has killed for lack of memory; None where that cannot be read."""
    try:
        found = re.search(r"^oom_kill (\d+)$", vmstat.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def clip(line: str) -> str:
    """Return a line, or the ends of a long one."""
    return line if len(line) <= 2 * CLIP else f"{line[:CLIP]} [...] {line[-CLIP:]}"


def describe(
    code: int,
    tail: Sequence[str],
    before: int | None,
    after: int | None,
    table: FaultTable | None = None,
) -> str:
    """Say in a line why a run ended with `code`; empty when it ended well.

    `before` and `after` are the kernel's out-of-memory counts around the run. If `table` has a
    class for what the lines show, it is `CLASS: evidence`, and what to do in a second line.
    """
    if code == 0:
        return ""
    last_lines = tail[-LAST:]
    killed = code in (137, -9) or _KILLED.search("\n".join(last_lines)) is not None
    if killed and before is not None and after is not None and after > before:
        return "out of memory: the kernel killed it; use a smaller batch, or a machine with more"
    if killed:
        return "killed by SIGKILL: by someone, or by a memory limit"
    if table and (fault := _judged(table, tail)):
        advice = " ".join(fault.advice.split())
        return f"{fault.kind.name}: {_evidence(table, fault)}\n{advice}"
    words = [printable(line).strip() for line in reversed(last_lines)]
    for line in words:
        if (found := _EXCEPTION.match(line)) and not _WRAPPED.search(line):
            return found[1][:LONGEST]
    last = next((line for line in words if line and not _EPILOGUE.match(line)), "")[:LONGEST]
    return f"{describe_exit(code)}: {last}" if last else describe_exit(code)


def _judged(table: FaultTable, tail: Sequence[str]) -> Fault | None:
    """Return what ended the run: the last fault, but not one program's word of another's end."""
    said = [line for line in tail if not _EPILOGUE.match(line.strip())]
    found = [fault for fault in table.in_log(said) if fault.fatal]
    own = [fault for fault in found if not _WRAPPED.search(_evidence(table, fault))]
    return next(reversed(own or found), None)


def _evidence(table: FaultTable, fault: Fault) -> str:
    """Return the line that says it: the last that has the class by itself, else the last."""
    found = (line for line in reversed(fault.evidence) if _is_of(table, line, fault.kind.name))
    last = fault.evidence[-1] if fault.evidence else fault.kind.meaning
    return printable(next(found, last)).strip()[:LONGEST]


def _is_of(table: FaultTable, line: str, name: str) -> bool:
    fault = table.in_line(line)
    return fault is not None and fault.kind.name == name


def printable(text: str) -> str:
    """Return a line without terminal escapes, and without what else cannot be printed."""
    return "".join(c for c in _ESCAPE.sub("", text) if c.isprintable() or c == "\t")
