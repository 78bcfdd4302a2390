"""Pretrained readers: what of them is trained, what a checkpoint holds, and that it comes back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_runs import assignments, forget_accelerate, points, result, weights

from ARR_COC.loading import LoadError, load, opened
from ARR_COC.Training import train
from ARR_COC.Training.collate import collate
from ARR_COC.Training.tasks import source

RunHere = Callable[..., Path]
LORA = ("train=lora", "lora_rank=3", "learning_rate=0.01")


@pytest.fixture
def trained(run_here: RunHere, tmp_path: Path) -> Path:
    """A checkpoint of ARR-COC with all weights in it."""
    return run_here(folder=tmp_path / "trained") / "checkpoints/step-00000006"


@pytest.fixture
def qwen(trained: Path, tmp_path: Path) -> Path:
    """The folder of a stock Qwen3-VL."""
    folder = tmp_path / "qwen"
    others = shutil.ignore_patterns("state.json", "selector", "*.pt")
    shutil.copytree(trained, folder, ignore=others)
    return folder


def logits(name: Path) -> torch.Tensor:
    arr, processor = load(name)
    batch = collate([source("frames", "test", 0, 3).example(0)], processor)
    arguments = (batch.input_ids, batch.attention_mask, batch.pixel_values, batch.image_grid_thw)
    with torch.no_grad():
        return arr(*arguments, images=batch.images).logits


def test_lora_trains_only_adapters_and_the_base_is_named_not_copied(
    qwen: Path, run_here: RunHere
) -> None:
    folder = run_here(*LORA, f"model={qwen}")
    last = folder / "checkpoints/step-00000006"
    assert not (last / "model.safetensors").exists()
    adapter = load_file(last / "adapter/adapter_model.safetensors")
    # 3 layers, 4 projections, two matrices each, and nothing of the vision tower
    assert len(adapter) == 3 * 4 * 2
    assert all("language_model" in name and "self_attn" in name for name in adapter)
    assert json.loads((last / "state.json").read_text())["base"]["name"] == str(qwen)
    changed = (logits(last) - logits(qwen)).abs().max()
    assert changed > 1e-2


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own
def test_pefts_own_loader_reads_the_adapter(qwen: Path, run_here: RunHere) -> None:
    from peft import PeftModel
    from transformers import Qwen3VLForConditionalGeneration

    last = run_here(*LORA, f"model={qwen}") / "checkpoints/step-00000006"
    stock = Qwen3VLForConditionalGeneration.from_pretrained(qwen)
    adapted = PeftModel.from_pretrained(stock, str(last / "adapter"))
    ours = load_file(last / "adapter/adapter_model.safetensors")
    theirs = {name.replace(".default", ""): value for name, value in adapted.state_dict().items()}
    assert all(torch.equal(theirs[name], value) for name, value in ours.items())


@pytest.mark.parametrize("how", [LORA, ("train=full", "gradient_checkpointing=true")])
def test_a_pretrained_run_goes_on_to_the_same_end(
    how: tuple[str, ...], qwen: Path, run_here: RunHere, tmp_path: Path
) -> None:
    more = (*how, f"model={qwen}")
    whole = run_here(*more, folder=tmp_path / "whole")
    halves = run_here(*more)
    for step in (4, 6):
        (halves / f"checkpoints/step-0000000{step}/state.json").unlink(missing_ok=True)
    shutil.copytree(halves / "checkpoints", tmp_path / "kept")
    run_here(*more)
    assert points(halves) == points(whole)
    assert weights(halves, 6) == weights(whole, 6)


def test_selector_only_leaves_the_reader_alone(qwen: Path, run_here: RunHere) -> None:
    more = ("train=selector", "steps=3", "selector_steps=3", f"model={qwen}")
    folder = run_here(*more)
    assert list(weights(folder, 3)) == ["selector/selector.safetensors"]
    assert torch.equal(logits(folder), logits(qwen))
    assert result(folder)["loss"] is None
    assert [point["phase"] for point in points(folder)] == ["selector"] * 3


def test_a_checkpoint_can_be_trained_further_with_its_own_selector(
    trained: Path,
    run_here: RunHere,
    environment: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = ("train=selector", "steps=1", "selector_steps=1", f"model={trained}")
    folder = run_here(*more, "selector_learning_rate=0", "weight_decay=0")
    name = "selector/selector.safetensors"
    assert weights(folder, 1)[name] == (trained / name).read_bytes()
    environment["ARR_RUN_DIR"] += "2"
    assert train.main(assignments(*more, "selector_width=8"), environment) == 2
    assert "its selector has selector_width=32" in capsys.readouterr().err


def test_a_base_that_is_gone_is_told(qwen: Path, run_here: RunHere, tmp_path: Path) -> None:
    folder = run_here(*LORA, f"model={qwen}", "selector_steps=0", "steps=1")
    qwen.rename(tmp_path / "moved")
    with pytest.raises(LoadError, match="there is no such folder"):
        load(folder)


def test_a_reader_that_is_not_trained_is_kept_in_the_precision_of_the_run(
    qwen: Path, run_here: RunHere
) -> None:
    folder = run_here(*LORA, f"model={qwen}", "mixed_precision=bf16")
    assert all(value["loss"] == value["loss"] for value in points(folder))
    saved = load_file(folder / "checkpoints/step-00000006/adapter/adapter_model.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.float32}


def test_opened_gives_a_stock_model_without_a_selector(qwen: Path) -> None:
    arr, _ = opened(qwen, None, dtype=torch.float32, attention="eager")
    assert arr.selector is None
    assert arr.qwen.config.text_config._attn_implementation == "eager"
    forget_accelerate()
