"""One run under way: the steps of both phases, its checkpoints and examinations."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ARR_COC.Training import tracking, trainee
from ARR_COC.Training.checkpoint import Best, Checkpoint, Checkpoints, SaveError
from ARR_COC.Training.examination import Examination
from ARR_COC.Training.examining import Examiner
from ARR_COC.Training.feed import Feed, micro_batches
from ARR_COC.Training.lesson import Phase, shows_parts
from ARR_COC.Training.settings import Settings
from ARR_COC.Training.stop import Stopped, StopRequest
from ARR_COC.Training.subject import Subject, build
from ARR_COC.Training.tracking import Tracker
from ARR_COC.Training.trainee import Diverged, Micro, Trainee


@dataclass(slots=True)
class Run:
    """A run under way; `done` steps are taken, `last` is its newest checkpoint."""

    settings: Settings
    folder: Path
    identity: dict[str, Any]
    feed: Feed
    subject: Subject
    trainee: Trainee
    checkpoints: Checkpoints
    tracker: Tracker
    stop: StopRequest
    examiner: Examiner
    resumed: Checkpoint | None
    best: Best | None
    done: int = 0
    loss: float | None = None
    answered: int = 0
    last: Checkpoint | None = None

    def __post_init__(self) -> None:
        """Start where the checkpoint ended."""
        if self.resumed:
            self.done, self.last = self.resumed.step, self.resumed
            self.loss, self.answered = self.resumed.loss, self.resumed.answered

    def train(self) -> None:
        """Take the remaining steps and write the checkpoint of the last one.

        Raises Stopped, with the checkpoint written; Diverged; SaveError.
        """
        settings = self.settings
        logged, logged_at = self.done, time.monotonic()
        while self.done < settings.steps:
            self.heed()
            if self.trainee.lesson.phase != phase_of(self.done, settings):
                self.save()
                self._turn()
            loss, rate = self._step()
            if self.done % settings.log_every == 0 or self.done == settings.steps:
                speed = (self.done - logged) / (time.monotonic() - logged_at)
                logged, logged_at = self.done, time.monotonic()
                phase = self.trainee.lesson.phase
                self.tracker.progress(settings.steps, self.done, phase, loss, rate, speed)
            last = self.done == settings.steps
            if settings.eval_every and self.done % settings.eval_every == 0 and not last:
                self.examine((1.0, settings.budget))
            if self.done % settings.save_every == 0:
                self.save()
        self.save()

    def heed(self) -> None:
        """Raise Stopped, with the checkpoint written, if any process was told to stop."""
        if stopped := _agreed(self.trainee, self.stop.requested()):
            name = self.checkpoints.where(self.save().name)
            raise Stopped(f"{stopped}; {name} is written", stopped.exit_code)

    def examine(self, budgets: tuple[float, ...]) -> tuple[Subject, Examination] | None:
        """Examine the model as it is; the main process returns it and what was found.

        All processes must call it. Raises Stopped.
        """
        weights = self.trainee.weights()
        outcome = None
        if self.trainee.accelerator.is_main_process:
            outcome = self.examiner.examine(self.subject, self.trainee, weights, budgets)
        self.trainee.accelerator.wait_for_everyone()
        self.heed()
        self.save()
        if outcome is not None:
            self._judge(outcome[1])
        return outcome

    def _judge(self, found: Examination) -> None:
        """Record an examination; the best one's checkpoint is never removed."""
        selecting = self.trainee.lesson.phase == "selector"
        at = self.settings.budget if selecting else 1.0
        self.tracker.examined(
            self.done, {f"{one:g}": found.accuracy_at(one) for one in found.budgets}
        )
        assert self.last is not None
        best = Best(selecting, found.accuracy_at(at), self.done, self.last.name)
        if self.best is None or best >= self.best:
            self.best = best
            self.checkpoints.crown(best)
        self.checkpoints.prune(self.best)

    def save(self) -> Checkpoint:
        """Return the checkpoint of this step; the main process writes it unless it is there."""
        if self.last is None or self.last.step != self.done:
            self.last = self._write()
        return self.last

    def _write(self) -> Checkpoint:
        name = self.trainee.lesson.phase
        new = Checkpoint(
            self.done, name, self.loss, self.answered, self.subject.base, self.identity
        )
        weights, optimizer = self.trainee.weights(), self.trainee.optimizer_state()
        if self.trainee.accelerator.is_main_process:
            try:
                self.checkpoints.save(
                    new,
                    lambda draft: self.subject.write(draft, weights),
                    {"optimizer": optimizer},
                )
            except SaveError as error:
                raise SaveError(f"{error}; {self._good()}") from error
            self.checkpoints.prune(self.best)
            tracking.say(f"checkpoint {self.checkpoints.where(new.name)}")
        self.trainee.accelerator.wait_for_everyone()
        return new

    def _turn(self) -> None:
        """Go over to the selector: other weights learn, by an optimizer of their own."""
        phase = phase_of(self.done, self.settings)
        accelerator = self.trainee.accelerator
        if self.trainee.sharded:  # what is sharded once cannot be prepared again: begin anew
            self.subject = build(self.settings, accelerator.mixed_precision)
            assert self.last is not None
            with self.checkpoints.open(self.last.name) as folder:
                self.subject.read(folder)
        self.trainee = trainee.prepare(self.settings, accelerator, self.subject, phase)

    def _step(self) -> tuple[float, float]:
        """Take one step; return its loss and learning rate."""
        settings, phase = self.settings, self.trainee.lesson.phase
        reading = phase == "reader"
        step = self.done if reading else self.done - settings.reader_steps
        steps = settings.reader_steps if reading else settings.selector_steps
        peak = settings.learning_rate if reading else settings.selector_learning_rate
        rate = peak * trainee.schedule(step, steps, settings.warmup, settings.schedule)
        micros = self._micro_batches()
        partial = reading and shows_parts(step, settings.reader_steps)
        draw = (settings.seed, self.done)
        try:
            loss = self.trainee.step(micros, rate, settings.clip, draw, partial)
        except Diverged as error:
            key = "learning_rate" if reading else "selector_learning_rate"
            raise Diverged(
                f"step {self.done + 1}: {error}. No checkpoint of it was written; {self._good()}. "
                f"Try a {key} below {peak:g}"
            ) from None
        self.done += 1
        self.loss = loss if reading else self.loss
        rows = torch.tensor(
            sum(len(micro.batch.answers) for micro in micros),
            device=self.trainee.accelerator.device,
        )
        self.answered += int(self.trainee.accelerator.reduce(rows, "sum"))
        return loss, rate

    def _micro_batches(self) -> list[Micro]:
        """Return this process's share of the next step."""
        settings, accelerator = self.settings, self.trainee.accelerator
        numbers = micro_batches(
            self.done, settings.accumulate, accelerator.process_index, accelerator.num_processes
        )
        a_step = settings.accumulate * accelerator.num_processes
        return [
            Micro(number % a_step, self.feed.batch(number, settings.batch, self.subject.processor))
            for number in numbers
        ]

    def _good(self) -> str:
        if self.last is None:
            return "there is no good one yet"
        return f"the last good one is {self.checkpoints.where(self.last.name)}"


def phase_of(step: int, settings: Settings) -> Phase:
    """Return the phase of the step after `step` steps."""
    return "reader" if step < settings.reader_steps else "selector"


def _agreed(trainee: Trainee, stopped: Stopped | None) -> Stopped | None:
    """Return the stop that any process was told of, so that all of them stop at the same step."""
    accelerator = trainee.accelerator
    if accelerator.num_processes == 1:
        return stopped
    if stopped:
        accelerator.set_trigger()
    if accelerator.check_trigger():
        return stopped or Stopped("another process was told to stop", 143)
    return None
