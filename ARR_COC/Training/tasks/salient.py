"""Task C: one bright shape on noise. It stands out, and every question is about it.

A control: whoever looks at what stands out needs no question here, and query-aware selection must
not lose to that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ARR_COC.Training.examples import Example, Question
from ARR_COC.Training.tasks import drawing
from ARR_COC.Training.tasks.digits import Part

SIDE = 4  # blocks
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
WORDS = ("which", "shape", "colour", "is", "it", *SHAPES, *drawing.NAMES)
_STREAM = {"train": 0, "test": 1}


@dataclass(frozen=True, slots=True)
class Salient:
    """The stream of one seed; two questions an image, one about the shape and one the colour."""

    part: Part
    seed: int
    questions: int = 2
    size: None = None

    def example(self, index: int) -> Example:
        """Return image number `index`."""
        rng = np.random.default_rng([self.seed, _STREAM[self.part], index])
        image = drawing.noise(rng, SIDE, SIDE, 20, 90)
        place = int(rng.integers(SIDE * SIDE))
        shape = SHAPES[int(rng.integers(len(SHAPES)))]
        colour = int(rng.integers(len(drawing.NAMES)))
        radius = int(rng.integers(9, 13))
        centre = (drawing.BLOCK - 1) / 2 + rng.uniform(-1.5, 1.5, size=2)
        drawing.block(image, place)[_inside(shape, radius, centre)] = drawing.PALETTE[colour]
        evidence = (drawing.box(image, place),)
        asked = (
            Question("which shape is it", shape, evidence),
            Question("which colour is it", drawing.NAMES[colour], evidence),
        )
        return Example(image, asked[: self.questions])


def _inside(shape: str, radius: int, centre: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which pixels [32, 32] of a block belong to the shape; centre is (down, right)."""
    down, right = np.mgrid[: drawing.BLOCK, : drawing.BLOCK]
    y, x = down - centre[0], right - centre[1]
    far = np.hypot(y, x)
    insides = {
        "circle": far <= radius,
        "square": np.maximum(abs(y), abs(x)) <= 0.85 * radius,
        "triangle": (y <= 0.8 * radius) & (2 * abs(x) <= y + radius),
        "cross": (np.minimum(abs(y), abs(x)) <= 0.3 * radius) & (far <= radius),
        "ring": (far <= radius) & (far >= 0.6 * radius),
        "diamond": abs(y) + abs(x) <= radius,
    }
    return np.asarray(insides[shape])
