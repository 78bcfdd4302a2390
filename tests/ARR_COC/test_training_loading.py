"""Loading a trained model by the name of a checkpoint, a run or an address."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
import torch
from training_runs import assignments, forget_accelerate

from ARR_COC.loading import LoadError, load
from ARR_COC.Training import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints of steps 3 (the best) and 6."""
    folder = tmp_path_factory.mktemp("loading") / "run"
    environment = {"ARR_RUN_DIR": str(folder), "WANDB_MODE": "disabled"}
    more = ("steps=6", "selector_steps=4", "keep_checkpoints=9")
    assert train.main(assignments(*more), environment) == 0
    forget_accelerate()
    best = {"selecting": True, "accuracy": 1.0, "step": 3, "checkpoint": "step-00000003"}
    (folder / "checkpoints/best.json").write_text(json.dumps(best))
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def glimpse(name: str | Path) -> torch.Tensor:
    selector = load(name)[0].selector
    assert selector is not None
    return selector.state_dict()["participation.glimpse.weight"]


def test_a_run_means_its_best_checkpoint_and_else_the_newest(copy: Path) -> None:
    third = glimpse(copy / "checkpoints/step-00000003")
    sixth = glimpse(copy / "checkpoints/step-00000006")
    assert not torch.equal(third, sixth)
    for name in (copy, copy / "checkpoints", str(copy)):
        assert torch.equal(glimpse(name), third)
    (copy / "checkpoints/best.json").unlink()
    assert torch.equal(glimpse(copy), sixth)
    (copy / "checkpoints/step-00000006/state.json").unlink()
    assert torch.equal(glimpse(copy), third)


def test_it_answers_as_the_one_that_was_saved(run: Path) -> None:
    arr, processor = load(run, "cpu")
    assert not arr.training
    assert processor.decode(processor.answer("7")) == "7"
    assert arr.qwen.generation_config.eos_token_id == processor.special.eos


def test_an_address_is_downloaded_without_what_only_training_needs(copy: Path) -> None:
    system = fsspec.filesystem("memory")
    system.put(str(copy), "/bucket/loading", recursive=True)
    for file in system.glob("/bucket/loading/checkpoints/step-*/progress.pt"):
        system.rm_file(file)
    assert torch.equal(glimpse("memory://bucket/loading"), glimpse(copy))


def damaged(copy: Path, damage: Callable[[Path], object]) -> str:
    folder = copy / "checkpoints/step-00000006"
    damage(folder)
    with pytest.raises(LoadError) as caught:
        load(folder)
    return str(caught.value)


def test_one_that_is_half_written_is_refused(copy: Path) -> None:
    file = "model.safetensors"
    words = damaged(copy, lambda folder: (folder / file).write_bytes(b"x"))
    assert "half written: model.safetensors has 1 of" in words
    words = damaged(copy, lambda folder: (folder / file).unlink())
    assert "half written: model.safetensors is missing" in words
    words = damaged(copy, lambda folder: (folder / "state.json").unlink())
    assert "half written: state.json is missing" in words


def test_one_of_another_transformers_is_refused(copy: Path) -> None:
    def older(folder: Path) -> None:
        state = json.loads((folder / "state.json").read_text())
        (folder / "state.json").write_text(json.dumps({**state, "transformers": "4.57.1"}))

    assert "was written with transformers 4.57.1, and only 5.23.0 is read" in damaged(copy, older)


def test_weights_that_cannot_be_read_are_refused(copy: Path) -> None:
    def scrambled(folder: Path) -> None:
        file = folder / "selector/selector.safetensors"
        file.write_bytes(b"\xff" * file.stat().st_size)

    assert "holds no selector that can be read" in damaged(copy, scrambled)


@pytest.mark.parametrize("name", ["", "nowhere/model", "memory://nowhere/run", "nowhere://x"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LoadError):
        load(name or tmp_path)
