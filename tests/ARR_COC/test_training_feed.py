"""What a run learns from: the data that settings name, as the same micro-batches every time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from training_runs import points, result

from ARR_COC.Training.feed import Feed
from ARR_COC.Training.settings import SettingsError, resolve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six red and blue pictures with four questions each, two of the pictures for validation."""
    place = tmp_path / "pictures"
    place.mkdir()
    lines = []
    for number in range(6):
        colour = ("red", "blue")[number % 2]
        Image.new("RGB", (70, 60), colour).save(place / f"{number}.png")
        for asked in range(4):
            line = {"image": f"{number}.png", "question": f"colour {asked}", "answer": colour}
            lines.append({**line, "split": "validation" if number > 3 else "train"})
    (place / "data.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return place


def test_an_epoch_shows_every_picture_once_with_as_many_questions_as_wanted(folder: Path) -> None:
    feed = Feed.open(resolve(None, {}, [f"data={folder}", "questions=3"]).settings)
    epochs = [[feed.train.example(index) for index in range(n, n + 4)] for n in (0, 4, 8)]
    for epoch in epochs:
        assert [len(example.questions) for example in epoch] == [3] * 4
        assert sum(int(example.image[0, 0, 0]) > 0 for example in epoch) == 2
    asked = [tuple(q.text for q in e.questions) for epoch in epochs for e in epoch]
    assert len(set(asked)) > 1
    again = Feed.open(resolve(None, {}, [f"data={folder}", "questions=3"]).settings)
    assert asked[5] == tuple(q.text for q in again.train.example(5).questions)
    assert feed.examined.size == 2
    assert len(feed.examined.example(0).questions) == 4


def test_a_run_learns_from_a_folder(folder: Path, run_here: Callable[..., Path]) -> None:
    run = run_here(f"data={folder}", "questions=4", "eval_examples=9")
    found = result(run)
    assert found["chance"] is None
    assert found["best_constant"] == 0.5
    assert (found["train_examples"], found["eval_examples"]) == (6 * 2 * 4, 8)
    assert points(run)[3]["loss"] < points(run)[0]["loss"]


@pytest.mark.parametrize("data", ["nowhere", "hub:nowhere/at-all", "/"])
def test_data_that_cannot_be_had_are_refused_by_name(data: str) -> None:
    with pytest.raises(SettingsError, match=f"data={data}"):
        Feed.open(resolve(None, {}, [f"data={data}"]).settings)
