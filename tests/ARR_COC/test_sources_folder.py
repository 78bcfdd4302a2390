"""A folder of images and data.jsonl: what it gives, and what it says about mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ARR_COC.images import BadInput
from ARR_COC.processing import Processor
from ARR_COC.Training.collate import collate
from ARR_COC.Training.examples import Source
from ARR_COC.Training.sources import PARTS, Part, open_source

LINE = {"image": "a.png", "question": "what colour", "answer": "red"}


def save_image(file: Path, shade: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((64, 32, 3), shade, np.uint8)).save(file)


def write(folder: Path, *lines: dict[str, Any] | str, name: str = "data.jsonl") -> None:
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / name).write_text("\n".join(written) + "\n", encoding="utf-8")


def opened(folder: Path, part: Part = "train", share: float = 0.0) -> Source:
    return open_source("folder", part, {"path": str(folder), "validation_share": share})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_image(tmp_path / "a.png", 10)
    save_image(tmp_path / "in" / "b.png", 20)
    return tmp_path


def test_lines_about_one_image_are_one_example(folder: Path) -> None:
    write(
        folder,
        LINE,
        {"image": "in/b.png", "question": "how many", "answer": ["2", "3", "3"]},
        "",
        {**LINE, "image": "./a.png", "question": "where", "evidence": [[0, 32, 32, 64]]},
    )
    source = opened(folder)
    assert source.size == 2
    first, second = source.example(0), source.example(1)
    assert (first.image == 10).all()
    assert [question.text for question in first.questions] == ["what colour", "where"]
    assert first.questions[1].evidence == ((0, 32, 32, 64),)
    assert second.questions[0].answer == "3"
    batch = collate([first, second], Processor.tiny(["what"], 64))
    assert [blocks.tolist() for blocks in batch.evidence] == [[], [1], []]
    with pytest.raises(IndexError):
        source.example(2)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "is not JSON"),
        ("[1]", "must be an object"),
        ({"image": "a.png", "question": "x"}, "has no answer"),
        ({**LINE, "colour": 1}, "unknown key 'colour'"),
        ({**LINE, "image": "c.png"}, "there is no image c.png"),
        ({**LINE, "image": "in"}, "there is no image in"),
        ({**LINE, "image": "../a.png"}, "outside the folder"),
        ({**LINE, "image": "/etc/passwd"}, "outside the folder"),
        ({**LINE, "image": 3}, "image is 3: it must be text"),
        ({**LINE, "question": " "}, "question is empty"),
        ({**LINE, "answer": 7}, "answer is 7: it must be text"),
        ({**LINE, "answer": []}, "answer is an empty list"),
        ({**LINE, "evidence": [0, 0, 5, 5]}, "evidence is"),
        ({**LINE, "evidence": [[0, 0, 5.5, 5]]}, "evidence is"),
        ({**LINE, "split": "test"}, "train or validation"),
        ({**LINE, "split": ["train"]}, "train or validation"),
    ],
)
def test_a_mistake_is_named_with_its_line(
    folder: Path, line: dict[str, Any] | str, words: str
) -> None:
    write(folder, LINE, line)
    with pytest.raises(BadInput, match=f"data.jsonl line 2: .*{words}"):
        opened(folder)


def test_an_image_outside_is_refused_behind_a_link_too(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path.parent / "outside.png"
    save_image(outside)
    (folder / "link.png").symlink_to(outside)
    write(folder, {**LINE, "image": "link.png"})
    with pytest.raises(BadInput, match=r"line 1: image link.png is outside"):
        opened(folder)


def test_a_damaged_image_is_named_with_its_line_when_it_is_read(folder: Path) -> None:
    whole = (folder / "a.png").read_bytes()
    write(folder, {**LINE, "image": "in/b.png"}, LINE)
    source = opened(folder)
    (folder / "a.png").write_bytes(whole[: len(whole) // 2])
    assert source.example(0).image.shape == (64, 32, 3)
    with pytest.raises(BadInput, match=r"data.jsonl line 2: .*a.png: "):
        source.example(1)


def test_evidence_outside_its_image_is_named_with_its_line(folder: Path) -> None:
    write(folder, LINE, {**LINE, "evidence": [[0, 0, 33, 5]]})
    with pytest.raises(BadInput, match=r"line 2: evidence box .* leaves the image of 32 x 64"):
        opened(folder).example(0)


def test_folders_without_questions_say_so(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"has no data.jsonl"):
        opened(folder)
    write(folder, "", "")
    with pytest.raises(BadInput, match=r"data.jsonl: is empty"):
        opened(folder)
    (folder / "data.jsonl").write_bytes(b'{"image": "\xff"}')
    with pytest.raises(BadInput, match="is not UTF-8"):
        opened(folder)


def many(folder: Path, count: int) -> list[dict[str, Any]]:
    for number in range(count):
        save_image(folder / f"{number}.png", number)
    return [{**LINE, "image": f"{number}.png"} for number in range(count)]


def shades(source: Source) -> set[int]:
    return {int(source.example(index).image[0, 0, 0]) for index in range(source.size or 0)}


def test_the_hash_parts_images_for_good(folder: Path) -> None:
    lines = many(folder, 60)
    write(folder, *lines[:50])
    before = {part: shades(opened(folder, part, 0.3)) for part in PARTS}
    assert before["train"] | before["validation"] == set(range(50))
    assert not before["train"] & before["validation"]
    assert 5 <= len(before["validation"]) <= 25
    write(folder, *reversed(lines))
    after = {part: shades(opened(folder, part, 0.3)) for part in PARTS}
    assert all(before[part] <= after[part] for part in PARTS)
    with pytest.raises(BadInput, match="no image for validation among 60"):
        opened(folder, "validation", 0.0)


def test_split_keys_count_where_they_are(folder: Path) -> None:
    lines = many(folder, 4)
    marks = ["train", "validation", "train", "train"]
    write(folder, *({**line, "split": mark} for line, mark in zip(lines, marks, strict=True)))
    assert shades(opened(folder, "train", 0.9)) == {0, 2, 3}
    assert shades(opened(folder, "validation", 0.9)) == {1}
    write(folder, {**lines[0], "split": "train"}, lines[1])
    with pytest.raises(BadInput, match=r"line 2: has no split, but data.jsonl line 1 has"):
        opened(folder)
    write(folder, {**LINE, "split": "train"}, {**LINE, "split": "validation"})
    with pytest.raises(BadInput, match=r"line 2: a.png is in train and in validation"):
        opened(folder)


def test_files_of_their_own_are_the_parts(folder: Path) -> None:
    lines = many(folder, 3)
    write(folder, lines[0], lines[1], name="train.jsonl")
    with pytest.raises(BadInput, match="no image for validation"):
        opened(folder, "validation")
    write(folder, lines[2], name="validation.jsonl")
    assert shades(opened(folder, "train")) == {0, 1}
    assert shades(opened(folder, "validation")) == {2}
    write(folder, lines[1], name="validation.jsonl")
    with pytest.raises(BadInput, match=r"validation.jsonl line 1: 1.png is in train and in"):
        opened(folder, "train")
    write(folder, {**lines[2], "split": "train"}, name="validation.jsonl")
    with pytest.raises(BadInput, match=r"line 1: split is for data.jsonl"):
        opened(folder, "train")
    write(folder, lines[0])
    with pytest.raises(BadInput, match=r"has data.jsonl and train.jsonl"):
        opened(folder, "train")
