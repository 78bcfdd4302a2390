"""Answers as rows, intervals, goals, tables and a plot."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from relevance_answers import Answers

from ARR_COC.Training.atomic import write_text

OURS: tuple[str, str] = ("ours", "before")
BLIND = ("downsample", "uniform", "random", "centre", "salience", "query_blind", "tome")
BLIND += ("visionzip", "divprune", "ours_propositional", "ours_perspectival")
"""Arms that do not look at the question."""

_RESAMPLES = 2000
_SHOWN = ("full", "oracle", "ours", "fastv", "cdprune", "salience", "query_blind", "downsample")
_SHOWN += ("random",)

Row = dict[str, Any]


def report(found: Sequence[Answers], seeds: Sequence[int], budgets: Sequence[float]) -> Row:
    """Return everything that is written: rows a seed, means over the seeds, checks and goals."""
    rows = [row for one in found for row in _rows(one)]
    summary = []
    for task in dict.fromkeys(one.task for one in found):
        summary += _summary([one for one in found if one.task == task])
    return {
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "torch": torch.__version__,
            "commit": _commit(),
        },
        "seeds": sorted({one.seed for one in found}),
        "budgets": [*budgets, 1.0],
        "rows": rows,
        "summary": summary,
        "checks": [check for one in found for check in _checks(one)],
        "goals": _goals(summary),
    }


def _rows(one: Answers) -> list[Row]:
    """Return a row for each arm, place and budget of one task and seed."""
    return [
        {
            "task": one.task,
            "arm": arm,
            "where": where,
            "budget": budget,
            "seed": one.seed,
            "accuracy": float(one.right[arm, where, budget].mean()),
            "evidence_recall": _mean(one.recall[arm, where, budget]),
            "tokens": one.tokens[arm, where, budget],
            "blocks": one.blocks,
            "questions": len(one.image),
        }
        for arm, where, budget in one.right
    ]


def _summary(found: Sequence[Answers]) -> list[Row]:
    """Return the means over the seeds of one task, with 95 % intervals by paired bootstrap.

    Images are drawn with replacement within each seed, the same for all arms. `behind` is how far
    an arm is behind `ours` at the same budget, in accuracy.
    """
    keys = list(found[0].right)
    draws = [_draws(one) for one in found]
    samples = {
        key: np.mean(
            [_means(draw, one.right[key], one) for draw, one in zip(draws, found, strict=True)], 0
        )
        for key in keys
    }
    rows = []
    for key in keys:
        arm, where, budget = key
        ours = samples.get((*OURS, budget))
        row: Row = {
            "task": found[0].task,
            "arm": arm,
            "where": where,
            "budget": budget,
            "accuracy": float(np.mean([one.right[key].mean() for one in found])),
            "interval": _interval(samples[key]),
            "evidence_recall": _mean(np.concatenate([one.recall[key] for one in found])),
            "tokens": float(np.mean([one.tokens[key] for one in found])),
        }
        if ours is not None:
            mine = np.mean([one.right[(*OURS, budget)].mean() for one in found])
            row["behind"] = float(mine) - row["accuracy"]
            row["behind_interval"] = _interval(ours - samples[key])
        rows.append(row)
    return rows


def _draws(one: Answers) -> npt.NDArray[np.int64]:
    """Return how often each image is drawn in each resample, [_RESAMPLES, images]."""
    images = len(np.unique(one.image))
    rng = np.random.default_rng([one.seed, 7])
    return rng.multinomial(images, [1 / images] * images, size=_RESAMPLES)


def _means(
    draws: npt.NDArray[np.int64], right: npt.NDArray[np.bool_], one: Answers
) -> npt.NDArray[np.float64]:
    """Return the accuracy in each resample."""
    number = np.unique(one.image, return_inverse=True)[1]
    hits = np.bincount(number, weights=right)
    asked = np.bincount(number)
    return np.asarray((draws @ hits) / (draws @ asked))


def _interval(samples: npt.NDArray[np.float64]) -> list[float]:
    return [float(value) for value in np.quantile(samples, [0.025, 0.975])]


def _checks(one: Answers) -> list[Row]:
    """Return what must hold if the question decides: other questions, other blocks."""
    return [
        {
            "task": one.task,
            "seed": one.seed,
            "budget": budget,
            "query_swap_iou": None if math.isnan(overlap) else overlap,
            "accuracy": float(one.right[(*OURS, budget)].mean()),
            "shuffled_query": float(one.right["ours_shuffled", "before", budget].mean()),
            "random": float(one.right["random", "before", budget].mean()),
        }
        for budget, overlap in one.swapped.items()
    ]


def _goals(summary: Sequence[Row]) -> list[Row]:
    """Return the goals at 1/8 of the tokens for the tasks where only the question tells."""
    goals = []
    for task in ("frames", "forms"):
        rows = [row for row in summary if row["task"] == task]
        if not rows:
            continue
        full = next(row for row in rows if row["arm"] == "full")
        at = [row for row in rows if row["budget"] == 1 / 8]
        ours = next(row for row in at if (row["arm"], row["where"]) == OURS)
        blind = max((r for r in at if r["arm"] in BLIND), key=lambda row: float(row["accuracy"]))
        others = [r for r in at if r["arm"] not in ("oracle", "ours", "ours_shuffled")]
        best = max(others, key=lambda row: float(row["accuracy"]))
        goals += [
            _goal(task, "within 1 point of all tokens", full["accuracy"] - ours["accuracy"], 0.01),
            _goal(
                task,
                f"30 points above the best that ignores the question ({_name(blind)})",
                blind["accuracy"] - ours["accuracy"],
                -0.30,
            ),
            _goal(
                task,
                f"above every other arm but the oracle (best: {_name(best)})",
                best["accuracy"] - ours["accuracy"],
                0.0,
            ),
        ]
    return goals


def _goal(task: str, goal: str, behind: float, most: float) -> Row:
    return {"task": task, "goal": goal, "behind": behind, "reached": behind <= most}


def _name(row: Row) -> str:
    return f"{row['arm']}, {row['where']}"


def lines(report: Row) -> list[str]:
    """Return a table a task (accuracy in per cent by arm and budget), the checks and the goals."""
    budgets = [budget for budget in report["budgets"] if budget < 1]
    told: list[str] = []
    for task in dict.fromkeys(row["task"] for row in report["summary"]):
        rows = [row for row in report["summary"] if row["task"] == task]
        full = next(row for row in rows if row["arm"] == "full")
        told += ["", f"{task}: accuracy with all tokens {full['accuracy']:.1%}"]
        told.append(f"{'arm':<20}{'where':<8}" + "".join(f"{_share(b):>14}" for b in budgets))
        for arm, where in dict.fromkeys((r["arm"], r["where"]) for r in rows if r["arm"] != "full"):
            cells = [
                next(r for r in rows if (r["arm"], r["where"], r["budget"]) == (arm, where, budget))
                for budget in budgets
            ]
            told.append(f"{arm:<20}{where:<8}" + "".join(_cell(cell) for cell in cells))
    told += ["", "checks at 1/8: questions swapped (IoU of the blocks kept), shuffled, random"]
    told += [
        f"  {c['task']} seed {c['seed']}: IoU {_number(c['query_swap_iou'])}, accuracy "
        f"{c['accuracy']:.1%}, shuffled {c['shuffled_query']:.1%}, random {c['random']:.1%}"
        for c in report["checks"]
        if c["budget"] == 1 / 8
    ]
    told += ["", "goals at 1/8"]
    told += [
        f"  {goal['task']}: {goal['goal']}: {-100 * goal['behind']:+.1f} points, "
        + ("reached" if goal["reached"] else "missed")
        for goal in report["goals"]
    ]
    return told


def write(report: Row, file: Path) -> None:
    """Write the JSON, a row a line, and, beside it, the plot of accuracy against budget."""
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = []
    for name, value in report.items():
        rows = value if isinstance(value, list) and value and isinstance(value[0], dict) else None
        text = json.dumps(value) if rows is None else _one_a_line(rows)
        parts.append(f"{json.dumps(name)}: {text}")
    write_text(file, "{" + ",\n".join(parts) + "}\n")
    plot(report["summary"], file.with_suffix(".png"))


def _one_a_line(rows: Sequence[Row]) -> str:
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]"


def plot(summary: Sequence[Row], file: Path) -> None:
    """Draw one panel a task: accuracy against the share of tokens kept, with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(row["task"] for row in summary))
    figure, axes = pyplot.subplots(1, len(tasks), figsize=(4.6 * len(tasks), 4.2), squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        rows = [row for row in summary if row["task"] == task]
        full = next(row["accuracy"] for row in rows if row["arm"] == "full")
        axis.axhline(full, color="black", linewidth=1, label="full")
        for arm in _SHOWN[1:]:
            where = "layer2" if arm == "fastv" else "after" if arm == "cdprune" else "before"
            line = sorted(
                (r for r in rows if (r["arm"], r["where"]) == (arm, where)),
                key=lambda row: float(row["budget"]),
            )
            if line:
                _draw(axis, arm, line)
        axis.set(title=task, xlabel="share of the tokens kept", ylim=(0, 1.03))
        axis.set_xscale("log", base=2)
    axes[0][0].set_ylabel("accuracy")
    axes[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _draw(axis: Any, arm: str, line: Sequence[Row]) -> None:
    accuracy = np.array([row["accuracy"] for row in line])
    low, high = np.array([row["interval"] for row in line]).T
    axis.errorbar(
        [row["budget"] for row in line],
        accuracy,
        yerr=[np.maximum(accuracy - low, 0), np.maximum(high - accuracy, 0)],
        marker="o",
        markersize=3,
        linewidth=2.2 if arm == "ours" else 1.0,
        capsize=2,
        label=arm,
    )


def _share(budget: float) -> str:
    return f"1/{round(1 / budget)}"


def _cell(row: Mapping[str, Any]) -> str:
    low, high = row["interval"]
    return f"{100 * row['accuracy']:6.1f} ±{50 * (high - low):4.1f}  "


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _mean(values: npt.NDArray[np.float32]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _commit() -> str:
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "unknown"
