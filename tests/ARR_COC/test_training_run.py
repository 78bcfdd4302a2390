"""A whole run in this process: what it leaves behind, how it goes on, how it fails."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import pytest
from training_runs import assignments, points, result, weights

from ARR_COC.Training import train

RunHere = Callable[..., Path]


def test_a_run_leaves_its_result_settings_metrics_report_and_checkpoints(
    run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_here("seed=4")
    found = result(folder)
    assert {key: type(value) for key, value in found.items()} == {
        "steps": int,
        "loss": float,
        "eval_loss": float,
        "accuracy": float,
        "budget": float,
        "accuracies": dict,
        "chance": float,
        "best_constant": float,
        "query_blind": type(None),
        "train_examples": int,
        "eval_examples": int,
        "seconds": float,
        "checkpoint": str,
        "best": str,
        "resumed_from": type(None),
        "seed": int,
    }
    assert (found["steps"], found["seed"], found["chance"]) == (6, 4, 0.1)
    assert (found["train_examples"], found["eval_examples"]) == (6 * 2 * 3, 3)
    assert found["accuracy"] == found["accuracies"]["0.125"]
    assert list(found["accuracies"]) == ["1", "0.5", "0.25", "0.125", "0.0625"]
    assert found["checkpoint"] == found["best"] == "checkpoints/step-00000006"
    assert sorted(weights(folder, 6)) == ["model.safetensors", "selector/selector.safetensors"]
    assert json.loads((folder / "settings.json").read_text())["seed"] == 4
    assert [(point["step"], point["phase"]) for point in points(folder)] == [
        *[(step, "reader") for step in (1, 2, 3, 4)],
        *[(step, "selector") for step in (5, 6)],
    ]
    assert points(folder)[3]["loss"] == found["loss"]
    assert (folder / "report/README.md").is_file()
    said = capsys.readouterr().out
    assert "  seed = 4   (--set)" in said
    assert "step 6/6  selector  loss " in said
    assert "examined at step 6: accuracy " in said
    assert not list(folder.rglob("*.tmp"))


def test_each_phase_trains_its_own_weights_only(run_here: RunHere) -> None:
    folder = run_here("keep_checkpoints=9", "save_every=1")
    each = {step: weights(folder, step) for step in (3, 4, 5, 6)}
    reader, selector = "model.safetensors", "selector/selector.safetensors"
    assert each[3][reader] != each[4][reader] == each[5][reader] == each[6][reader]
    assert each[3][selector] == each[4][selector] != each[5][selector] != each[6][selector]


def test_the_loss_falls_in_both_phases(run_here: RunHere) -> None:
    folder = run_here("steps=60", "selector_steps=20", "batch=4", "questions=6", "save_every=60")
    losses = [point["loss"] for point in points(folder)]
    assert mean(losses[35:40]) < mean(losses[:5]) - 0.5
    assert mean(losses[-5:]) < mean(losses[40:43])


def test_a_run_goes_on_from_its_checkpoint_to_the_same_weights(
    run_here: RunHere, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run_here(folder=tmp_path / "whole")
    halves = run_here(folder=tmp_path / "halves")
    (halves / "checkpoints/step-00000006/model.safetensors").write_bytes(b"half")
    with (halves / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    capsys.readouterr()
    run_here(folder=halves)
    said = capsys.readouterr().out
    assert "step-00000006 is not complete" in said
    assert "going on from checkpoints/step-00000004" in said  # the end of the reader's steps
    assert result(halves)["resumed_from"] == "checkpoints/step-00000004"
    assert points(halves) == points(whole)
    assert weights(halves, 6) == weights(whole, 6)
    for key in ("loss", "eval_loss", "accuracies", "train_examples", "best"):
        assert result(halves)[key] == result(whole)[key]


def test_accumulation_sees_the_same_examples_as_the_big_batch(
    run_here: RunHere, tmp_path: Path
) -> None:
    # Two reader steps: before the first third's end nothing is drawn for a whole micro-batch.
    same = ("steps=3", "selector_steps=2")
    big = run_here(*same, "batch=4", folder=tmp_path / "big")
    small = run_here(*same, "batch=1", "accumulate=4", folder=tmp_path / "small")
    for one, other in zip(points(big), points(small), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
    assert result(big)["train_examples"] == result(small)["train_examples"]


def test_the_best_checkpoint_is_kept_beside_the_newest(
    run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ARR_COC.Training.examination import Examination

    accuracies = iter(
        [0.9, 0.2, 0.5, 0.1, 0.3]
    )  # steps 2 and 4 of the reader, 6, 8, 10 of the rest
    given: dict[int, float] = {}

    def accuracy_at(self: Examination, budget: float) -> float:
        if id(self) not in given:
            given[id(self)] = next(accuracies)
            kept.append(self)
        return given[id(self)]

    kept: list[Examination] = []  # so that no id is used twice
    monkeypatch.setattr(Examination, "accuracy_at", accuracy_at)
    more = ("steps=10", "selector_steps=5", "eval_every=2", "save_every=2", "keep_checkpoints=1")
    folder = run_here(*more)
    assert result(folder)["best"] == "checkpoints/step-00000006"
    assert result(folder)["checkpoint"] == "checkpoints/step-00000010"
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["best.json", "step-00000006", "step-00000010"]


def test_a_finished_run_is_only_examined_again(run_here: RunHere) -> None:
    folder = run_here()
    before = result(folder)
    run_here()
    after = result(folder)
    assert after["resumed_from"] == "checkpoints/step-00000006"
    assert (after["loss"], after["eval_loss"]) == (before["loss"], before["eval_loss"])


def test_the_selectors_steps_can_be_made_more_but_not_the_readers_after_them(
    run_here: RunHere, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_here()
    run_here("steps=7", "selector_steps=3")
    assert result(folder)["resumed_from"] == "checkpoints/step-00000006"
    assert train.main(assignments("steps=9"), environment) == 2
    assert "was made with reader_steps = 4, and this run says 7" in capsys.readouterr().err


def test_a_folder_with_another_run_in_it_is_refused(
    run_here: RunHere, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_here()
    assert train.main(assignments("seed=1"), environment) == 2
    assert "was made with seed = 0, and this run says 1" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_a_clear_error(
    tmp_path: Path, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    environment["ARR_RUN_DIR"] = str(tmp_path / "file/run")
    assert train.main(assignments(), environment) == 2
    assert "ARR_RUN_DIR: cannot write to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model=none.json", "none.json"),
        ("model=/nowhere/qwen", "/nowhere/qwen"),
        ("data=nowhere", "nowhere: is neither one of frames, forms"),
    ],
)
def test_a_model_or_data_that_is_not_there_is_a_clear_error(
    environment: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    setting: str,
    words: str,
) -> None:
    assert train.main(assignments(setting), environment) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("phase", ["reader", "selector"])
def test_divergence_ends_the_run_and_keeps_the_last_good_checkpoint(
    run_here: RunHere, environment: dict[str, str], capsys: pytest.CaptureFixture[str], phase: str
) -> None:
    key, more = {
        "reader": ("learning_rate", ("selector_steps=0",)),
        "selector": ("selector_learning_rate", ("selector_steps=1",)),
    }[phase]
    first = {"reader": ("steps=3",), "selector": ("steps=3",)}[phase]
    folder = run_here(*more, *first)
    longer = {"reader": ("steps=60",), "selector": ("steps=60", "selector_steps=58")}[phase]
    code = train.main(assignments(*more, *longer, f"{key}=1e30"), environment)
    said = capsys.readouterr().err
    assert code == 1
    assert "the training diverged at step" in said
    assert f"Try a {key} below 1e+30" in said
    assert not (folder / "result.json").exists()
    kept = json.loads(sorted(folder.glob("checkpoints/*/state.json"))[-1].read_text())
    assert kept["step"] < 60
    assert math.isfinite(kept["loss"])
    assert f"step-{kept['step']:08d}" in said
