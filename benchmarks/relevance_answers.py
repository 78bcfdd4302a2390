"""What each arm answers: for one task and seed, whether every question was answered right."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import relevance_arms
import torch
from relevance_arms import ARMS, Models, Outcome
from relevance_readers import TRAINED, Recipe, build, processor, reader, selector

from ARR_COC.processing import Processor
from ARR_COC.realizing import ArrCoc
from ARR_COC.selector import Selector, SelectorConfig
from ARR_COC.Training import signals, tasks
from ARR_COC.Training.collate import Batch, collate

_AT_ONCE = 96  # questions
_T = TypeVar("_T")
Key = tuple[str, str, float]
"""Arm, where, budget."""


@dataclass(frozen=True, slots=True)
class Answers:
    """One task and seed. right[key] and recall[key]: a value a question; recall NaN if unknown.

    image: the image of each question, by which questions are resampled. tokens[key]: the mean
    number of visual tokens. swapped[budget]: the mean IoU of what `ours` keeps for two questions
    on one image. blocks: of an image.
    """

    task: str
    seed: int
    blocks: int
    image: npt.NDArray[np.int64]
    right: Mapping[Key, npt.NDArray[np.bool_]]
    recall: Mapping[Key, npt.NDArray[np.float32]]
    tokens: Mapping[Key, float]
    swapped: Mapping[float, float]


def answers(
    task: str, seed: int, recipe: Recipe, budgets: Sequence[float], questions: int, cache: Path
) -> Answers:
    """Return the answers of all arms, from the cache if they are there."""
    torch.set_num_threads(1)
    folder = folder_of(task, seed, recipe, cache)
    name = f"answers-{questions}-{len(budgets)}.pt"

    def made() -> Answers:
        words = processor()
        models = _models(task, seed, recipe, words, folder)
        return _answered(task, seed, models, words, budgets, questions)

    found: Answers = _kept(folder / name, made)
    return found


def folder_of(task: str, seed: int, recipe: Recipe, cache: Path) -> Path:
    """Return the folder of what was made by this recipe."""
    mark = json.dumps([task, seed, asdict(recipe)]).encode()
    folder = cache / f"{task}-{seed}-{hashlib.sha256(mark).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def frozen(task: str, seed: int, recipe: Recipe, words: Processor, folder: Path) -> ArrCoc:
    """Return the frozen reader, trained unless the folder has it."""
    arr = build(seed, words)
    weights = _kept(
        folder / "reader.pt", lambda: reader(task, seed, recipe, words, _say).qwen.state_dict()
    )
    arr.qwen.load_state_dict(weights)
    return arr.requires_grad_(False).eval()


def _models(task: str, seed: int, recipe: Recipe, words: Processor, folder: Path) -> Models:
    """Return the frozen reader and its selectors, trained unless the folder has them."""
    arr = frozen(task, seed, recipe, words, folder)
    width = arr.qwen.config.text_config.hidden_size
    selectors: dict[str, Selector] = {}
    for name, (balance, blind) in TRAINED.items():
        taught = Selector(SelectorConfig(width, balance=balance, blind=blind))
        learned = _kept(folder / f"{name}.pt", _Taught(name, arr, task, seed, recipe, words))
        taught.load_state_dict(learned)
        selectors[name] = taught.eval()
    thirds = Selector(SelectorConfig(width, balance="thirds"))
    thirds.load_state_dict(selectors["ours_participatory"].state_dict())
    selectors["ours_thirds"] = thirds.eval()
    for way in ("propositional", "perspectival"):
        selectors[f"ours_{way}"] = Selector(SelectorConfig(width, balance=way)).eval()
    return Models(arr, selectors)


@dataclass(frozen=True, slots=True)
class _Taught:
    """Trains one selector when called."""

    name: str
    arr: ArrCoc
    task: str
    seed: int
    recipe: Recipe
    words: Processor

    def __call__(self) -> dict[str, torch.Tensor]:
        _say(f"{self.task} seed {self.seed}: selector {self.name}")
        return selector(
            self.name, self.arr, self.task, self.seed, self.recipe, self.words
        ).state_dict()


@torch.no_grad()
def _answered(
    task: str,
    seed: int,
    models: Models,
    words: Processor,
    budgets: Sequence[float],
    questions: int,
) -> Answers:
    """Ask every arm `questions` questions about test images, rounded up to whole images."""
    asked = list(batches(task, words, questions))
    right: dict[Key, list[npt.NDArray[np.bool_]]] = {}
    recall: dict[Key, list[npt.NDArray[np.float32]]] = {}
    tokens: dict[Key, list[float]] = {}
    swapped: dict[float, list[float]] = {}
    for number, batch in enumerate(asked):
        for key in _keys(budgets):
            arm, where, budget = key
            rng = np.random.default_rng([seed, number, round(1000 * budget)])
            if arm == "ours_shuffled":
                outcome = _shuffled(models, batch, budget, rng)
            else:
                outcome = relevance_arms.answered(arm, where, models, batch, budget, rng)
            right.setdefault(key, []).append(relevance_arms.exact(outcome, batch).numpy())
            recall.setdefault(key, []).append(relevance_arms.recall(outcome, batch).numpy())
            tokens.setdefault(key, []).append(outcome.tokens)
            if key[:2] == ("ours", "before"):
                swapped.setdefault(budget, []).append(_overlap(outcome, batch))
        _say(f"{task} seed {seed}: answered {number + 1}/{len(asked)} batches")
    before = np.cumsum([0, *(len(batch.image_grid_thw) for batch in asked)])
    images = [batch.images.numpy() + first for batch, first in zip(asked, before, strict=False)]
    return Answers(
        task=task,
        seed=seed,
        blocks=int(asked[0].image_grid_thw[0].prod()) // 4,
        image=np.concatenate(images),
        right={key: np.concatenate(parts) for key, parts in right.items()},
        recall={key: np.concatenate(parts) for key, parts in recall.items()},
        tokens={key: float(np.mean(parts)) for key, parts in tokens.items()},
        swapped={budget: float(np.mean(parts)) for budget, parts in swapped.items()},
    )


def _keys(budgets: Sequence[float]) -> list[Key]:
    """Return all arms; `full` once, as it has no budget."""
    keys: list[Key] = [("full", ARMS["full"][0], 1.0)]
    for budget in budgets:
        keys += [(arm, w, budget) for arm, places in ARMS.items() if arm != "full" for w in places]
        keys.append(("ours_shuffled", "before", budget))
    return keys


def batches(task: str, words: Processor, questions: int) -> list[Batch]:
    """Return test images, the same for all seeds, with at least `questions` questions in all."""
    source = tasks.source(task, "test", 0, 12 if task == "frames" else 8)
    images = max(1, _AT_ONCE // len(source.example(0).questions))
    made: list[Batch] = []
    while sum(len(batch.answers) for batch in made) < questions:
        numbers = range(len(made) * images, (len(made) + 1) * images)
        made.append(collate([source.example(number) for number in numbers], words))
    return made


def _shuffled(models: Models, batch: Batch, budget: float, rng: np.random.Generator) -> Outcome:
    """Return what is answered when the selector hears the question of another row.

    Each row's question is that of the row half a batch further: of another image.
    """
    moved = np.roll(np.arange(len(batch.images)), len(batch.images) // 2)
    order = torch.from_numpy(moved)
    other = replace(batch, input_ids=batch.input_ids[order], query_mask=batch.query_mask[order])
    chosen = relevance_arms.answered("ours", "before", models, other, budget, rng)
    assert chosen.kept is not None
    answered = signals.answer(models.arr, batch, kept=chosen.kept)
    return replace(chosen, answered=answered)


def _overlap(outcome: Outcome, batch: Batch) -> float:
    """Return the mean IoU of the blocks kept for neighbouring questions about the same image."""
    assert outcome.kept is not None
    overlaps = []
    for row in range(len(batch.images) - 1):
        if batch.images[row] == batch.images[row + 1]:
            one, two = (set(outcome.kept[n].tolist()) for n in (row, row + 1))
            overlaps.append(len(one & two) / len(one | two))
    return float(np.mean(overlaps)) if overlaps else float("nan")


def _kept(file: Path, made: Callable[[], _T]) -> _T:
    """Return what the file holds, made and written first if it is not there."""
    if not file.exists():
        draft = file.with_suffix(f".{os.getpid()}")
        torch.save(made(), draft)
        draft.replace(file)
    value: _T = torch.load(file, weights_only=False)
    return value


def _say(line: str) -> None:
    print(line, flush=True)
