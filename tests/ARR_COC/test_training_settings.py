"""Settings: where a value comes from, and what a person is told who mistyped one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from training_runs import ROOT

from ARR_COC.Training.settings import SettingsError, resolve


def refused(
    config: Path | None = None, environment: dict[str, str] | None = None, *sets: str
) -> str:
    with pytest.raises(SettingsError) as caught:
        resolve(config, environment or {}, sets)
    return str(caught.value)


def test_a_later_source_wins(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("steps = 11\nbatch = 12\nseed = 13\n")
    environment = {"ARR_TRAIN_BATCH": "22", "ARR_TRAIN_SEED": "23", "OTHER": "x"}
    resolved = resolve(file, environment, ["seed=33"])
    settings = resolved.settings
    assert (settings.steps, settings.batch, settings.seed) == (11, 22, 33)
    assert settings.questions == resolve(None, {}, []).settings.questions
    assert resolved.sources["batch"] == "environment ARR_TRAIN_BATCH"
    assert any("seed = 33" in line and "--set" in line for line in resolved.lines())


def test_a_whole_number_is_a_number_but_not_the_other_way_round(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("weight_decay = 1\n")
    assert resolve(file, {}, ["clip=2"]).settings.clip == 2.0
    assert resolve(file, {}, []).settings.weight_decay == 1.0
    assert "steps must be a whole number, not '2.5'" in refused(None, {}, "steps=2.5")


def test_an_unknown_setting_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("learningrate = 0.1\n")
    assert "nearest is 'learning_rate'" in refused(file)
    assert str(file) in refused(file)
    message = refused(None, {"ARR_TRAIN_STPES": "3"})
    assert "ARR_TRAIN_STPES" in message
    assert "nearest is 'steps'" in message
    assert "nearest is 'seed'" in refused(None, {}, "sede=1")


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("steps=many", "steps must be a whole number, not 'many'"),
        ("steps=true", "steps must be a whole number"),
        ("steps=0", "steps must be at least 1"),
        ("questions=65", "questions must be at most 64"),
        ("learning_rate=nan", "learning_rate must be a number"),
        ("learning_rate=-1", "learning_rate must be at least 0"),
        ("mixed_precision=fp8", "must be one of no, bf16, auto"),
        ("budget=0", "budget must be at least"),
        ("budget=1.5", "budget must be at most 1"),
        ("gradient_checkpointing=1", "gradient_checkpointing must be true or false"),
        ("train=both", "must be one of full, lora, selector"),
        ("steps", "write it as key=value"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_source(assignment: str, words: str) -> None:
    message = refused(None, {}, assignment)
    assert words in message
    assert f"--set {assignment}" in message


@pytest.mark.parametrize("text", ['steps = "20"', "steps = true", "steps = 2.0", "steps ="])
def test_a_file_is_as_strict(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    assert str(file) in refused(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "none.toml" in refused(tmp_path / "none.toml")


def test_a_mistake_is_told_at_once_without_a_traceback(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "ARR_COC/Training/train.py", "--set", "stpes=3"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 2
    assert len(said) == 1
    assert "nearest is 'steps'" in said[0]
    assert "| torch" not in done.stderr  # it takes seconds to import
    assert not Path(environment["ARR_RUN_DIR"]).exists()


def test_true_and_false_are_read() -> None:
    assert resolve(None, {}, ["gradient_checkpointing=true"]).settings.gradient_checkpointing
    assert not resolve(None, {}, ["gradient_checkpointing=False"]).settings.gradient_checkpointing


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["steps=3", "selector_steps=4"], "they are part of the 3 steps"),
        (["min_pixels=4096", "max_pixels=2048"], "min_pixels 4096 is above max_pixels"),
        (["train=selector", "selector_steps=3"], "set selector_steps=850"),
        (["train=lora"], "train=lora adapts a trained model"),
        (["balance=perspectival"], "has nothing to learn"),
        (["model=none.json"], "model: cannot read"),
    ],
)
def test_values_that_do_not_fit_one_another_are_refused(sets: list[str], words: str) -> None:
    settings = resolve(None, {}, ["steps=850", *sets]).settings
    with pytest.raises(SettingsError, match=words):
        settings.check()


def test_the_defaults_fit_one_another() -> None:
    resolve(None, {}, []).settings.check()
