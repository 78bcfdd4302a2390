"""Scenes: the same for the same index, honest about where the answer is, and split by digit."""

from __future__ import annotations

import numpy as np
import pytest

from ARR_COC.Training import scenes
from ARR_COC.Training.tokens import COLOURS


def test_train_and_test_share_no_digit_and_lose_none() -> None:
    train, test = scenes.load("train"), scenes.load("test")
    assert not set(train.ids) & set(test.ids)
    assert len(train.ids) + len(test.ids) == 1797
    assert set(test.labels) == set(range(10))


def test_scenes_use_digits_of_their_own_part_only() -> None:
    for part in ("train", "test"):
        digits = scenes.load(part)
        seen = {int(i) for n in range(50) for i in scenes.make(digits, 0, n, 9).ids}
        assert seen <= set(digits.ids.tolist())


def test_a_scene_depends_on_seed_index_and_part_alone() -> None:
    digits, test = scenes.load("train"), scenes.load("test")
    first = scenes.make(digits, 3, 7, 6)
    np.random.random(5)
    scenes.make(digits, 3, 8, 6)
    again = scenes.make(digits, 3, 7, 6)
    assert (first.pixels == again.pixels).all()
    assert first.questions() == again.questions()
    for other in (scenes.make(digits, 3, 8, 6), scenes.make(digits, 4, 7, 6)):
        assert (first.pixels != other.pixels).any()
    assert (first.colours != scenes.make(test, 3, 7, 6).colours).any()


@pytest.mark.parametrize("index", range(5))
def test_the_answer_is_the_digit_that_can_be_seen_in_the_frame_of_the_asked_colour(
    index: int,
) -> None:
    digits = scenes.load("train")
    scene = scenes.make(digits, 0, index, 9)
    questions = scene.questions()
    assert len({colour for colour, _ in questions}) == 9
    for colour, answer in questions:
        corner_matches = [
            cell
            for cell in range(9)
            if tuple(cell_pixels(scene.pixels, cell)[0, 0]) == COLOURS[colour]
        ]
        assert len(corner_matches) == 1
        inside = cell_pixels(scene.pixels, corner_matches[0])[3:-3, 3:-3].astype(float).mean(-1)
        assert answer == seen_digit(inside, digits)


def cell_pixels(pixels: np.ndarray, cell: int) -> np.ndarray:
    row, column = divmod(cell, 3)
    return pixels[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]


def seen_digit(inside: np.ndarray, digits: scenes.Digits) -> int:
    """Return the label of the digit image that the inside of a cell is most like."""
    templates = standardised(digits.images.repeat(3, axis=1).repeat(3, axis=2))
    windows = np.lib.stride_tricks.sliding_window_view(inside, (24, 24))
    likeness = templates @ standardised(windows.reshape(-1, 24, 24)).T
    return int(digits.labels[likeness.max(axis=1).argmax()])


def standardised(images: np.ndarray) -> np.ndarray:
    rows = images.reshape(len(images), -1)
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)
