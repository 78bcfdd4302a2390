"""Fault classes and faults as people read them: a terminal's lines, and the tables of a page."""

from __future__ import annotations

import click

from arr.jobs.fault_table import Fault, FaultTable, Kind
from arr.jobs.faults import printable

WIDTH = 1000
"""Characters of a line of evidence that are shown; `--json` has more."""


def fault_text(fault: Fault) -> str:
    kind = fault.kind
    retry, block = in_words(kind)
    lines = [f"{click.style(kind.name, bold=True)}: {kind.meaning}", ""]
    lines += [f"  {_short(printable(line))}" for line in fault.evidence]
    lines += ["", f"what to do: {fault.advice}", f"retry: {retry}; block: {block}"]
    lines += [f"{name}: {url}" for name, url in kind.links.items()]
    return "\n".join(lines)


def _short(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH // 2]} [...] {line[-WIDTH // 2 :]}"


def nothing_text(spoken: int) -> str:
    if not spoken:
        return "no fault found"
    counted = f"{spoken} line{'s speak' if spoken > 1 else ' speaks'} of one"
    return f"no fault found: {counted}, but what wrote them went on"


def overview(table: FaultTable) -> str:
    rows = [("CLASS", "EXIT", "RETRY", "BLOCK", "MEANING")]
    for kind in table.kinds.values():
        retry, block = in_words(kind)
        rows.append((kind.name, str(kind.exit_code), retry, block, kind.meaning))
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    return "\n".join(
        "  ".join([*(row[at].ljust(widths[at]) for at in range(4)), row[4]]) for row in rows
    )


def in_words(kind: Kind) -> tuple[str, str]:
    """Return how the launcher answers: whether it tries again, and what it leaves alone."""
    what = {"nothing": "nothing", "region": "region", "region_gpu_spot": "region, GPU and spot"}
    block = what[kind.block]
    if kind.block_seconds:
        block += f" for {kind.block_seconds // 60} min"
    return ("yes" if kind.retry else "no"), block


def page_table(table: FaultTable) -> str:
    """Return the tables of docs/faults.md; a test holds that the page has them as they are now."""
    rows = ["| class | what it is | exit code | retry | block |", "|---|---|---|---|---|"]
    for kind in table.kinds.values():
        retry, block = in_words(kind)
        rows.append(f"| `{kind.name}` | {kind.meaning} | {kind.exit_code} | {retry} | {block} |")
    rows += ["", "| class | what to do | more |", "|---|---|---|"]
    for kind in table.kinds.values():
        links = ", ".join(f"[{name}]({url})" for name, url in kind.links.items())
        rows.append(f"| `{kind.name}` | {kind.advice} | {links} |")
    return "\n".join(rows)
