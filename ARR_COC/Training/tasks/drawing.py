"""What several tasks draw: the block that is one token, colours with names, frames, digits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BLOCK = 32  # pixels a side: 16-pixel patches merged 2x2
FRAME = 3  # pixels
ZOOM = 3  # the digits are 8x8

Pixels = npt.NDArray[np.uint8]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "green": (30, 160, 40),
    "blue": (40, 70, 230),
    "yellow": (240, 220, 40),
    "cyan": (40, 210, 220),
    "magenta": (230, 50, 210),
    "orange": (245, 140, 20),
    "brown": (120, 70, 30),
    "white": (240, 240, 240),
    "pink": (250, 170, 190),
    "purple": (110, 40, 150),
    "olive": (120, 125, 30),
}
"""Colours by name, RGB 0..255."""

PALETTE = np.array(list(COLOURS.values()), dtype=np.uint8)
NAMES = tuple(COLOURS)


def noise(rng: np.random.Generator, rows: int, columns: int, low: int, high: int) -> Pixels:
    """Return an image of rows x columns blocks, [rows*32, columns*32, 3], of grey-less noise."""
    shape = (rows * BLOCK, columns * BLOCK, 3)
    return rng.integers(low, high, size=shape, dtype=np.uint8)


def block(image: Pixels, number: int) -> Pixels:
    """Return a view of block `number` (raster order) of an image, [32, 32, 3]."""
    row, column = divmod(number, image.shape[1] // BLOCK)
    return image[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK]


def box(image: Pixels, number: int) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of block `number`."""
    row, column = divmod(number, image.shape[1] // BLOCK)
    return column * BLOCK, row * BLOCK, (column + 1) * BLOCK, (row + 1) * BLOCK


def frame(cell: Pixels, colour: npt.NDArray[np.uint8]) -> None:
    """Paint a frame of 3 pixels along the border of a block, in place."""
    for edge in (np.s_[:FRAME], np.s_[-FRAME:], np.s_[:, :FRAME], np.s_[:, -FRAME:]):
        cell[edge] = colour


def digit(
    cell: Pixels, shape: npt.NDArray[np.float32], strength: int, down: int, right: int
) -> None:
    """Add a digit [8, 8] in 0..1 to the middle of a block, moved by some pixels, in place."""
    strokes = (shape * strength).astype(np.uint8).repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
    margin = (BLOCK - strokes.shape[0]) // 2
    area = cell[margin + down :, margin + right :][: strokes.shape[0], : strokes.shape[1]]
    np.add(area, np.minimum(strokes[..., None], 255 - area), out=area)
