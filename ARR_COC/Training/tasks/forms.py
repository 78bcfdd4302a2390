"""Task B: a rendered form; the question names a field, the answer is the field's value.

A field is a name of two letters and, below it, a value of two digits. Names and fonts of the test
part are never seen in training, so a name has to be read, not recognised.
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

SIDE = 4  # blocks; a field takes one
FONT_PIXELS = 15
FONTS: dict[Part, tuple[str, ...]] = {
    "train": (
        *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
        *("DejaVuSansMono", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
        *("DejaVuSerif", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
        *("STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
        *("cmr10", "cmb10", "cmti10", "cmtt10"),
    ),
    "test": ("DejaVuSerif-Bold", "DejaVuSansMono-Bold", "STIXGeneral", "cmss10"),
}
LETTERS = "ACEFHKLMPRTX"  # easy to tell apart in every font
WORDS = ("value", "of")
_SPLIT_SEED, _TEST_SHARE = 21, 0.2
_ALIKE = 5  # letters of the names of a form whose names are alike
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
    """A name and its value, in one block."""

    block: int
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Forms:
    """The stream of forms of one seed, of `least` to `most` fields each."""

    part: Part
    seed: int
    questions: int = 6
    least: int = 8
    most: int = 12
    size: None = None

    def example(self, index: int) -> Example:
        """Return form number `index`; its questions ask for different fields."""
        rng, fields = self._filled(index)
        paper = int(rng.integers(215, 240))
        image = drawing.noise(rng, SIDE, SIDE, paper, paper + 15)
        font = FONTS[self.part][int(rng.integers(len(FONTS[self.part])))]
        ink = int(rng.integers(0, 70))
        for field in fields:
            _print(drawing.block(image, field.block), field.name + field.value, font, ink, rng)
        asked = fields[: self.questions]
        return Example(
            image,
            tuple(
                Question(f"value of {f.name}", f.value, (drawing.box(image, f.block),))
                for f in asked
            ),
        )

    def text(self, index: int) -> list[str]:
        """Return what each block of form number `index` says: name and value, or four blanks."""
        written = ["    "] * SIDE**2
        for field in self._filled(index)[1]:
            written[field.block] = field.name + field.value
        return written

    def _filled(self, index: int) -> tuple[np.random.Generator, list[_Field]]:
        """Return the fields of form number `index`, and the generator that goes on to draw it."""
        rng = np.random.default_rng([self.seed, _STREAM[self.part], index])
        count = int(rng.integers(self.least, self.most + 1))
        captions = self._captions(rng)[:count]
        values = rng.integers(0, 100, size=count)
        blocks = rng.permutation(SIDE**2)[:count]
        return rng, [
            _Field(int(block), str(caption), f"{value:02d}")
            for block, caption, value in zip(blocks, captions, values, strict=True)
        ]

    def _captions(self, rng: np.random.Generator) -> list[str]:
        """Return all names in the order in which a form takes them.

        In half of the forms those of few letters come first: to find one of two letters is then of
        no use, and a reader that is content with one would learn nothing more for a long time.
        """
        shuffled = [str(name) for name in rng.permutation(names(self.part))]
        few = set(rng.permutation(list(LETTERS))[: _ALIKE if rng.random() < 0.5 else 0])
        return sorted(shuffled, key=lambda name: not set(name) <= few)


def _print(cell: drawing.Pixels, text: str, font: str, ink: int, rng: np.random.Generator) -> None:
    """Print four characters into the quarters of a block, each near the middle, in place."""
    for quarter, character in enumerate(text):
        row, column = divmod(quarter, 2)
        area = cell[row * _HALF : (row + 1) * _HALF, column * _HALF : (column + 1) * _HALF]
        cover = _rendered(font, character)[:_HALF, :_HALF, None]
        room = [_HALF - side for side in cover.shape[:2]]
        top, left = (min(max(0, r // 2 + int(rng.integers(-1, 2))), r) for r in room)
        area = area[top : top + cover.shape[0], left : left + cover.shape[1]]
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
