"""An image, its questions and their answers: what every source of training data gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the image as the source gives it, half-open."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its one right answer, and where in the image the answer is to be seen, if known.

    An Example's questions may share one image; the image is encoded once for all of them.
    """

    text: str
    answer: str
    evidence: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """One image [H, W, 3] in 0..255, of any size, and what is asked about it."""

    image: npt.NDArray[np.uint8]
    questions: tuple[Question, ...]


class Source(Protocol):
    """A stream of examples, finite or endless.

    example(index) is a pure function of the index, so that a resumed run sees what it would have
    seen anyway.
    """

    @property
    def size(self) -> int | None:
        """How many examples there are, indices 0..size-1; None for a generator without end."""

    def example(self, index: int) -> Example:
        """Return example number `index`; raises IndexError outside 0..size-1."""


def evidence_blocks(
    boxes: Iterable[Box], grid_hw: tuple[int, int], image_hw: tuple[int, int] | None = None
) -> npt.NDArray[np.int64]:
    """Return the ascending numbers, in raster order, of the blocks that any box touches.

    `grid_hw` is in blocks of 32 px; `image_hw`, in pixels, is the size that the boxes refer to and
    defaults to the grid's own: give it where the image is resized. Raises ValueError for a box
    that is empty or leaves the image.
    """
    rows, columns = grid_hw
    height, width = image_hw or (32 * rows, 32 * columns)
    touched = np.zeros((rows, columns), dtype=np.bool_)
    for left, top, right, bottom in boxes:
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(
                f"evidence box {(left, top, right, bottom)} is empty or leaves the image of "
                f"{width} x {height} px; give left, top, right, bottom in pixels"
            )
        touched[
            top * rows // height : -(-bottom * rows // height),
            left * columns // width : -(-right * columns // width),
        ] = True
    return np.flatnonzero(touched)
