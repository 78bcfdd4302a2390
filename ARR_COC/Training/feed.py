"""What a run learns from and is examined on: the data that its settings name, as batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ARR_COC.images import BadInput
from ARR_COC.processing import Processor
from ARR_COC.Training import tasks
from ARR_COC.Training.collate import Batch, collate
from ARR_COC.Training.examples import Example, Source
from ARR_COC.Training.settings import Settings, SettingsError
from ARR_COC.Training.sources import Part, Shuffled, open_source

HUB = "hub:"
EVALUATION_SEED = 0
"""Fixed: runs with different seeds are examined on the same examples."""


@dataclass(frozen=True, slots=True)
class Feed:
    """The endless stream that is trained on, and the examples of an examination.

    Training example i is a pure function of (settings, i), so that a run that resumes, or that is
    spread over more processes, sees what it would have seen anyway.
    """

    train: Source
    examined: Source

    @classmethod
    def open(cls, settings: Settings) -> Feed:
        """Return the data of the settings; raises SettingsError if they cannot be had."""
        try:
            if settings.data in tasks.NAMES:
                asked, seed = settings.questions, settings.seed
                return cls(
                    tasks.source(settings.data, "train", seed, asked),
                    tasks.source(settings.data, "test", EVALUATION_SEED, asked),
                )
            kind, options = _options(settings)
            train: Part = "train"
            shuffled = Shuffled(open_source(kind, train, options), settings.seed)
            limited = Limited(shuffled, settings.questions, settings.seed)
            return cls(limited, open_source(kind, "validation", options))
        except BadInput as error:
            raise SettingsError(f"data={settings.data}: {error}") from error

    def batch(self, number: int, size: int, processor: Processor) -> Batch:
        """Return micro-batch `number`, counted from 0 over all steps and processes of a run."""
        indices = range(number * size, (number + 1) * size)
        return collate([self.train.example(index) for index in indices], processor)


@dataclass(frozen=True, slots=True)
class Limited:
    """A source of which each example keeps at most `most` questions, drawn anew for each index."""

    source: Source
    most: int
    seed: int

    @property
    def size(self) -> int | None:
        """How many examples there are."""
        return self.source.size

    def example(self, index: int) -> Example:
        """Return example number `index` with its questions in the order of the source."""
        whole = self.source.example(index)
        if len(whole.questions) <= self.most:
            return whole
        drawn = np.random.default_rng([self.seed, index]).permutation(len(whole.questions))
        kept = sorted(drawn[: self.most].tolist())
        return replace(whole, questions=tuple(whole.questions[place] for place in kept))


def micro_batches(step: int, accumulate: int, process: int, processes: int) -> Iterator[int]:
    """Yield the numbers of one process's micro-batches; all shares of a step are consecutive."""
    first = step * accumulate * processes
    yield from range(first + process, first + accumulate * processes, processes)


def _options(settings: Settings) -> tuple[str, dict[str, Any]]:
    """Return the kind of source that `data` names, and its options."""
    if not settings.data.startswith(HUB):
        if not Path(settings.data).is_dir():
            raise SettingsError(
                f"data={settings.data}: is neither one of {', '.join(tasks.NAMES)}, nor a folder, "
                f"nor {HUB}NAME for a data set of the hub"
            )
        return "folder", {"path": settings.data}
    return "hub", {
        "name": settings.data.removeprefix(HUB),
        "image": settings.data_image,
        "question": settings.data_question,
        "answer": settings.data_answer,
        "train_split": settings.data_split,
        "validation_split": settings.data_eval_split,
        "revision": settings.data_revision or None,
    }
