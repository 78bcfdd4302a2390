"""What the benchmark of selection's cost says, on a model that is small enough to run here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import relevance_cost
import torch
from forward_costs import counting, stages
from qwen_shapes import DEPTHS, SHAPES, WORDS, Sample, model, sample
from transformers import Qwen3VLForConditionalGeneration

from ARR_COC.realizing import ArrCoc

SMALL = SHAPES["small"]
KEPT = [torch.tensor([0, 5, 11])]


@pytest.fixture(scope="module")
def shown() -> tuple[ArrCoc, Sample]:
    arr = model(SMALL, DEPTHS[0])
    return arr, sample(arr, 4, 4)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(relevance_cost.__file__), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_command_prints_and_writes_every_arm(tmp_path: Path) -> None:
    file = tmp_path / "cost.json"
    arguments = ["--shape", "small", "--pixels", "128", "--budget", "0.25", "--rounds", "1"]
    done = run(*arguments, "--json", str(file))
    assert done.returncode == 0, done.stderr
    said = json.loads(file.read_text("utf-8"))
    rows = {row["arm"]: row for row in said["rows"]}
    assert {
        arm: (row["tower_tokens"], row["language_tokens"] - WORDS - 2) for arm, row in rows.items()
    } == {
        "full": (16, 16),
        "ours, before the tower": (4, 4),
        "ours, after the tower": (16, 4),
        "downsampled": (4, 4),
    }
    for arm, row in rows.items():
        line = next(line for line in done.stdout.splitlines() if line.startswith(arm))
        assert f"{row['seconds']:.3f}" in line
        parts = row["select_s"] + row["tower_s"] + row["language_s"]
        assert row["seconds"] == pytest.approx(parts)
        assert row["faster"] == pytest.approx(rows["full"]["seconds"] / row["seconds"])
        assert min(row["tower_s"], row["language_s"], row["flops"]) > 0
        assert row["memory_bytes"] >= 0
        assert (row["select_s"] > 0.001) == arm.startswith("ours")
    assert all(seconds > 0 for seconds in said["selector_s"].values())
    for goal in said["goals"]:
        verdict = "reached" if goal["reached"] else "missed"
        assert f"{goal['goal']}: {goal['said']} {verdict}" in done.stdout
    assert len(said["goals"]) == 2
    assert said["machine"]["dtype"] in ("bfloat16", "float32")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--pixels", "100"], "--pixels"),
        (["--budget", "0"], "--budget"),
        (["--rounds", "0"], "--rounds"),
    ],
)
def test_values_that_cannot_be_are_refused(
    arguments: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["relevance_cost.py", "--shape", "small", *arguments])
    with pytest.raises(SystemExit, match="2"):
        relevance_cost.main()
    assert named in capsys.readouterr().err.splitlines()[-1]


def test_the_extrapolated_flops_are_those_of_the_real_depth(shown: tuple[ArrCoc, Sample]) -> None:
    _, batch = shown
    measured = {}
    for depth in DEPTHS:
        with counting() as counter:
            measured[depth], _, _ = stages(model(SMALL, depth), batch, counter.get_total_flops)
    config: Any = SMALL.config(DEPTHS[0])
    config.vision_config.depth = SMALL.vision_layers
    config.vision_config.deepstack_visual_indexes = [1, 3, 5]
    config.text_config.num_hidden_layers = SMALL.text_layers
    real = ArrCoc(Qwen3VLForConditionalGeneration(config)).eval()
    total = sum(relevance_cost.whole(measured, SMALL).values())
    assert total == relevance_cost.flops(real, batch)


def test_flops_hold_the_attention() -> None:
    query, key = torch.rand(2, 3, 5, 8), torch.rand(2, 3, 7, 8)
    with torch.no_grad(), counting() as counter:
        torch.nn.functional.scaled_dot_product_attention(query, key, key)
    assert counter.get_total_flops() == 2 * (2 * 3 * 5 * 7 * 8) * 2


def test_flops_fall_with_the_blocks_that_are_kept(shown: tuple[ArrCoc, Sample]) -> None:
    arr, batch = shown
    full = relevance_cost.flops(arr, batch)
    before = relevance_cost.flops(arr, batch, KEPT)
    after = relevance_cost.flops(arr, batch, KEPT, "after")
    assert before < full / 2
    assert before < after < full
    assert relevance_cost.flops(arr, batch, [torch.arange(16)]) == full


def test_flops_are_those_of_one_row(shown: tuple[ArrCoc, Sample]) -> None:
    arr, batch = shown
    twice = replace(
        batch,
        input_ids=batch.input_ids.repeat(2, 1),
        attention_mask=batch.attention_mask.repeat(2, 1),
        query_mask=batch.query_mask.repeat(2, 1),
        images=torch.tensor([0, 0]),
    )
    assert relevance_cost.flops(arr, twice, KEPT * 2) == relevance_cost.flops(arr, batch, KEPT)
    assert relevance_cost.flops(arr, twice) < relevance_cost.flops(arr, batch)
