"""Opening a source by its kind, the shuffled stream, and one answer out of several."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ARR_COC.images import BadInput
from ARR_COC.Training.examples import Example, Question
from ARR_COC.Training.sources import Shuffled, open_source
from ARR_COC.Training.sources.answers import one_answer


class Numbered:
    """A source whose example i asks for i."""

    def __init__(self, size: int | None) -> None:
        self.size = size

    def example(self, index: int) -> Example:
        return Example(np.zeros((32, 32, 3), np.uint8), (Question("number", str(index)),))


def numbers(stream: Shuffled, indices: range) -> list[str]:
    return [stream.example(index).questions[0].answer for index in indices]


def test_every_epoch_holds_each_example_once_in_another_order() -> None:
    stream = Shuffled(Numbered(20), seed=3)
    epochs = [numbers(stream, range(20 * epoch, 20 * epoch + 20)) for epoch in range(3)]
    everything = sorted(str(number) for number in range(20))
    assert [sorted(epoch) for epoch in epochs] == [everything] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_resumed_stream_goes_on_as_it_would_have() -> None:
    whole = numbers(Shuffled(Numbered(7), seed=3), range(30))
    assert numbers(Shuffled(Numbered(7), seed=3), range(11, 30)) == whole[11:]
    assert numbers(Shuffled(Numbered(7), seed=4), range(30)) != whole


@pytest.mark.parametrize("size", [0, None])
def test_only_a_counted_source_is_shuffled(size: int | None) -> None:
    with pytest.raises(ValueError, match="known number"):
        Shuffled(Numbered(size), seed=0)
    with pytest.raises(IndexError):
        Shuffled(Numbered(2), seed=0).example(-1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (" red ", "red"),
        (["red", "blue", "blue"], "blue"),
        (["red", "blue"], "red"),
        ([{"answer": "a", "answer_id": 1}, {"answer": "b"}, {"answer": "b"}], "b"),
        ({"answer": ["a", "b", "b"], "answer_id": [1, 2, 3]}, "b"),
    ],
)
def test_the_answer_that_most_gave_counts(given: Any, expected: str) -> None:
    assert one_answer(given) == expected


@pytest.mark.parametrize("given", [7, None, "", "  ", [], [7], {"text": "a"}])
def test_what_is_no_answer_is_refused(given: Any) -> None:
    with pytest.raises(BadInput, match="answer"):
        one_answer(given)


def test_what_cannot_be_opened_names_what_there_is(tmp_path: Path) -> None:
    for kind, options, words in [
        ("bucket", {}, "no source 'bucket'; there are folder, hub"),
        ("folder", {"pth": "x"}, "no option 'pth'; the nearest is 'path'"),
        ("folder", {}, "give the option path"),
        ("folder", {"path": 7}, "path must be str, not 7"),
        ("folder", {"path": str(tmp_path), "validation_share": 1.5}, "below 1"),
        ("folder", {"path": str(tmp_path / "absent")}, "no such folder"),
        ("hub", {"name": "x", "revision": 3}, "revision must be"),
    ]:
        with pytest.raises(BadInput, match=words):
            open_source(kind, "train", options)


def test_the_library_of_data_sets_is_loaded_only_when_asked_for() -> None:
    code = "import sys, ARR_COC.Training.sources; assert 'datasets' not in sys.modules"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
