"""A run that dies anywhere goes on to the very weights and losses of one that did not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from training_runs import assignments, forget_accelerate, points, result, weights

from ARR_COC.Training import train
from ARR_COC.Training.stop import Stopped, StopRequest
from ARR_COC.Training.trainee import Trainee

RunHere = Callable[..., Path]
STEPS, TURN = 9, 5
LONG = (f"steps={STEPS}", f"selector_steps={STEPS - TURN}", "eval_every=4", "accumulate=2")


class Killed(BaseException):
    """Stands for an end of the process that nothing catches."""


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the run die before it takes this step, counted from 0."""
    stock = Trainee.step

    def step_or_die(
        self: Trainee, micros: object, rate: float, clip: float, draw: tuple, *more: object
    ) -> float:
        if draw[1] == step:
            raise Killed
        return stock(self, micros, rate, clip, draw, *more)

    monkeypatch.setattr(Trainee, "step", step_or_die)


def same_end(one: Path, other: Path) -> None:
    assert points(one) == points(other)
    assert weights(one, STEPS) == weights(other, STEPS)
    moments = [
        torch.load(run / f"checkpoints/step-{STEPS:08d}/progress.pt", weights_only=True)
        for run in (one, other)
    ]
    for name in ("exp_avg", "exp_avg_sq", "step"):
        first, second = ([s[name] for s in m["optimizer"]["state"].values()] for m in moments)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for key in ("loss", "eval_loss", "accuracies", "train_examples", "best"):
        assert result(one)[key] == result(other)[key]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_run_that_dies_twice_goes_on_to_the_same_end(
    seed: int,
    run_here: RunHere,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    more = (*LONG, f"seed={seed}", f"save_every={seed + 1}")
    whole = run_here(*more, folder=tmp_path / "whole")
    for step in sorted(random.Random(seed).sample(range(1, STEPS), 2)):
        with pytest.MonkeyPatch.context() as patched:
            kill_at(step, patched)
            with pytest.raises(Killed):
                train.main(assignments(*more), environment)
        forget_accelerate()
    same_end(run_here(*more), whole)


@pytest.mark.parametrize("step", [2, TURN, 7])
def test_a_run_that_is_stopped_saves_at_once_and_goes_on_to_the_same_end(
    step: int,
    run_here: RunHere,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = (*LONG, "save_every=100")
    whole = run_here(*more, folder=tmp_path / "whole")
    taken: list[int] = []
    stock = Trainee.step
    with monkeypatch.context() as patched:
        patched.setattr(Trainee, "step", lambda *a: (taken.append(1), stock(*a))[1])
        patched.setattr(
            StopRequest,
            "requested",
            lambda _self: Stopped("SIGTERM received", 143) if len(taken) == step else None,
        )
        assert train.main(assignments(*more), environment) == 143
    forget_accelerate()
    folder = Path(environment["ARR_RUN_DIR"])
    assert max(path.name for path in folder.glob("checkpoints/step-*")) == f"step-{step:08d}"
    same_end(run_here(*more), whole)


def test_a_stop_while_the_run_is_examined_ends_the_examination(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, run_here: RunHere
) -> None:
    from ARR_COC.Training.examining import _Watched

    asked: list[int] = []
    stock = _Watched.example

    def example(self: _Watched, index: int) -> object:
        asked.append(index)
        if index == 3:
            monkeypatch.setattr(
                StopRequest, "requested", lambda _self: Stopped("SIGTERM received", 143)
            )
        return stock(self, index)

    monkeypatch.setattr(_Watched, "example", example)
    assert train.main(assignments("eval_examples=500"), environment) == 143
    assert len(asked) == 4
    folder = Path(environment["ARR_RUN_DIR"])
    assert not (folder / "result.json").exists()
    monkeypatch.undo()
    forget_accelerate()
    run_here("eval_examples=5")
    assert result(folder)["resumed_from"] == "checkpoints/step-00000006"
