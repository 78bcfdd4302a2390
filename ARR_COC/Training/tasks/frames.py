"""Task A: twelve frames of different colours, a real handwritten digit in each; one is asked for.

No frame stands out, so only the question says which one matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ARR_COC.Training.examples import Example, Question
from ARR_COC.Training.tasks import digits, drawing
from ARR_COC.Training.tasks.digits import Part

SIDE = 4  # blocks
FRAMES = len(drawing.COLOURS)
WORDS = ("which", "digit", "is", "framed", "in", *drawing.NAMES)
_STREAM = {"train": 0, "test": 1}


@dataclass(frozen=True, slots=True)
class Frames:
    """The stream of scenes of one seed; the train and the test stream differ in seed and digits."""

    part: Part
    seed: int
    questions: int = 6
    size: None = None

    def example(self, index: int) -> Example:
        """Return scene number `index` with its questions, each about another frame.

        The colour comes last because the answer is read off the last word: with more words after
        it the colour first has to travel there, and learning takes about twice as many steps.
        """
        rng = np.random.default_rng([self.seed, _STREAM[self.part], index])
        known = digits.load(self.part)
        image = drawing.noise(rng, SIDE, SIDE, 0, 40)
        places = rng.permutation(SIDE * SIDE)[:FRAMES]
        picked = rng.integers(len(known.labels), size=FRAMES)
        strengths = rng.integers(150, 216, size=FRAMES)
        shifts = rng.integers(-1, 2, size=(FRAMES, 2))
        for colour, place in enumerate(places):
            cell = drawing.block(image, place)
            drawing.frame(cell, drawing.PALETTE[colour])
            shape = known.images[picked[colour]]
            drawing.digit(cell, shape, int(strengths[colour]), *shifts[colour])
        asked = rng.permutation(FRAMES)[: self.questions]
        return Example(
            image,
            tuple(
                Question(
                    f"which digit is framed in {drawing.NAMES[colour]}",
                    str(known.labels[picked[colour]]),
                    (drawing.box(image, int(places[colour])),),
                )
                for colour in asked
            ),
        )
