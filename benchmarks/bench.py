"""Measuring whole processes side by side: interleaved rounds, one table, one JSON form."""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
ARR = (sys.executable, str(TOP / "CLI" / "cli.py"))
LIMIT = 300
"""Seconds after which a tool counts as failed."""


def nothing(_round: int) -> None:
    """No preparation."""


def unchecked(_round: int) -> str:
    """No verdict."""
    return ""


@dataclass(frozen=True, slots=True)
class Tool:
    """One command that is measured. `prepare` and `check` run before and after it, untimed.

    `check` returns a verdict ("right", or what is wrong); `skipped` is why it cannot be measured.
    """

    name: str
    command: Sequence[str | Path]
    folder: Path
    environ: Mapping[str, str]
    prepare: Callable[[int], None] = nothing
    check: Callable[[int], str] = unchecked
    skipped: str = ""


@dataclass(slots=True)
class Row:
    """What came out for one tool: its times in seconds, its verdicts, its failure."""

    tool: str
    times: list[float] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    failed: str = ""
    skipped: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.times) if self.times and not self.failed else None

    @property
    def note(self) -> str:
        """Every verdict that was given, the failure, or why it was skipped."""
        if self.failed:
            return f"FAILED: {self.failed}"
        if self.skipped:
            return f"skipped: {self.skipped}"
        return "; ".join(dict.fromkeys(filter(None, self.verdicts)))


def arguments(description: str) -> argparse.Namespace:
    """Parse the command line that the benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    return given


def measure(tools: Sequence[Tool], rounds: int) -> list[Row]:
    """Run every tool once a round, in turn, so that a busy moment hits all of them alike.

    The first round warms caches up and is not counted. A tool that fails is not run again.
    """
    rows = [Row(tool.name, skipped=tool.skipped) for tool in tools]
    for number in range(rounds + 1):
        for tool, row in zip(tools, rows, strict=True):
            if row.failed or row.skipped:
                continue
            seconds = once(tool, row, number)
            if number > 0 and not row.failed:
                row.times.append(seconds)
        what = f"round {number}/{rounds}" if number else "warm-up"
        print(f"{what} done, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return rows


def once(tool: Tool, row: Row, number: int) -> float:
    """Run a tool once; return its seconds. A failure or verdict is put into `row`."""
    seconds = 0.0
    try:
        tool.prepare(number)
        start = time.perf_counter()
        done = subprocess.run(
            tool.command, cwd=tool.folder, env=dict(tool.environ), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=LIMIT,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        if done.returncode:
            row.failed = f"exit code {done.returncode}: {last_line(done.stdout)}"
        else:
            row.verdicts.append(tool.check(number))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        row.failed = f"{type(error).__name__}: {error}"
    return seconds


def last_line(output: bytes) -> str:
    """The last line that says anything, short enough for a table."""
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), "no output")[:160]


def table(rows: Sequence[Row], reference: str) -> str:
    """Return the rows as text; ratios are of medians, to the row `reference`."""
    base = next(row.median for row in rows if row.tool == reference)
    cells = [("TOOL", "MEDIAN", "MIN..MAX", "RATIO", "NOTE")]
    for row in rows:
        median, spread, ratio = "-", "-", "-"
        if row.median is not None:
            median = f"{row.median:.3f} s"
            spread = f"{min(row.times):.3f}..{max(row.times):.3f}"
            ratio = f"{row.median / base:.2f}" if base else "-"
        cells.append((row.tool, median, spread, ratio, row.note))
    widths = [max(len(cell[column]) for cell in cells) for column in range(5)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if column in (1, 2, 3) else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def machine(environ: Mapping[str, str]) -> dict[str, object]:
    """What a reader must know of the machine: processors, Python, the versions of the tools."""
    asked = {
        "git": ["git", "--version"],
        "docker": ["docker", "version", "--format", "{{.Client.Version}}/{{.Server.Version}}"],
        "buildah": ["buildah", "--version"],
        "docker-registry": ["docker-registry", "--version"],
    }
    return {
        "cpus": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "python": sys.version.split()[0],
        **{name: _version(_answer(command, environ)) for name, command in asked.items()},
    }


def report(
    title: str, rows: Sequence[Row], given: argparse.Namespace, facts: Mapping[str, object]
) -> int:
    """Print the table, write the JSON if it was asked for; return the exit code: 1 if any failed.

    The first row is the one that ratios are to.
    """
    print(f"{title}: {given.rounds} rounds; " + ", ".join(f"{k} {v}" for k, v in facts.items()))
    print()
    print(table(rows, rows[0].tool))
    if given.json:
        base = rows[0].median
        commit = _answer(["git", "-C", str(TOP), "rev-parse", "HEAD"], os.environ)
        data = {
            "benchmark": title,
            "commit": commit,
            "machine": dict(facts),
            "rounds": given.rounds,
            "rows": [_as_json(row, base) for row in rows],
        }
        given.json.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
    return 1 if any(row.failed for row in rows) else 0


def _as_json(row: Row, base: float | None) -> dict[str, object]:
    median = row.median
    return {
        "tool": row.tool,
        "median": median,
        "min": min(row.times) if median is not None else None,
        "max": max(row.times) if median is not None else None,
        "ratio": median / base if median is not None and base else None,
        "times": row.times,
        "note": row.note,
        "failed": bool(row.failed),
    }


def _version(answer: str) -> str:
    found = re.search(r"\d+\.\d+\S*", answer)
    return found[0] if found else answer


def _answer(command: Sequence[str], environ: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, env=dict(environ), capture_output=True, text=True, check=False, timeout=30
    )
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else "unknown"
