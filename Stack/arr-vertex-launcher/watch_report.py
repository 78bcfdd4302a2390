"""What the watch says, in lines of its own that begin with `arr-watch:`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

import faults
from watch_lines import text_of
from watch_runs import Runs

MARK = "arr-watch: "
WIDTH = 1000
"""Characters of one line of context that are shown."""


@dataclass(frozen=True, slots=True)
class End:
    """Why the agent is to end: `code` None for its own exit code."""

    kind: str
    code: int | None
    reason: str


def line(text: str) -> str:
    return f"{MARK}{text}\n"


def banner(fault: faults.Fault, context: Iterable[bytes]) -> str:
    """Say what is wrong, what shows it, what to do; and what came last."""
    kind = fault.kind
    words = [f"==== FATAL FAULT: {kind.name} ====", f"what      {_flat(kind.meaning)}"]
    words += [f"evidence  {_short(text)}" for text in fault.evidence]
    words += [f"advice    {part}" for part in textwrap.wrap(_flat(fault.advice), 100)]
    words += [f"retry     {'yes' if kind.retry else 'no'}", f"block     {_block(kind)}"]
    words += [f"link      {name}: {link}" for name, link in kind.links.items()]
    lines = [_short(text_of(each)) for each in context]
    words.append(f"the last {len(lines)} lines of the agent:")
    words += [f"| {text}" for text in lines]
    words.append(f"==== {kind.name}, exit code {kind.exit_code} ====")
    return "".join(line(text) for text in words)


def failed_run(fault: faults.Fault, table: faults.Table) -> str:
    """Say why a run failed, when the agent goes on: by the last line that says it by itself."""
    last = fault.evidence[-1] if fault.evidence else fault.kind.meaning
    for text in reversed(fault.evidence):
        alone = faults.judge_line(table, text)
        if alone and alone.kind is fault.kind:
            last = text
            break
    return line(f"a run failed: {fault.kind.name}: {_short(last)}; the agent goes on")


def heartbeat(runs: Runs, seconds: float, now: float) -> str:
    idle = "" if runs.running else f", idle for {clock(now - runs.idle_since)}"
    return line(f"alive for {clock(seconds)}, runs: {runs}{idle}")


def stopping(end: End, number: int, grace: float) -> str:
    name = {2: "INT", 15: "TERM", 1: "HUP"}.get(number, str(number))
    return line(f"ending the agent ({end.reason}): {name}, then KILL after {grace:g} s")


def summary(end: End, code: int, fault: str | None, runs: Runs, seconds: float) -> str:
    """Say how it all ended, for people and then, in the last line, for programs."""
    text = line(f"ended: {end.reason}; runs: {runs}; lifetime {clock(seconds)}; exit code {code}")
    if runs.running:
        text += line(
            f"{runs.running} run(s) had not ended: this agent no longer watches their jobs"
        )
    told = {"watch": 1, "end": end.kind, "class": fault, "exit_code": code}
    return text + json.dumps({**told, **runs.counts(), "seconds": round(seconds, 3)}) + "\n"


def clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _block(kind: faults.Kind) -> str:
    if kind.block == "nothing":
        return "nothing"
    what = {"region": "this region", "region_gpu_spot": "this GPU and strategy in this region"}
    for_long = f"for {clock(kind.block_seconds)}" if kind.block_seconds else "until it is mended"
    return f"{what.get(kind.block, kind.block)} {for_long}"


def _flat(text: str) -> str:
    return " ".join(text.split())


def _short(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH // 2]} [...] {text[-WIDTH // 2 :]}"
