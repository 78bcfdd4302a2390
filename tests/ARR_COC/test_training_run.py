"""A whole run in this process: what it leaves behind, how it goes on, how it fails."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import pytest
from training_runs import assignments, points, result

from ARR_COC.Training import train

RunHere = Callable[..., Path]


def test_a_run_leaves_its_result_settings_metrics_and_checkpoints(
    run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_here("seed=4")
    found = result(folder)
    assert {key: type(value) for key, value in found.items()} == {
        "steps": int,
        "loss": float,
        "eval_loss": float,
        "accuracy": float,
        "chance": float,
        "best_constant": float,
        "query_blind": float,
        "train_examples": int,
        "eval_examples": int,
        "seconds": float,
        "checkpoint": str,
        "resumed_from": type(None),
        "seed": int,
    }
    assert (found["steps"], found["seed"], found["chance"]) == (6, 4, 0.1)
    assert (found["train_examples"], found["eval_examples"]) == (6 * 2 * 3, 2 * 9)
    assert (folder / found["checkpoint"] / "model.safetensors").is_file()
    assert json.loads((folder / "settings.json").read_text())["seed"] == 4
    assert [point["step"] for point in points(folder)] == [1, 2, 3, 4, 5, 6]
    assert points(folder)[-1]["loss"] == found["loss"]
    said = capsys.readouterr().out
    assert "  seed = 4   (--set)" in said
    assert "step 6/6  loss " in said
    assert "chance 10.0%: " in said
    assert not list(folder.rglob("*.tmp"))


def test_the_loss_falls(run_here: RunHere) -> None:
    folder = run_here("steps=40", "batch=4", "questions=9", "save_every=40")
    losses = [point["loss"] for point in points(folder)]
    assert mean(losses[-5:]) < mean(losses[:5]) - 0.5


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
    assert "going on from checkpoints/step-00000003" in said
    assert result(halves)["resumed_from"] == "checkpoints/step-00000003"
    assert points(halves) == points(whole)
    same = "checkpoints/step-00000006/model.safetensors"
    assert (halves / same).read_bytes() == (whole / same).read_bytes()
    for key in ("loss", "eval_loss", "accuracy", "train_examples"):
        assert result(halves)[key] == result(whole)[key]


def test_accumulation_sees_the_same_scenes_as_the_big_batch(
    run_here: RunHere, tmp_path: Path
) -> None:
    big = run_here("batch=4", folder=tmp_path / "big")
    small = run_here("batch=1", "accumulate=4", folder=tmp_path / "small")
    for one, other in zip(points(big), points(small), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
    assert result(big)["train_examples"] == result(small)["train_examples"]


def test_a_finished_run_is_only_examined_again(run_here: RunHere) -> None:
    folder = run_here()
    before = result(folder)
    run_here()
    after = result(folder)
    assert after["resumed_from"] == "checkpoints/step-00000006"
    assert (after["loss"], after["eval_loss"]) == (before["loss"], before["eval_loss"])


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


def test_a_model_file_that_is_not_there_is_a_clear_error(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(assignments("model=none.json"), environment) == 2
    assert "none.json" in capsys.readouterr().err


def test_divergence_ends_the_run_and_keeps_the_last_good_checkpoint(
    run_here: RunHere, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_here("steps=3")
    code = train.main(assignments("steps=60", "learning_rate=1e30"), environment)
    said = capsys.readouterr().err
    assert code == 1
    assert "the training diverged at step" in said
    assert "learning_rate" in said
    assert not (folder / "result.json").exists()
    assert not (folder / f"checkpoints/step-{60:08d}").exists()
    kept = json.loads(sorted(folder.glob("checkpoints/*/state.json"))[-1].read_text())
    assert math.isfinite(kept["loss"])
    assert f"step-{kept['step']:08d}" in said
