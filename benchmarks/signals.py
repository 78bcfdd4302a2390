"""What should a selector learn from? Five signals, the same frozen reader, data and steps.

    python benchmarks/signals.py [--tasks frames forms] [--steps 150]

Readers come from the cache of benchmarks/relevance.py, and are trained first if they are not there.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import relevance_answers
import relevance_arms
import torch
from relevance import CACHE
from relevance_arms import Models
from relevance_readers import RECIPES, processor, teach

from ARR_COC.realizing import ArrCoc
from ARR_COC.selector import Selector, SelectorConfig
from ARR_COC.Training.atomic import write_json
from ARR_COC.Training.signals import SIGNALS

RESULTS = Path(__file__).parent / "results" / "signals.json"
BUDGET = 1 / 8


def main(arguments: Sequence[str]) -> int:
    """Train a selector by each signal; print and write accuracy and evidence recall at 1/8."""
    options = _options(arguments)
    torch.set_num_threads(1)
    rows = [
        row
        for task in options.tasks
        for seed in options.seeds
        for row in _rows(task, seed, options.steps, options.questions)
    ]
    write_json(RESULTS, {"budget": BUDGET, "steps": options.steps, "rows": rows})
    print(f"\n{'task':<10}{'signal':<18}{'seed':>5}{'accuracy':>10}{'recall':>8}{'CPU s':>8}")
    for row in rows:
        print(
            f"{row['task']:<10}{row['signal']:<18}{row['seed']:>5}{row['accuracy']:>10.1%}"
            f"{row['evidence_recall']:>8.2f}{row['seconds']:>8.0f}"
        )
    return 0


def _rows(task: str, seed: int, steps: int, questions: int) -> list[dict[str, object]]:
    recipe, words = RECIPES[task], processor()
    folder = relevance_answers.folder_of(task, seed, recipe, CACHE)
    arr = relevance_answers.frozen(task, seed, recipe, words, folder)
    batches = list(relevance_answers.batches(task, words, questions))
    rows: list[dict[str, object]] = []
    for name, signal in SIGNALS.items():
        torch.manual_seed(seed)
        width = arr.qwen.config.text_config.hidden_size
        taught = ArrCoc(arr.qwen, Selector(SelectorConfig(width)))
        began = time.process_time()
        teach(taught, task, seed, replace(recipe, selector_steps=steps), words, signal)
        seconds = time.process_time() - began
        assert isinstance(taught.selector, Selector)
        models = Models(arr, {"ours": taught.selector.eval()})
        right, recall = [], []
        for batch in batches:
            rng = np.random.default_rng(0)
            with torch.no_grad():
                outcome = relevance_arms.answered("ours", "before", models, batch, BUDGET, rng)
            right.append(relevance_arms.exact(outcome, batch).numpy())
            recall.append(relevance_arms.recall(outcome, batch).numpy())
        rows.append(
            {
                "task": task,
                "seed": seed,
                "signal": name,
                "accuracy": float(np.concatenate(right).mean()),
                "evidence_recall": float(np.concatenate(recall).mean()),
                "seconds": seconds,
            }
        )
        print(rows[-1], flush=True)
    return rows


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", nargs="+", default=["frames", "forms"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--questions", type=int, default=480)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
