"""Scenes made from real handwritten digits: nine coloured frames, one digit in each.

No frame stands out, so only the question says which one matters. A scene is a pure function of
(digits, seed, index): a run that resumes at step N sees the scenes it would have seen anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

from ARR_COC.Training.tokens import COLOURS

Part = Literal["train", "test"]

SIDE = 3  # cells a side
CELL = (
    32  # pixels a side: 16-pixel patches merged 2x2, so one cell is one token of the language model
)
CELLS = SIDE * SIDE
PIXELS = SIDE * CELL
FRAME = 3  # pixels
ZOOM = 3  # the digits are 8x8
TEST_SHARE = 0.2

COLOUR_NAMES = tuple(COLOURS)
_PALETTE = np.array(list(COLOURS.values()), dtype=np.uint8)
_SPLIT_SEED = 20  # fixed: the test digits are the same for every seed of a run
_STREAM = {"train": 0, "test": 1}


@dataclass(frozen=True, slots=True)
class Digits:
    """One part of load_digits: images [n, 8, 8] in 0..1, labels [n], ids [n] in the whole."""

    part: Part
    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scene:
    """One image and its questions.

    pixels [96, 96, 3] in 0..255; digits, colours (index in COLOUR_NAMES) and ids [9] by cell,
    row by row; asked [q], the cells asked for.
    """

    pixels: npt.NDArray[np.uint8]
    digits: npt.NDArray[np.int64]
    colours: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    asked: npt.NDArray[np.int64]

    def questions(self) -> list[tuple[str, int]]:
        """Return (colour name, digit) for each question, in order."""
        return [(COLOUR_NAMES[self.colours[cell]], int(self.digits[cell])) for cell in self.asked]


def load(part: Part) -> Digits:
    """Return the digits of one part. The parts share no digit instance; each class is split 80/20.

    The writers are not told apart in the data set, so a writer may be in both parts.
    """
    data = load_digits()
    rng = np.random.default_rng(_SPLIT_SEED)
    chosen: list[npt.NDArray[np.int64]] = []
    for label in range(10):
        ids = rng.permutation(np.flatnonzero(data.target == label))
        cut = round(len(ids) * TEST_SHARE)
        chosen.append(ids[:cut] if part == "test" else ids[cut:])
    kept = np.sort(np.concatenate(chosen))
    images = (data.images[kept] / 16.0).astype(np.float32)
    return Digits(part, images, data.target[kept].astype(np.int64), kept.astype(np.int64))


def make(digits: Digits, seed: int, index: int, questions: int) -> Scene:
    """Return scene number `index` of the stream `seed`, with 1..9 questions on different frames.

    The train and the test stream differ even for the same seed and index.
    """
    rng = np.random.default_rng([seed, _STREAM[digits.part], index])
    picked = rng.integers(len(digits.labels), size=CELLS)
    colours = rng.permutation(CELLS)
    asked = rng.permutation(CELLS)[:questions]
    shifts = rng.integers(-1, 2, size=(CELLS, 2))
    strength = rng.integers(150, 216, size=CELLS)
    cells = rng.integers(0, 40, size=(CELLS, CELL, CELL, 3), dtype=np.uint8)
    drawn = digits.images[picked] * strength[:, None, None]
    _draw(cells, drawn.astype(np.uint8), shifts, _PALETTE[colours])
    grid = cells.reshape(SIDE, SIDE, CELL, CELL, 3).transpose(0, 2, 1, 3, 4)
    return Scene(
        pixels=grid.reshape(PIXELS, PIXELS, 3),
        digits=digits.labels[picked],
        colours=colours,
        ids=digits.ids[picked],
        asked=asked,
    )


def _draw(
    cells: npt.NDArray[np.uint8],
    digits: npt.NDArray[np.uint8],
    shifts: npt.NDArray[np.int64],
    colours: npt.NDArray[np.uint8],
) -> None:
    """Paint frames and digits into the cells [9, 32, 32, 3] in place.

    digits [9, 8, 8] 0..215, shifts [9, 2] in pixels (down, right), colours [9, 3].
    """
    for edge in (np.s_[:, :FRAME], np.s_[:, -FRAME:], np.s_[:, :, :FRAME], np.s_[:, :, -FRAME:]):
        cells[edge] = colours[:, None, None]
    strokes = digits.repeat(ZOOM, axis=1).repeat(ZOOM, axis=2)
    size = strokes.shape[1]
    for cell, stroke, (down, right) in zip(
        cells, strokes, (CELL - size) // 2 + shifts, strict=True
    ):
        cell[down : down + size, right : right + size] += stroke[..., None]  # 39 + 215 fits a byte
