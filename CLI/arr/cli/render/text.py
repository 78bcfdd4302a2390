"""Small pieces of text: tables, times, sizes. By hand: `plan` must not wait for rich to load."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import click

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return columns as wide as they need to be; the last may be as long as it likes."""
    lines = [[click.style(head, bold=True) for head in heads], *rows]
    widths = [max(_width(line[n]) for line in lines) for n in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def duration(seconds: float | None) -> str:
    """`0:43`, `1:02:03`; `-` when it is not known."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: int) -> str:
    """`512 B`, `3.1 kB`, `219.0 MB`: decimal, as registries count."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def age(then: float | None, now: float) -> str:
    """`4 minutes`, `2 hours`, `3 days`; `-` when it is not known."""
    if then is None:
        return "-"
    seconds = max(0, int(now - then))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds} s"


def moment(seconds: float) -> str:
    """`2026-11-22 16:45:01` in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _width(cell: str) -> int:
    return len(_STYLE.sub("", cell))
