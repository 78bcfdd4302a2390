"""Where a run's figures go: plain lines, RUN/metrics.jsonl, and Weights & Biases."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from ARR_COC.Training import atomic, secret
from ARR_COC.Training.settings import Settings

METRICS = "metrics.jsonl"
_RUN_ID = "wandb-run-id"
_ACCURACY = "accuracy at "


def say(line: str) -> None:
    """Print one line at once; a reader of the output that has gone away does not stop the run."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Tracker:
    """Tells progress to whoever watches; silent without a file, in all but the main process."""

    def __init__(self, file: Path | None, wandb_run: Any | None) -> None:
        self._file = file
        self._wandb = wandb_run

    def progress(
        self, steps: int, step: int, phase: str, loss: float, rate: float, speed: float
    ) -> None:
        """Print and record one point; `speed` is in steps a second."""
        if self._file is None:
            return
        say(f"step {step}/{steps}  {phase}  loss {loss:.4f}  lr {rate:.2e}  {speed:.2f} steps/s")
        self._record({"step": step, "phase": phase, "loss": loss, "lr": rate}, speed)

    def examined(self, step: int, accuracies: Mapping[str, float]) -> None:
        """Print and record an examination: the accuracy by budget."""
        if self._file is None:
            return
        shares = ", ".join(f"{share:.1%} at {budget}" for budget, share in accuracies.items())
        say(f"examined at step {step}: accuracy {shares}")
        self._record({"step": step, **{f"{_ACCURACY}{b}": s for b, s in accuracies.items()}})

    def _record(self, metrics: dict[str, Any], speed: float | None = None) -> None:
        if speed is not None:
            metrics["steps_per_second"] = speed
        assert self._file is not None
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")
        if self._wandb is not None:
            self._try(lambda run: run.log(metrics, step=metrics["step"]))

    def finish(self, exit_code: int, summary: Mapping[str, Any] | None = None) -> None:
        """Close the W&B run, with the result when there is one."""
        if self._wandb is not None and summary is not None:
            self._try(lambda run: run.summary.update(dict(summary)))
        if self._wandb is not None:
            self._try(lambda run: run.finish(exit_code=exit_code))

    def _try(self, action: Callable[[Any], Any]) -> None:
        try:
            action(self._wandb)
        except Exception as error:  # noqa: BLE001 - whatever W&B raises, the run is worth more
            self._wandb = None
            say(f"wandb: stopped working, the run goes on without it ({error})")


def start(
    run: Path, settings: Settings, environment: Mapping[str, str], resumed_step: int
) -> Tracker:
    """Return a tracker. W&B is offline unless it has a key or WANDB_MODE says otherwise.

    The key is WANDB_API_KEY, or in the secret that WANDB_API_KEY_SECRET names. W&B's own variables
    win over settings, and a resumed run keeps its W&B run id. If the secret cannot be read, that is
    said, and W&B is offline; if W&B does not start, the tracker works without it.
    """
    mode, key = _login(environment)
    try:
        wandb_run = None
        if mode != "disabled":
            wandb_run = _start_wandb(run, settings, mode, key, environment)
        say(f"wandb: {mode}" + (f", files in {run / 'wandb'}" if wandb_run else ""))
    except Exception as error:  # noqa: BLE001 - see Tracker._try
        wandb_run = None
        words = f"{type(error).__name__}: {error}"
        words = words.replace(key, "***") if key else words
        say(f"wandb: did not start, the run goes on without it ({words})")
    _forget_after(run / METRICS, resumed_step)
    return Tracker(run / METRICS, wandb_run)


def _login(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return W&B's mode, and its key if that came from Secret Manager.

    A key that is in the environment W&B finds there by itself.
    """
    mode, name = environment.get("WANDB_MODE", ""), environment.get(secret.SECRET, "")
    if environment.get("WANDB_API_KEY"):
        return mode or "online", ""
    if not name or mode in ("offline", "disabled", "dryrun"):
        return mode or "offline", ""
    try:
        return mode or "online", secret.read(name, environment)
    except Exception as error:  # noqa: BLE001 - see Tracker._try
        say(f"wandb: no key, so `wandb sync` must upload the run later: {error}")
        return "offline", ""


def examinations(run: Path) -> list[dict[str, Any]]:
    """Return what the examinations of a run found: step, and accuracy by budget."""
    lines = (run / METRICS).read_text(encoding="utf-8").splitlines()
    points: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [point for point in points if any(key.startswith(_ACCURACY) for key in point)]


def _start_wandb(
    run: Path, settings: Settings, mode: str, key: str, environment: Mapping[str, str]
) -> Any:
    import wandb  # here, because it is slow to import and a run can do without it

    return wandb.init(
        project=environment.get("WANDB_PROJECT") or settings.wandb_project,
        name=environment.get("WANDB_NAME") or settings.run_name or None,
        id=environment.get("WANDB_RUN_ID") or _run_id(run),
        resume="allow" if mode == "online" else None,  # offline runs are joined when synced
        dir=run,
        config=settings.as_dict(),
        mode=cast("Any", mode),  # W&B itself refuses an unknown mode
        settings=wandb.Settings(silent=True, init_timeout=60, api_key=key or None),
    )


def _run_id(run: Path) -> str:
    """Return the W&B id of this run folder, made on first use."""
    file = run / _RUN_ID
    if not file.exists():
        atomic.write_text(file, uuid.uuid4().hex[:12] + "\n")
    return file.read_text(encoding="utf-8").strip()


def _forget_after(file: Path, step: int) -> None:
    """Drop points later than `step`, whose work is lost and done again, and a half-written line."""
    if not file.exists():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    atomic.write_text(file, "".join(f"{line}\n" for line in kept))
