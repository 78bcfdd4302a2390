"""One run: build or resume, take the steps, examine the reader, write the result."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed

from ARR_COC.Training import atomic, batches, checkpoint, evaluate, scenes, tracking, trainee
from ARR_COC.Training.batches import Batch
from ARR_COC.Training.checkpoint import Checkpoint
from ARR_COC.Training.result import RESULT_FILE, Result
from ARR_COC.Training.settings import Settings, SettingsError
from ARR_COC.Training.stop import Stopped, StopRequest
from ARR_COC.Training.tracking import Tracker
from ARR_COC.Training.trainee import Diverged, Trainee


@dataclass(slots=True)
class Run:
    """A run under way; `done` steps are taken, `last` is its newest checkpoint."""

    settings: Settings
    folder: Path
    identity: dict[str, Any]
    trainee: Trainee
    resumed: Checkpoint | None
    done: int = 0
    loss: float | None = None
    last: Checkpoint | None = None

    def __post_init__(self) -> None:
        """Start where the checkpoint ended."""
        if self.resumed:
            self.done, self.loss, self.last = self.resumed.step, self.resumed.loss, self.resumed

    def train(self, stop: StopRequest, tracker: Tracker) -> None:
        """Take the remaining steps and write the checkpoint of the last one.

        Raises Stopped, with the checkpoint written, and Diverged.
        """
        settings, digits = self.settings, scenes.load("train")
        logged, logged_at = self.done, time.monotonic()
        while self.done < settings.steps:
            if stopped := _agreed(self.trainee, stop.requested()):
                raise Stopped(f"{stopped}; {self.save().name} is written", stopped.exit_code)
            share = trainee.schedule(self.done, settings.steps, settings.warmup)
            rate = settings.learning_rate * share
            loss = self._step(self._micro_batches(digits), rate)
            if self.done % settings.log_every == 0 or self.done == settings.steps:
                speed = (self.done - logged) / (time.monotonic() - logged_at)
                logged, logged_at = self.done, time.monotonic()
                tracker.progress(settings.steps, self.done, loss, rate, speed)
            if self.done % settings.save_every == 0:
                self.save()
        self.save()

    def save(self) -> Checkpoint:
        """Return the checkpoint of this step; the main process writes it unless it is there."""
        if self.last is not None and self.last.step == self.done:
            return self.last
        new = Checkpoint(self.folder, self.done, self.loss, self.identity)
        if self.trainee.accelerator.is_main_process:
            checkpoint.save(
                new,
                self.trainee.reader(),
                self.trainee.optimizer,
                self.settings.keep_checkpoints,
            )
            tracking.say(f"checkpoint {new.name}")
        self.trainee.accelerator.wait_for_everyone()
        self.last = new
        return new

    def result(self, began: float) -> tuple[Result, list[str]]:
        """Examine the reader; return the result (`began`: monotonic time) and the lines to say."""
        accelerator, settings = self.trainee.accelerator, self.settings
        found = evaluate.evaluate(self.trainee.reader(), settings.eval_scenes, accelerator.device)
        images = self.done * int(self.identity["images_per_step"])
        result = Result(
            steps=self.done,
            loss=self.loss,
            eval_loss=found.loss,
            accuracy=found.accuracy,
            chance=evaluate.CHANCE,
            best_constant=found.best_constant,
            query_blind=found.query_blind,
            train_examples=images * settings.questions,
            eval_examples=found.examples,
            seconds=round(time.monotonic() - began, 3),
            checkpoint=self.save().name,
            resumed_from=self.resumed.name if self.resumed else None,
            seed=settings.seed,
        )
        return result, found.summary()

    def _step(self, micro_batches: list[Batch], rate: float) -> float:
        try:
            loss = self.trainee.step(micro_batches, rate, self.settings.clip)
        except Diverged as error:
            kept = f"the last good one is {self.last.name}" if self.last else "there is none yet"
            raise Diverged(
                f"step {self.done + 1}: {error}. No checkpoint of it was written; {kept}. "
                f"Try a learning_rate below {self.settings.learning_rate:g}"
            ) from None
        self.done += 1
        self.loss = loss
        return loss

    def _micro_batches(self, digits: scenes.Digits) -> list[Batch]:
        """Return this process's share of the next step; all shares are consecutive scenes."""
        settings, accelerator = self.settings, self.trainee.accelerator
        processes = accelerator.num_processes
        first = self.done * settings.accumulate * processes + accelerator.process_index
        return [
            batches.make(
                digits,
                settings.seed,
                range(number * settings.batch, (number + 1) * settings.batch),
                settings.questions,
            )
            for number in range(first, first + settings.accumulate * processes, processes)
        ]


def run(
    settings: Settings, folder: Path, environment: Mapping[str, str], stop: StopRequest
) -> None:
    """Carry out one run in `folder`, going on from its last complete checkpoint.

    Writes checkpoints, metrics.jsonl and at the end result.json. Raises Stopped when told to stop,
    with the checkpoint written; Diverged; SettingsError if the checkpoint is another run's.
    """
    began = time.monotonic()
    torch.set_num_threads(settings.threads)
    accelerator = trainee.accelerator(settings)
    set_seed(settings.seed)
    identity = _identity(settings, accelerator.num_processes)
    resumed, passed_over = checkpoint.latest(folder)
    _refuse_another_run(resumed, identity)
    this = Run(settings, folder, identity, trainee.prepare(settings, accelerator, resumed), resumed)
    if accelerator.is_main_process:
        for line in [*passed_over, _opening(this)]:
            tracking.say(line)
        tracker = tracking.start(folder, settings, environment, this.done)
    else:
        tracker = Tracker(None, None)
    exit_code, outcome = 1, None
    try:
        this.train(stop, tracker)
        if accelerator.is_main_process:
            result, summary = this.result(began)
            outcome = asdict(result)
            atomic.write_json(folder / RESULT_FILE, outcome)
            for line in summary:
                tracking.say(line)
        accelerator.wait_for_everyone()
        exit_code = 0
    except Stopped as stopped:
        exit_code = stopped.exit_code
        raise
    finally:
        tracker.finish(exit_code, outcome)


def _identity(settings: Settings, processes: int) -> dict[str, Any]:
    """Return what a checkpoint and the run that goes on from it must share: scenes and model."""
    return {
        "seed": settings.seed,
        "questions": settings.questions,
        "images_per_step": settings.batch * settings.accumulate * processes,
        "model": settings.model_shape(),
    }


def _refuse_another_run(resumed: Checkpoint | None, identity: Mapping[str, Any]) -> None:
    if resumed is None:
        return
    for key, value in identity.items():
        if resumed.identity.get(key) != value:
            raise SettingsError(
                f"{resumed.path} was made with {key} = {resumed.identity.get(key)}, "
                f"and this run says {value}: use the same value, or another ARR_RUN_DIR"
            )


def _opening(this: Run) -> str:
    accelerator = this.trainee.accelerator
    millions = sum(weight.numel() for weight in this.trainee.model.parameters()) / 1e6
    gpu = f" ({torch.cuda.get_device_name()})" if accelerator.device.type == "cuda" else ""
    start = f"going on from {this.resumed.name}" if this.resumed else "from random weights"
    return (
        f"{millions:.2f} M weights on {accelerator.device}{gpu}, torch {torch.__version__}, "
        f"precision {accelerator.mixed_precision}, processes {accelerator.num_processes}; {start}"
    )


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
