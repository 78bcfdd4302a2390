"""The report of an examination: figures, a plot, pictures of what was kept, and a model card."""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from ARR_COC import __version__
from ARR_COC.asking import ask
from ARR_COC.attending import Budget
from ARR_COC.picturing import sheet
from ARR_COC.processing import Processor
from ARR_COC.realizing import ArrCoc, Where
from ARR_COC.Training import atomic
from ARR_COC.Training.card import card
from ARR_COC.Training.examination import Examination
from ARR_COC.Training.examples import Source

METRICS, PLOT, CARD, KEPT = "metrics.json", "accuracy-against-budget.png", "README.md", "kept"
PICTURES = 6

_INK, _GREY, _MARK = "#1b1b3a", "#8a8a8a", "#c2452d"
_log = logging.getLogger(__name__)


def write(
    folder: Path,
    arr: ArrCoc,
    processor: Processor,
    source: Source,
    examination: Examination,
    settings: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    environment: Mapping[str, str] = os.environ,
) -> list[Path]:
    """Write the report into `folder`, made if missing, and return its files.

    history: an entry an evaluation, as JSON takes it; settings: `model` and `data`, if given, are
    named in the card; ARR_COMMIT of the environment is the commit. What an earlier report left is
    replaced. Without matplotlib there is no plot, which is logged and said in the card; without a
    selector there is nothing to draw. Raises OSError where it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = json.loads(json.dumps(dict(settings), default=str))
    written = [folder / METRICS]
    atomic.write_json(
        written[0],
        {
            "settings": plain,
            "examination": examination.as_dict(),
            "history": [dict(entry) for entry in history],
            "versions": {
                "arr_coc": __version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
            "commit": environment.get("ARR_COMMIT") or None,
        },
    )
    for old in (folder / PLOT, *(folder / KEPT).glob("*.png")):
        old.unlink(missing_ok=True)
    written += [*_plotted(folder / PLOT, examination)]
    written += _pictures(folder / KEPT, arr, processor, source, examination)
    files = [file.relative_to(folder) for file in written]
    atomic.write_text(folder / CARD, card(arr, processor, source, examination, plain, files))
    return [*written, folder / CARD]


def _plotted(file: Path, examination: Examination) -> Iterator[Path]:
    """Draw accuracy against the share of tokens kept; yield the file, if matplotlib is there."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        _log.warning("%s is left out: pip install matplotlib to have it drawn", file.name)
        return
    figure = Figure(figsize=(6.4, 4.2), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    budgets = examination.budgets
    shares = [examination.kept_share_at(budget) for budget in budgets]
    points = [examination.accuracy_at(budget) for budget in budgets]
    ends = [examination.interval_at(budget) for budget in budgets]
    below = [max(0.0, at - low) for at, (low, _) in zip(points, ends, strict=True)]
    above = [max(0.0, high - at) for at, (_, high) in zip(points, ends, strict=True)]
    style: dict[str, Any] = {
        "color": _MARK,
        "marker": "o",
        "capsize": 4,
        "label": "kept tokens (95 % interval)",
    }
    axes.errorbar(shares, points, yerr=[below, above], **style)
    if 1.0 in budgets:
        axes.axhline(examination.accuracy_at(1.0), color=_INK, ls="--", lw=1, label="all tokens")
    axes.axhline(
        examination.best_constant, color=_GREY, ls=":", lw=1.2, label="most frequent answer"
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(shares, [f"{100 * share:.3g} %" for share in shares], minor=False)
    axes.minorticks_off()
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("share of the image tokens kept")
    axes.set_ylabel(f"share of exact answers ({examination.questions:,} questions)")
    axes.grid(visible=True, alpha=0.25)
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(file)
    yield file


def _pictures(
    folder: Path, arr: ArrCoc, processor: Processor, source: Source, examination: Examination
) -> Iterator[Path]:
    """Draw what is kept, at the smallest budget, of the first examined images; yield the files."""
    smallest = examination.budgets[-1]
    if arr.selector is None or smallest == 1:
        return
    folder.mkdir(exist_ok=True)
    where: Where = "after" if examination.where == "after" else "before"
    budget = Budget(smallest, gestalt=examination.gestalt)
    for number in range(min(PICTURES, examination.images)):
        example = source.example(number)
        asked = example.questions[0]
        reply = ask(arr, processor, asked.text, example.image, budget, where)
        scores = None
        if reply.relevance is not None:
            scores = reply.relevance.scores.float().cpu().numpy().reshape(reply.grid)
        caption = [
            f"question: {asked.text}",
            f"true answer: {asked.answer}",
            f"given answer: {reply.answer or '(none)'}",
            f"{len(reply.kept)} of {reply.blocks} tokens kept (bright); right: the scores",
        ]
        file = folder / f"{number + 1}.png"
        sheet(reply.pixels, reply.kept, scores, caption).save(file)
        yield file
