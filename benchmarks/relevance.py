"""Does the question tell which visual tokens to keep? Every way of choosing them, on equal terms.

    python benchmarks/relevance.py [--short] [--tasks frames forms] [--seeds 0 1 2] [--jobs 2]

A tiny Qwen3-VL is trained for each task and seed and frozen; each arm then gives it the same number
of tokens. Readers, selectors and answers are kept in benchmarks/.cache/relevance, so that a run
that was ended goes on. What is measured, and what came out: docs/relevance.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import relevance_answers
import relevance_report
from relevance_answers import Answers
from relevance_readers import RECIPES, Recipe

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "relevance.json"
CACHE = HERE / ".cache" / "relevance"
BUDGETS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
SHORT = {"frames": replace(RECIPES["frames"], steps=900, selector_steps=300)}


def main(arguments: Sequence[str]) -> int:
    """Run what is not yet in the cache, write the results and print the tables."""
    options = _options(arguments)
    recipes = SHORT if options.short else {task: RECIPES[task] for task in options.tasks}
    seeds = [0] if options.short else options.seeds
    began = time.monotonic()
    found = answers(recipes, seeds, options.cache, options.questions, options.jobs)
    report = relevance_report.report(found, options.seeds, BUDGETS)
    relevance_report.write(report, options.out)
    print(*relevance_report.lines(report), sep="\n")
    print(f"\n{options.out}, {(time.monotonic() - began) / 60:.1f} min")
    return 0


def answers(
    recipes: dict[str, Recipe], seeds: Sequence[int], cache: Path, questions: int, jobs: int
) -> list[Answers]:
    """Return the answers of all arms for each task and seed, `jobs` of them at a time."""
    wanted = [(task, seed, recipe) for seed in seeds for task, recipe in recipes.items()]
    if jobs == 1:
        return [relevance_answers.answers(*one, BUDGETS, questions, cache) for one in wanted]
    with ProcessPoolExecutor(jobs) as pool:
        under_way = [
            pool.submit(relevance_answers.answers, *one, BUDGETS, questions, cache)
            for one in wanted
        ]
        for done in as_completed(under_way):
            done.result()  # tell a failure at once
        return [one.result() for one in under_way]


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--short", action="store_true", help="one task, one seed: a few minutes")
    parser.add_argument("--tasks", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--questions", type=int, default=480, help="asked a task, seed and arm")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--cache", type=Path, default=CACHE)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
