"""Task B: a rendered form; the question names a field, the answer is the field's value.

A field is a name of two letters and, to its right, a value of two digits. Names and fonts of the
test part are never seen in training, so a name has to be read, not recognised.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ARR_COC.Training.examples import Example, Question
from ARR_COC.Training.tasks import drawing
from ARR_COC.Training.tasks.digits import Part

ROWS, COLUMNS = 4, 4  # blocks; a field takes two, side by side
FIELDS = ROWS * COLUMNS // 2
FONT_PIXELS = 20
FONTS: dict[Part, tuple[str, ...]] = {
    "train": (
        "DejaVuSans",
        "DejaVuSans-Bold",
        "DejaVuSerif",
        "DejaVuSansMono",
        "STIXGeneralBol",
        "cmtt10",
    ),
    "test": ("DejaVuSerif-Bold", "DejaVuSansMono-Bold", "STIXGeneral", "cmss10"),
}
LETTERS = "ACEFHKLMPRTX"  # easy to tell apart in every font
WORDS = ("value", "of")
_SPLIT_SEED, _TEST_SHARE = 21, 0.2
_HALF = drawing.BLOCK // 2
_STREAM = {"train": 0, "test": 1}


@cache
def names(part: Part) -> tuple[str, ...]:
    """Return the field names of one part: two different letters; one name in five is for test."""
    every = [a + b for a in LETTERS for b in LETTERS if a != b]
    shuffled = np.random.default_rng(_SPLIT_SEED).permutation(every)
    cut = round(len(every) * _TEST_SHARE)
    return tuple(str(name) for name in (shuffled[:cut] if part == "test" else shuffled[cut:]))


@dataclass(frozen=True, slots=True)
class _Field:
    """A name in a block, and the value in the next one."""

    block: int
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Forms:
    """The stream of forms of one seed.

    `least` to `most` fields a form: 6 to 8 in an examination, fewer while a reader learns.
    """

    part: Part
    seed: int
    questions: int = 6
    least: int = 6
    most: int = FIELDS
    size: None = None

    def example(self, index: int) -> Example:
        """Return form number `index`; its questions ask for different fields."""
        rng, fields = self._filled(index)
        paper = int(rng.integers(215, 240))
        image = drawing.noise(rng, ROWS, COLUMNS, paper, paper + 15)
        font = FONTS[self.part][int(rng.integers(len(FONTS[self.part])))]
        ink = int(rng.integers(0, 70))
        for field in fields:
            for place, text in enumerate((field.name, field.value)):
                _print(drawing.block(image, field.block + place), text, font, ink, rng)
        asked = fields[: self.questions]
        return Example(
            image,
            tuple(
                Question(f"value of {f.name}", f.value, (drawing.box(image, f.block + 1),))
                for f in asked
            ),
        )

    def text(self, index: int) -> list[str]:
        """Return what is printed in each block of form number `index`: two characters or blanks."""
        written = ["  "] * (ROWS * COLUMNS)
        for field in self._filled(index)[1]:
            written[field.block : field.block + 2] = field.name, field.value
        return written

    def _filled(self, index: int) -> tuple[np.random.Generator, list[_Field]]:
        """Return the fields of form number `index`, and the generator that goes on to draw it."""
        rng = np.random.default_rng([self.seed, _STREAM[self.part], index])
        count = int(rng.integers(self.least, self.most + 1))
        captions = rng.choice(names(self.part), size=count, replace=False)
        values = rng.integers(0, 100, size=count)
        blocks = 2 * rng.permutation(FIELDS)[:count]
        return rng, [
            _Field(int(block), str(caption), f"{value:02d}")
            for block, caption, value in zip(blocks, captions, values, strict=True)
        ]


def _print(cell: drawing.Pixels, text: str, font: str, ink: int, rng: np.random.Generator) -> None:
    """Print two characters side by side in a block, each near the middle of its half, in place."""
    down = int(rng.integers(-1, 2))
    for half, character in enumerate(text):
        cover = _rendered(font, character)[..., None]
        height, width = cover.shape[:2]
        top = (drawing.BLOCK - height) // 2 + down
        left = half * _HALF + max(0, (_HALF - width) // 2 + int(rng.integers(-1, 2)))
        area = cell[top : top + height, left : min(left + width, (half + 1) * _HALF)]
        cover = cover[:, : area.shape[1]]
        area[:] = (area * (1 - cover) + ink * cover).astype(np.uint8)


@cache
def _rendered(font: str, character: str) -> npt.NDArray[np.float32]:
    """Return how much ink each pixel of a character takes, [height, width] in 0..1, cut to it."""
    face = _face(font)
    left, top, right, bottom = face.getbbox(character)
    canvas = Image.new("L", (int(right - left), int(bottom - top)), 0)
    ImageDraw.Draw(canvas).text((-left, -top), character, fill=255, font=face)
    return np.asarray(canvas, dtype=np.float32) / 255.0


@cache
def _face(font: str) -> ImageFont.FreeTypeFont:
    import matplotlib  # it ships free fonts, so that every machine draws the same forms

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"{font}.ttf"), FONT_PIXELS)
