"""Checkpoints: whole or not there, and enough to go on from."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from ARR_COC.Training import atomic, checkpoint, model
from ARR_COC.Training.checkpoint import Checkpoint
from ARR_COC.Training.settings import resolve

Writer = Callable[..., None]


@pytest.fixture
def parts() -> tuple[model.Reader, torch.optim.Optimizer]:
    reader = model.build(resolve(None, {}, []).settings.model_shape())
    return reader, torch.optim.AdamW(reader.parameters())


@pytest.fixture
def write(tmp_path: Path, parts: tuple) -> Writer:
    def save(*steps: int) -> None:
        for step in steps:
            checkpoint.save(Checkpoint(tmp_path, step, 1.5, {"seed": 0}), *parts, keep=2)

    return save


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_the_newest_two_are_kept(tmp_path: Path, write: Writer) -> None:
    write(1, 2, 10)
    assert names(tmp_path) == ["step-00000002", "step-00000010"]
    found, passed_over = checkpoint.latest(tmp_path)
    assert found == Checkpoint(tmp_path, 10, 1.5, {"seed": 0})
    assert passed_over == []


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) == (None, [])


@pytest.mark.parametrize("damage", ["model.safetensors", "progress.pt", "state.json"])
def test_a_half_written_one_is_passed_over_and_named(
    tmp_path: Path, write: Writer, damage: str
) -> None:
    write(1, 2)
    file = tmp_path / "checkpoints/step-00000002" / damage
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    found, passed_over = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert len(passed_over) == 1
    assert "step-00000002 is not complete" in passed_over[0]


def test_an_attempt_that_dies_before_the_end_is_never_visible(
    tmp_path: Path, write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(1)

    def die(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "publish", die)
        with pytest.raises(KeyboardInterrupt):
            write(2)
    assert ".step-00000002.tmp" in names(tmp_path)
    found, passed_over = checkpoint.latest(tmp_path)
    assert found is not None
    assert (found.step, passed_over) == (1, [])
    write(3)
    assert names(tmp_path) == ["step-00000001", "step-00000003"]


def test_one_step_can_be_written_twice(tmp_path: Path, write: Writer) -> None:
    write(1, 1)
    assert names(tmp_path) == ["step-00000001"]


def test_the_random_generators_go_on_where_they_were(
    tmp_path: Path, write: Writer, parts: tuple
) -> None:
    write(1)
    expected = (torch.rand(3).tolist(), np.random.random(3).tolist(), random.random())
    found, _ = checkpoint.latest(tmp_path)
    assert found is not None
    checkpoint.load_progress(found, parts[1])
    assert (torch.rand(3).tolist(), np.random.random(3).tolist(), random.random()) == expected


def test_the_weights_can_be_read_by_transformers_alone(
    tmp_path: Path, write: Writer, parts: tuple
) -> None:
    write(1)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "checkpoints/step-00000001", elsewhere)
    loaded = Qwen3VLForConditionalGeneration.from_pretrained(elsewhere)
    ours = parts[0].qwen.state_dict()
    assert loaded.state_dict().keys() == ours.keys()
    assert all((value == ours[name]).all() for name, value in loaded.state_dict().items())
