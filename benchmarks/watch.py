"""What the launcher's watch costs: 200,000 lines and more through it, and through cat.

Wall and processor time of the whole pipeline, the agent included. The watch is a Python program:
the first case is what its start costs, which the others have in them too.
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import sys
import tempfile
from pathlib import Path

import bench
from bench import TOP, Row, Tool

WATCH = TOP / "Stack" / "arr-vertex-launcher" / "watch.py"
LINES = 200_000
LONG = 10_000_000
PROGRAM = """\
import sys
for line in open(sys.argv[1]):
    print(line, end="")
"""


def write_cases(folder: Path) -> dict[str, Path]:
    """Write a training's log, the same with words that faults have too, and one long line."""
    pick = random.Random(4)
    plain, words = folder / "plain", folder / "words"
    with plain.open("w") as one, words.open("w") as other:
        for step in range(LINES):
            loss, rate, eta = pick.random(), pick.randint(1, 999), pick.randint(0, 59)
            line = f"step {step}/{LINES} loss {loss:.4f} lr 3.0e-04 {rate} it/s eta 00:{eta:02}:11"
            one.write(f"{line} grad norm {loss * 7:.3f}, all as usual\n")
            other.write(f"{line} tokens {rate * 512} images {rate} status ok, queue {eta}\n")
    (folder / "long").write_text("x" * LONG + "\n")
    (folder / "empty").touch()
    (folder / "many").write_bytes(plain.read_bytes() * 10)
    return {
        "cat of an empty file: the start": folder / "empty",
        f"a program prints {LINES:,} lines": plain,
        f"the same, with words of faults: {LINES:,} lines": words,
        f"cat of a file: {LINES:,} lines": plain,
        f"cat of a file: {10 * LINES:,} lines": folder / "many",
        f"cat of a file: a line of {LONG:,} bytes": folder / "long",
    }


def pairs(folder: Path, spent: dict[str, list[float]]) -> dict[str, tuple[Tool, Tool]]:
    """The two tools of each case: the agent's output through cat, and through the watch.

    Their processor seconds go to `spent`, by case and tool.
    """
    program = folder / "program.py"
    program.write_text(PROGRAM)
    found = {}
    for number, (title, text) in enumerate(write_cases(folder).items()):
        agent = f"cat {text}" if title.startswith("cat") else f"{sys.executable} {program} {text}"
        watch = f"exec {sys.executable} -E -S {WATCH} -- {agent}"
        found[title] = (
            _tool("cat", f"{agent} | cat", text, folder / f"{number}-cat", spent, title),
            _tool("watch", watch, text, folder / f"{number}-watch", spent, title),
        )
    return found


def _tool(
    name: str, line: str, text: Path, out: Path, spent: dict[str, list[float]], title: str
) -> Tool:
    before = 0.0

    def prepare(_round: int) -> None:
        nonlocal before
        before = _processor_seconds()

    def check(number: int) -> str:
        if number:  # the first round is not counted
            spent.setdefault(f"{title} {name}", []).append(_processor_seconds() - before)
        written, given = out.read_bytes(), text.read_bytes()
        if not written.startswith(given):
            raise RuntimeError("what came out is not what the agent wrote")
        return "all there"

    environ = {k: v for k, v in os.environ.items() if not k.startswith("ARR_")}
    return Tool(name, ["sh", "-c", f"{line} >{out}"], out.parent, environ, prepare, check)


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    given = bench.arguments(__doc__ or "")
    facts = {
        "cpus": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "python": sys.version.split()[0],
    }
    with tempfile.TemporaryDirectory(prefix="arr-bench-") as folder:
        spent: dict[str, list[float]] = {}
        cases = pairs(Path(folder), spent)
        rows = bench.measure([tool for pair in cases.values() for tool in pair], given.rounds)
    print(f"watch: {given.rounds} rounds; " + ", ".join(f"{k} {v}" for k, v in facts.items()))
    told = []
    for number, title in enumerate(cases):
        pair = rows[2 * number : 2 * number + 2]
        print(f"\n{title}\n{bench.table(pair, 'cat')}")
        used = {row.tool: spent.get(f"{title} {row.tool}", []) for row in pair}
        medians = {tool: statistics.median(times) for tool, times in used.items() if times}
        print("processor: " + ", ".join(f"{tool} {time:.3f} s" for tool, time in medians.items()))
        told += [_as_json(title, row, pair[0], used[row.tool]) for row in pair]
    if given.json:
        data = {"benchmark": "watch", "machine": facts, "rounds": given.rounds, "rows": told}
        given.json.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
    return 1 if any(row.failed for row in rows) else 0


def _as_json(case: str, row: Row, cat: Row, processor: list[float]) -> dict[str, object]:
    median, base = row.median, cat.median
    return {
        "case": case,
        "tool": row.tool,
        "median": median,
        "ratio": median / base if median and base else None,
        "times": row.times,
        "processor": processor,
        "note": row.note,
        "failed": bool(row.failed),
    }


if __name__ == "__main__":
    sys.exit(main())
