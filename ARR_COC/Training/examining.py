"""Examinations while a run is under way: on which examples, at which budgets, and their report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ARR_COC.Training import evaluate, report, tracking
from ARR_COC.Training.examination import Examination
from ARR_COC.Training.examples import Example, Source
from ARR_COC.Training.settings import Settings
from ARR_COC.Training.stop import StopRequest
from ARR_COC.Training.subject import Subject, build
from ARR_COC.Training.trainee import Trainee

_FINAL = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16)
_CHANCE = {"frames": 1 / 10, "forms": 1 / 100}
"""What guessing gives, where all answers are equally likely."""


class _Told(Exception):
    """The run was told to stop while it examined."""


@dataclass(frozen=True, slots=True)
class _Watched:
    """A source that ends an examination as soon as the run is told to stop."""

    source: Source
    stop: StopRequest

    @property
    def size(self) -> int | None:
        return self.source.size

    def example(self, index: int) -> Example:
        if self.stop.requested():
            raise _Told
        return self.source.example(index)


@dataclass(frozen=True, slots=True)
class Examiner:
    """What is examined on, and how; only the main process examines, while the others wait."""

    settings: Settings
    source: Source
    stop: StopRequest

    def examine(
        self,
        subject: Subject,
        part: Trainee,
        weights: Mapping[str, Tensor] | None,
        budgets: Sequence[float],
    ) -> tuple[Subject, Examination] | None:
        """Return what was examined and what was found; None if the run was told to stop.

        weights: those of the subject, where they are spread over processes: a copy is examined.
        """
        accelerator = part.accelerator
        if weights is not None:
            subject = build(self.settings, accelerator.mixed_precision)
            subject.arr.load_state_dict(weights)
            subject.arr.to(accelerator.device)
        try:
            with accelerator.autocast():
                found = evaluate.examine(
                    subject.arr,
                    subject.processor,
                    _Watched(self.source, self.stop),
                    self.settings.eval_examples,
                    budgets,
                    accelerator.device,
                    "after" if self.settings.where == "after" else "before",
                    self.settings.gestalt,
                )
        except _Told:
            return None
        return subject, found

    def report(self, run: Path, subject: Subject, found: Examination) -> None:
        """Write the report into RUN/report; one that cannot be written is said, and no more."""
        try:
            report.write(
                run / "report",
                subject.arr,
                subject.processor,
                self.source,
                found,
                self.settings.as_dict(),
                tracking.examinations(run),
            )
        except OSError as error:
            tracking.say(f"report: could not be written ({error})")


def final_budgets(settings: Settings) -> tuple[float, ...]:
    """Return the budgets at which a run ends: the usual ones and its own."""
    return tuple(sorted({*_FINAL, settings.budget}, reverse=True))


def chance(data: str) -> float | None:
    """Return the share of answers that guessing gets right, None where it is not known."""
    return _CHANCE.get(data)
