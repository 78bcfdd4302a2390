"""Weights & Biases: in the run's folder, offline by default, and never in the way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from training_runs import assignments, result

from ARR_COC.Training import train


def test_without_a_key_wandb_writes_offline_into_the_run_folder(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    del environment["WANDB_MODE"]
    environment.pop("WANDB_API_KEY", None)
    assert train.main(assignments(), environment) == 0
    folder = Path(environment["ARR_RUN_DIR"])
    assert "wandb: offline" in capsys.readouterr().out
    assert len(list((folder / "wandb").glob("offline-run-*/run-*.wandb"))) == 1


class FakeRun:
    """A W&B run that records what it is told, and fails from the first log on if asked to."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails
        self.logged: list[dict[str, float]] = []
        self.summary: dict[str, object] = {}
        self.exit_code: int | None = None

    def log(self, metrics: dict[str, float], step: int) -> None:
        if self.fails:
            raise ConnectionError("the service is gone")
        assert metrics["step"] == step
        self.logged.append(metrics)

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[dict[str, object]], FakeRun]]:
    def install(
        starts: bool = True, fails: bool = False
    ) -> tuple[list[dict[str, object]], FakeRun]:
        asked: list[dict[str, object]] = []
        run = FakeRun(fails)

        def init(**arguments: object) -> FakeRun:
            asked.append(arguments)
            if not starts:
                raise TimeoutError("no answer in 60 seconds")
            return run

        module = SimpleNamespace(init=init, Settings=lambda **arguments: arguments)
        monkeypatch.setitem(sys.modules, "wandb", module)
        return asked, run

    return install


def test_a_key_turns_it_online_and_a_resumed_run_keeps_its_id(
    environment: dict[str, str], fake: Callable[..., tuple[list[dict[str, object]], FakeRun]]
) -> None:
    del environment["WANDB_MODE"]
    environment |= {"WANDB_API_KEY": "k", "WANDB_PROJECT": "theirs"}
    asked, run = fake()
    assert train.main(assignments(), environment) == 0
    assert train.main(assignments(), environment) == 0
    first, second = asked
    assert (first["mode"], first["resume"], first["project"]) == ("online", "allow", "theirs")
    assert first["id"] == second["id"]
    steps = [point["step"] for point in run.logged if "loss" in point]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert "accuracy at 0.125" in run.logged[-1]
    assert run.summary["accuracy"] == result(Path(environment["ARR_RUN_DIR"]))["accuracy"]
    assert run.exit_code == 0


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ({"starts": False}, "wandb: did not start, the run goes on without it (TimeoutError"),
        ({"fails": True}, "wandb: stopped working, the run goes on without it"),
    ],
)
def test_the_run_goes_on_without_it(
    environment: dict[str, str],
    fake: Callable[..., tuple[list[dict[str, object]], FakeRun]],
    capsys: pytest.CaptureFixture[str],
    trouble: dict[str, bool],
    words: str,
) -> None:
    environment["WANDB_MODE"] = "online"
    fake(**trouble)
    assert train.main(assignments(), environment) == 0
    said = capsys.readouterr().out
    assert said.count(words) == 1
    assert result(Path(environment["ARR_RUN_DIR"]))["steps"] == 6
