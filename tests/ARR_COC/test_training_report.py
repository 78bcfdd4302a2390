"""The report: its files, what a reader of the card is told, and what is left out."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_arr
import torch
import transformers
from PIL import Image
from small_arr import learnt

from ARR_COC.Training import report
from ARR_COC.Training.evaluate import Examination, examine

SETTINGS = {"model": "/home/someone/tiny.json", "data": "coloured blocks", "steps": 40}
HISTORY = [{"step": 20, "accuracy": 0.5}, {"step": 40, "accuracy": 0.75}]


def written(folder: Path, found: Examination | None = None, **options: Any) -> list[str]:
    """Write a report and return the names of its files."""
    arr, processor, source = learnt()
    found = found or examine(arr, processor, source, 8, [1, 0.5, 0.2], "cpu")
    files = report.write(folder, arr, processor, source, found, SETTINGS, HISTORY, **options)
    assert all(file.is_file() for file in files)
    return [file.relative_to(folder).as_posix() for file in files]


def test_a_report_has_figures_a_plot_pictures_and_a_card(tmp_path: Path) -> None:
    names = written(tmp_path / "report", environment={"ARR_COMMIT": "abc123"})
    assert names == [
        "metrics.json",
        "accuracy-against-budget.png",
        *(f"kept/{number}.png" for number in range(1, 7)),
        "README.md",
    ]
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    arr, processor, source = learnt()
    found = examine(arr, processor, source, 8, [1, 0.5, 0.2], "cpu")
    assert metrics["examination"] == found.as_dict()
    assert metrics["history"] == HISTORY
    assert metrics["settings"]["steps"] == 40
    assert metrics["commit"] == "abc123"
    assert metrics["versions"]["torch"] == torch.__version__
    assert metrics["versions"]["transformers"] == transformers.__version__


def test_the_card_tells_results_use_and_limits_and_no_path(tmp_path: Path) -> None:
    names = written(tmp_path, environment={})
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\n")
    arr, processor, source = learnt()
    found = examine(arr, processor, source, 8, [1, 0.5, 0.2], "cpu")
    for budget in found.budgets:
        assert f"| {found.tokens_at(budget)} | {100 * found.kept_share_at(budget):.1f} % |" in card
        assert f"| {100 * found.accuracy_at(budget):.1f} % |" in card
    assert "16 questions about 8 images of coloured blocks" in card
    assert "python -m ARR_COC 'which colour' image.png --checkpoint FOLDER --budget 0.2" in card
    assert "## Limits" in card
    assert "| steps | 40 |" in card
    assert "tiny.json" in card
    assert "/home" not in card
    assert all(f"({name})" in card for name in names if name.endswith(".png"))


@pytest.mark.parametrize(
    ("model", "named"),
    [("Qwen/Qwen3-VL-2B-Instruct", True), ("tiny.json", False), ("./some/folder", False)],
)
def test_the_card_names_a_base_of_the_hub_only(tmp_path: Path, model: str, named: bool) -> None:
    arr, processor, source = learnt()
    found = examine(arr, processor, source, 2, [1], "cpu")
    report.write(tmp_path, arr, processor, source, found, {"model": model}, [])
    assert (f"base_model: {model}\n" in (tmp_path / "README.md").read_text()) == named


def test_pictures_show_kept_blocks_bright(tmp_path: Path) -> None:
    written(tmp_path)
    _, _, source = learnt()
    drawn = np.asarray(Image.open(tmp_path / "kept" / "2.png")).astype(int)
    image = source.example(1).image
    times = 480 // image.shape[0]
    middles = 12 + times * 16 + np.arange(3) * 32 * times
    view = drawn[np.ix_(middles, middles)]
    whole = image[16::32, 16::32].astype(int)
    bright = (view == whole).all(axis=-1)
    assert bright.sum() == 2  # 0.2 of 9 blocks
    assert (view[~bright] <= whole[~bright] / 3).all()


def test_without_matplotlib_all_but_the_plot_is_there_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert report.PLOT in written(tmp_path)
    for name in [*sys.modules, "matplotlib"]:
        if name.partition(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)
    with caplog.at_level(logging.WARNING):
        names = written(tmp_path)
    assert names == ["metrics.json", *(f"kept/{n}.png" for n in range(1, 7)), "README.md"]
    assert not (tmp_path / report.PLOT).exists()
    assert "pip install matplotlib" in caplog.text
    assert "matplotlib was not installed" in (tmp_path / "README.md").read_text()


def test_a_second_report_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    written(tmp_path)
    arr, processor, source = learnt()
    names = written(tmp_path, examine(arr, processor, source, 2, [1, 0.5], "cpu"))
    assert [name for name in names if name.startswith("kept/")] == ["kept/1.png", "kept/2.png"]
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_a_reader_without_a_selector_has_a_report_too(tmp_path: Path) -> None:
    arr, processor = small_arr.build(selector=False)
    source = small_arr.pictures(3)
    found = examine(arr, processor, source, 3, [1, 0.5], "cpu")
    files = report.write(tmp_path, arr, processor, source, found, {}, [])
    assert [file.name for file in files] == ["metrics.json", report.PLOT, "README.md"]
    card = (tmp_path / "README.md").read_text()
    assert "no selector" in card
    assert "--all" in card
    assert "not above always giving the same answer" in card


def test_the_model_comes_back_as_it_was(tmp_path: Path) -> None:
    arr, _, _ = learnt()
    assert arr.selector is not None
    arr.selector.train()
    modes = [part.training for part in arr.modules()]
    written(tmp_path)
    assert [part.training for part in arr.modules()] == modes
    arr.eval()
