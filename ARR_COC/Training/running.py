"""One run from its beginning, or from where it was left, to its result."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed  # type: ignore[import-untyped]

from ARR_COC.Training import atomic, checkpoint, examining, tracking, trainee, upload
from ARR_COC.Training.checkpoint import Checkpoint, Checkpoints
from ARR_COC.Training.examination import Examination
from ARR_COC.Training.examining import Examiner
from ARR_COC.Training.feed import Feed
from ARR_COC.Training.identity import identity, refuse_another_run
from ARR_COC.Training.loop import Run, phase_of
from ARR_COC.Training.result import RESULT_FILE, Result
from ARR_COC.Training.settings import Settings, SettingsError
from ARR_COC.Training.stop import Stopped, StopRequest
from ARR_COC.Training.storage import storage
from ARR_COC.Training.subject import Subject, build
from ARR_COC.Training.tracking import Tracker
from ARR_COC.Training.trainee import Trainee


def run(
    settings: Settings, folder: Path, environment: Mapping[str, str], stop: StopRequest
) -> None:
    """Carry out one run in `folder`, going on from its last complete checkpoint.

    Writes checkpoints, metrics.jsonl, a report and at the end result.json. Raises Stopped when told
    to stop, with the checkpoint written; Diverged; SaveError; SettingsError for settings, data and
    checkpoints that cannot be used.
    """
    began = time.monotonic()
    torch.set_num_threads(settings.threads)
    this = start(settings, folder, environment, stop)
    exit_code, outcome = 1, None
    try:
        this.train()
        outcome = finish(this, began)
        exit_code = 0
    except Stopped as stopped:
        exit_code = stopped.exit_code
        raise
    finally:
        this.tracker.finish(exit_code, outcome)


def start(
    settings: Settings, folder: Path, environment: Mapping[str, str], stop: StopRequest
) -> Run:
    """Return the run, new or as its last checkpoint left it."""
    accelerator = trainee.accelerator(settings)
    main = accelerator.is_main_process
    if main and settings.hub_upload:
        upload.check(settings.hub_upload)
    feed = Feed.open(settings)
    place = settings.checkpoint_dir or environment.get("AIP_CHECKPOINT_DIR", "")
    checkpoints = Checkpoints(storage(place, folder, probe=main), settings.keep_checkpoints)
    set_seed(settings.seed)
    known = identity(settings, accelerator.num_processes)
    resumed, passed_over = checkpoints.latest()
    if resumed is not None:
        refuse_another_run(resumed, checkpoints.where(resumed.name), known, settings)
    subject = build(settings, accelerator.mixed_precision)
    part = _going_on(settings, accelerator, subject, checkpoints, resumed)
    done = resumed.step if resumed else 0
    if main:
        where = checkpoints.where(resumed.name) if resumed else None
        for line in [*passed_over, _opening(part, where)]:
            tracking.say(line)
    tracker = tracking.start(folder, settings, environment, done) if main else Tracker(None, None)
    return Run(
        settings,
        folder,
        known,
        feed,
        subject,
        part,
        checkpoints,
        tracker,
        stop,
        Examiner(settings, feed.examined, stop),
        resumed,
        checkpoints.best(done),
    )


def _going_on(
    settings: Settings,
    accelerator: Any,
    subject: Subject,
    checkpoints: Checkpoints,
    resumed: Checkpoint | None,
) -> Trainee:
    """Return the trainee of the next step, with everything as the checkpoint left it."""
    last = min(resumed.step if resumed else 0, settings.steps - 1)
    phase = phase_of(last, settings)
    if resumed is None:
        return trainee.prepare(settings, accelerator, subject, phase)
    with checkpoints.open(resumed.name) as folder:
        try:
            subject.read(folder)
            part = trainee.prepare(settings, accelerator, subject, phase)
            progress = checkpoint.load_progress(folder)
            if phase == resumed.phase:
                part.load_optimizer_state(progress["optimizer"])
        except (ValueError, KeyError, RuntimeError) as error:
            where = checkpoints.where(resumed.name)
            raise SettingsError(
                f"{where} cannot be gone on from: {error}; name another ARR_RUN_DIR"
            ) from error
    return part


def _opening(part: Trainee, resumed: str | None) -> str:
    accelerator = part.accelerator
    weights = list(part.lesson.parameters())
    millions = sum(weight.numel() for weight in weights) / 1e6
    learning = sum(weight.numel() for weight in weights if weight.requires_grad) / 1e6
    gpu = f" ({torch.cuda.get_device_name()})" if accelerator.device.type == "cuda" else ""
    return (
        f"{millions:.2f} M weights, {learning:.2f} M of them learn as {part.lesson.phase}, on "
        f"{accelerator.device}{gpu}, torch {torch.__version__}, precision "
        f"{accelerator.mixed_precision}, processes {accelerator.num_processes}; "
        + (f"going on from {resumed}" if resumed else "from the start")
    )


def finish(this: Run, began: float) -> dict[str, Any] | None:
    """Examine at all budgets; the main process writes report and result, and returns the latter.

    Raises Stopped, SaveError, and UploadError after the result is written.
    """
    outcome = this.examine(examining.final_budgets(this.settings))
    written = None
    if outcome is not None:
        subject, found = outcome
        for line in found.summary():
            tracking.say(line)
        this.examiner.report(this.folder, subject, found)
        written = asdict(_result(this, found, began))
        atomic.write_json(this.folder / RESULT_FILE, written)
        if this.settings.hub_upload and this.best is not None:
            with this.checkpoints.open(this.best.checkpoint) as folder:
                upload.upload(folder, this.folder / "report", this.settings.hub_upload)
    this.trainee.accelerator.wait_for_everyone()
    return written


def _result(this: Run, found: Examination, began: float) -> Result:
    settings = this.settings
    budget = settings.budget if settings.selector_steps else 1.0
    assert this.last is not None
    assert this.best is not None
    return Result(
        steps=this.done,
        loss=this.loss,
        eval_loss=found.at(budget).loss,
        accuracy=found.accuracy_at(budget),
        budget=budget,
        accuracies={f"{one:g}": found.accuracy_at(one) for one in found.budgets},
        chance=examining.chance(settings.data),
        best_constant=found.best_constant,
        query_blind=None,
        train_examples=this.answered,
        eval_examples=found.questions,
        seconds=round(time.monotonic() - began, 3),
        checkpoint=this.checkpoints.where(this.last.name),
        best=this.checkpoints.where(this.best.checkpoint),
        resumed_from=this.checkpoints.where(this.resumed.name) if this.resumed else None,
        seed=settings.seed,
    )
