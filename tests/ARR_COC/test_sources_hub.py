"""Hugging Face data sets, made on this disk: the network is never asked."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what other packages deprecate while being imported
    import datasets

from ARR_COC.images import BadInput
from ARR_COC.Training.examples import Source
from ARR_COC.Training.sources import Part, open_source

VOTES = [["yes", "no", "no"], ["2", "2", "3"], ["red", "red", "red"]]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def rows(count: int) -> datasets.Dataset:
    """Return a data set like VQAv2: three people's answers to a question about each image."""
    columns = {
        "image": [
            Image.fromarray(np.full((40, 50, 3), 10 * number, np.uint8)) for number in range(count)
        ],
        "question": [f"what is it {number}" for number in range(count)],
        "answers": [
            [{"answer": vote, "answer_id": place} for place, vote in enumerate(VOTES[number % 3])]
            for number in range(count)
        ],
        "multiple_choice_answer": ["maybe"] * count,
    }
    made: datasets.Dataset = datasets.Dataset.from_dict(columns)
    return made.cast_column("image", datasets.Image())


def opened(name: Path | str, part: Part = "train", **options: Any) -> Source:
    return open_source("hub", part, {"name": str(name), "answer": "answers", **options})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    parts = datasets.DatasetDict({"train": rows(3), "val": rows(2)})
    parts.save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_saved_data_set_gives_images_questions_and_the_majority(saved: Path) -> None:
    source = opened(saved)
    assert source.size == 3
    for number, answer in enumerate(("no", "2", "red")):
        example = source.example(number)
        assert example.image.shape == (40, 50, 3)
        assert (example.image == 10 * number).all()
        question = example.questions[0]
        assert (question.text, question.answer) == (f"what is it {number}", answer)
    with pytest.raises(IndexError):
        source.example(3)
    assert opened(saved, "validation", validation_split="val").size == 2


def test_another_column_may_hold_the_answer(saved: Path) -> None:
    source = opened(saved, answer="multiple_choice_answer")
    assert source.example(0).questions[0].answer == "maybe"


def test_what_is_not_there_is_named_with_what_is(saved: Path) -> None:
    with pytest.raises(BadInput, match="no column 'reply' for the answer; there are image, quest"):
        opened(saved, answer="reply")
    with pytest.raises(BadInput, match="no split 'validation'; there are train, val"):
        opened(saved, "validation")


def test_parquet_files_are_a_data_set_too(tmp_path: Path) -> None:
    folder = tmp_path / "parquet"
    folder.mkdir()
    rows(3).to_parquet(folder / "train.parquet")
    source = opened(folder, cache=str(tmp_path / "cache"))
    assert source.size == 3
    assert (source.example(2).image == 20).all()
    with pytest.raises(BadInput, match=r"parquet \[validation\]: cannot be loaded .*'train'"):
        opened(folder, "validation", cache=str(tmp_path / "cache"))


def test_a_name_that_cannot_be_had_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"somebody/nothing .*check the name, the split and the net"):
        opened("somebody/nothing", cache=str(tmp_path))


def test_a_bad_row_is_named_when_it_is_read(tmp_path: Path) -> None:
    whole = rows(2)[0]["image"]
    whole.save(tmp_path / "a.png")
    made = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": (tmp_path / "a.png").read_bytes()}, {"bytes": b"hello"}, None],
            "question": [" ", "what", "what"],
            "answers": ["7", "7", "7"],
        }
    ).cast_column("image", datasets.Image())
    made.save_to_disk(tmp_path / "saved")
    source = opened(tmp_path / "saved")
    for row, words in enumerate(("question is empty", "not an image", "holds no image")):
        with pytest.raises(BadInput, match=rf"\[train\] row {row}: .*{words}"):
            source.example(row)
