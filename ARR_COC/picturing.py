"""What was kept of an image and how it was scored, as pictures. Pillow and numpy only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

BLOCK = 32  # pixels a side

Pixels = npt.NDArray[np.uint8]

HEAT: tuple[tuple[int, int, int], ...] = (
    (13, 17, 54),
    (74, 28, 120),
    (170, 46, 104),
    (236, 112, 62),
    (252, 242, 178),
)
"""The colours of the heat map at 0, 1/4, ..., 1, RGB: from night blue over red to pale yellow, each
lighter than the one before, so that the order is also seen in grey; between them it is linear."""

_DIMMED = 0.25  # brightness of what was dropped
_SIDE = 480  # pixels that the longer side of a picture gets
_GAP, _LINE, _TEXT = 12, 20, 15
_PAPER, _INK, _EDGE = (255, 255, 255), (20, 20, 20), (80, 220, 120)


def heated(values: npt.ArrayLike) -> Pixels:
    """Return the colours [..., 3] of values [...], HEAT from the lowest to the highest.

    Where all values are alike, all get the first. Raises ValueError for values that are not finite.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("only finite values can be drawn")
    low, high = numbers.min(), numbers.max()
    scaled = (numbers - low) / (high - low) if high > low else np.zeros_like(numbers)
    stops = np.linspace(0, 1, len(HEAT))
    channels = [np.interp(scaled, stops, channel) for channel in zip(*HEAT, strict=True)]
    colours: Pixels = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return colours


def heat_map(scores: npt.ArrayLike) -> Pixels:
    """Return scores [h, w] as an image [32h, 32w, 3], a plain square for each block."""
    return heated(scores).repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)


def kept_bright(pixels: Pixels, kept: Iterable[int]) -> Pixels:
    """Return the image [32h, 32w, 3] with the kept blocks as they are and all others dimmed.

    Raises ValueError for an image that is not in whole blocks, and for blocks that it has not.
    """
    grid = _grid(pixels)
    bright = (pixels * _DIMMED).astype(np.uint8)
    for rows, columns in _places(kept, grid):
        bright[rows, columns] = pixels[rows, columns]
    return bright


def sheet(
    pixels: Pixels,
    kept: Sequence[int],
    scores: npt.ArrayLike | None,
    caption: Sequence[str],
) -> Image.Image:
    """Return one picture: what was kept, the heat map of scores [h, w] beside it, the text below.

    Kept blocks have an outline in both. Small images are enlarged by a whole number of times, big
    ones made smaller. Raises ValueError like kept_bright, and for scores of another grid.
    """
    grid = _grid(pixels)
    views = [_framed(kept_bright(pixels, kept), kept, grid)]
    if scores is not None:
        if np.shape(scores) != grid:
            raise ValueError(
                f"scores have the shape {np.shape(scores)}, the image's grid is {grid}"
            )
        views.append(_framed(heat_map(scores), kept, grid))
    width = max(_SIDE, sum(view.width for view in views) + _GAP * (len(views) + 1))
    font = ImageFont.load_default(_TEXT)
    lines = [line for text in caption for line in _wrapped(text, font, width - 2 * _GAP)]
    height = views[0].height + 2 * _GAP + _LINE * len(lines) + (_GAP if lines else 0)
    paper = Image.new("RGB", (width, height), _PAPER)
    for place, view in enumerate(views):
        paper.paste(view, (_GAP + place * (view.width + _GAP), _GAP))
    pen = ImageDraw.Draw(paper)
    for number, line in enumerate(lines):
        top = views[0].height + 2 * _GAP + number * _LINE
        pen.text((_GAP, top), line, fill=_INK, font=font)
    return paper


def _framed(pixels: Pixels, kept: Iterable[int], grid: tuple[int, int]) -> Image.Image:
    """Return the image at a size to look at, with an outline round each kept block."""
    image = Image.fromarray(pixels)
    longest = max(image.size)
    if longest <= _SIDE:
        times = _SIDE // longest
        size, how = (image.width * times, image.height * times), Image.Resampling.NEAREST
    else:
        shrink = _SIDE / longest
        size = max(1, round(image.width * shrink)), max(1, round(image.height * shrink))
        how = Image.Resampling.BICUBIC
    image = image.resize(size, how)
    pen = ImageDraw.Draw(image)
    scale = image.width / (grid[1] * BLOCK), image.height / (grid[0] * BLOCK)
    thick = 2 if scale[0] >= 0.5 else 1
    for rows, columns in _places(kept, grid):
        left, right = round(columns.start * scale[0]), round(columns.stop * scale[0])
        top, bottom = round(rows.start * scale[1]), round(rows.stop * scale[1])
        if right > left and bottom > top:
            pen.rectangle((left, top, right - 1, bottom - 1), outline=_EDGE, width=thick)
    return image


def _wrapped(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> list[str]:
    """Return the text in lines that fit the width; a word that is too long is broken."""
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        while font.getlength(word) > width:
            fits = next(n for n in range(len(word), 0, -1) if font.getlength(word[:n]) <= width)
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    return [*lines, line] if line else lines


def _places(kept: Iterable[int], grid: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Return the rows and columns of pixels of each kept block. Raises ValueError outside of it."""
    places = []
    for number in kept:
        if not 0 <= number < grid[0] * grid[1]:
            raise ValueError(f"block {number} is not in a grid of {grid[0]} x {grid[1]}")
        row, column = divmod(number, grid[1])
        places.append(
            (
                slice(row * BLOCK, (row + 1) * BLOCK),
                slice(column * BLOCK, (column + 1) * BLOCK),
            )
        )
    return places


def _grid(pixels: Pixels) -> tuple[int, int]:
    height, width = pixels.shape[:2]
    if height % BLOCK or width % BLOCK or not height or not width:
        raise ValueError(f"an image of {width} x {height} px is not in whole blocks of {BLOCK}")
    return height // BLOCK, width // BLOCK
