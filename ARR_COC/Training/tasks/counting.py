"""Task D: how many frames have the asked colour? The answer is spread over the whole image.

A control that shows a limit: whoever keeps few blocks cannot count what was dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ARR_COC.Training.examples import Example, Question
from ARR_COC.Training.tasks import drawing
from ARR_COC.Training.tasks.digits import Part

SIDE = 4  # blocks
COLOURS = ("red", "green", "blue")
MOST = 9
WORDS = ("how", "many", "frames", "are", *COLOURS)
_STREAM = {"train": 0, "test": 1}


@dataclass(frozen=True, slots=True)
class Counting:
    """The stream of one seed; a question a colour, whose answer is 0 to 9, each equally likely."""

    part: Part
    seed: int
    questions: int = 1
    size: None = None

    def example(self, index: int) -> Example:
        """Return image number `index`; its first question's count is drawn evenly."""
        rng = np.random.default_rng([self.seed, _STREAM[self.part], index])
        image = drawing.noise(rng, SIDE, SIDE, 0, 40)
        order = [int(number) for number in rng.permutation(len(COLOURS))]
        first = int(rng.integers(0, MOST + 1))
        others = int(rng.integers(0, min(MOST, SIDE * SIDE - first) + 1))
        second = int(rng.integers(0, others + 1))
        counts = (first, second, others - second)
        places = iter(rng.permutation(SIDE * SIDE))
        asked = []
        for colour, count in zip(order, counts, strict=True):
            boxes = []
            for _ in range(count):
                place = int(next(places))
                paint = drawing.PALETTE[drawing.NAMES.index(COLOURS[colour])]
                drawing.frame(drawing.block(image, place), paint)
                boxes.append(drawing.box(image, place))
            asked.append(
                Question(f"how many frames are {COLOURS[colour]}", str(count), tuple(boxes))
            )
        return Example(image, tuple(asked[: self.questions]))
