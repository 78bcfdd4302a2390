"""Puts the numbers of results/{relevance,signals}.json into docs/relevance.md, at its markers.

python benchmarks/relevance_page.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "relevance.md"
RESULTS = HERE / "results" / "relevance.json"
SIGNALS = HERE / "results" / "signals.json"
TITLES = {
    "frames": "Frames (A)",
    "forms": "Forms (B)",
    "salient": "Salient (C)",
    "counting": "Counting (D)",
}

Row = dict[str, Any]


def page(text: str, report: Row, signals: Row) -> str:
    """Return the page with the parts between `<!-- NAME -->` and `<!-- end -->` made anew."""
    parts = {"tables": _tables(report), "checks": _checks(report), "goals": _goals(report)}
    parts["signals"] = _signals(signals)
    for name, lines in parts.items():
        marked = rf"(<!-- {name} -->\n).*?(\n<!-- end -->)"
        body = "\n".join(lines)
        text, count = re.subn(marked, lambda m, body=body: m[1] + body + m[2], text, flags=re.S)
        if count != 1:
            raise ValueError(f"the page has {count} parts <!-- {name} -->, not one")
    return text


def _tables(report: Row) -> list[str]:
    lines: list[str] = []
    for task in dict.fromkeys(row["task"] for row in report["summary"]):
        rows = [row for row in report["summary"] if row["task"] == task]
        full = next(row for row in rows if row["arm"] == "full")
        low, high = (f"{100 * end:.1f}" for end in full["interval"])
        lines.append(
            f"### {TITLES[task]}: {full['accuracy']:.1%} with all tokens ({low} to {high})".replace(
                "%", " %"
            )
        )
        budgets = [budget for budget in report["budgets"] if budget < 1]
        lines += ["", _cells("arm", "where", *(f"1/{round(1 / b)}" for b in budgets))]
        lines.append(_cells(*["---"] * (2 + len(budgets))))
        lines += [_arm(rows, *arm, budgets) for arm in _in_order(rows)]
        lines.append("")
    told = "Per cent of the answers that are right, mean of the seeds, and half the width of the"
    return [*lines, f"{told} interval."]


def _in_order(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return the arms, the best at 1/8 first."""
    at = [row for row in rows if row["budget"] == 1 / 8 and row["arm"] != "ours_shuffled"]
    return [(r["arm"], r["where"]) for r in sorted(at, key=lambda row: -float(row["accuracy"]))]


def _arm(rows: Sequence[Row], arm: str, where: str, budgets: Sequence[float]) -> str:
    found = {r["budget"]: r for r in rows if (r["arm"], r["where"]) == (arm, where)}
    shown = [
        f"{100 * row['accuracy']:.1f} ± {50 * (row['interval'][1] - row['interval'][0]):.1f}"
        for row in (found[budget] for budget in budgets)
    ]
    return _cells(f"**{arm}**" if (arm, where) == ("ours", "before") else arm, where, *shown)


def _checks(report: Row) -> list[str]:
    lines = [
        _cells(
            "task", "IoU of two questions' blocks", "own question", "another's", "random blocks"
        ),
        _cells(*["---"] * 5),
    ]
    checks = [check for check in report["checks"] if check["budget"] == 1 / 8]
    for task in dict.fromkeys(check["task"] for check in checks):
        own = [check for check in checks if check["task"] == task]

        def mean(key: str, own: Sequence[Row] = own) -> float:
            known = [check[key] for check in own if check[key] is not None]
            return sum(known) / len(known) if known else float("nan")

        shares = [f"{100 * mean(key):.1f} %" for key in ("accuracy", "shuffled_query", "random")]
        lines.append(_cells(task, f"{mean('query_swap_iou'):.2f}", *shares))
    return lines


def _goals(report: Row) -> list[str]:
    lines = [_cells("task", "goal at 1/8 of the tokens", "`ours` is", ""), _cells(*["---"] * 4)]
    for goal in report["goals"]:
        points = -100 * goal["behind"]
        is_ = f"{abs(points):.1f} points {'above' if points >= 0 else 'below'}"
        reached = "reached" if goal["reached"] else "**missed**"
        lines.append(_cells(goal["task"], goal["goal"], is_, reached))
    return lines


def _signals(report: Row) -> list[str]:
    lines = [_cells("task", "signal", "accuracy", "evidence kept", "CPU s"), _cells(*["---"] * 5)]
    lines += [
        _cells(
            row["task"],
            row["signal"].replace("_", " "),
            f"{100 * row['accuracy']:.1f} %",
            f"{row['evidence_recall']:.2f}",
            f"{row['seconds']:.0f}",
        )
        for row in report["rows"]
    ]
    return [*lines, "", f"{report['steps']} steps each."]


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    results = (json.loads(file.read_text("utf-8")) for file in (RESULTS, SIGNALS))
    PAGE.write_text(page(PAGE.read_text("utf-8"), *results), "utf-8")
