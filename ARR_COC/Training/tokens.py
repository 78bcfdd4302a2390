"""The words the reader knows, and how a question becomes token ids.

A table of whole words is enough for one sentence with two blanks; a tokenizer library would add a
vocabulary that dwarfs the tiny model.
"""

from __future__ import annotations

from collections.abc import Sequence

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
}
"""Frame colours by name, RGB 0..255; one for each cell of a scene."""

VISION_START, IMAGE, VIDEO, VISION_END = "<vision_start>", "<image>", "<video>", "<vision_end>"
DIGITS = tuple(str(digit) for digit in range(10))
COLOUR = "{colour}"
QUESTION = ("which", "digit", "is", "framed", "in", COLOUR)
"""The colour comes last because the answer is read off the last word: with "in the red frame?" the
colour first has to travel to the question mark, and learning takes about twice as many steps."""


VOCABULARY: tuple[str, ...] = (
    VISION_START,
    IMAGE,
    VIDEO,
    VISION_END,
    *(word for word in QUESTION if word != COLOUR),
    *COLOURS,
    *DIGITS,
)
IDS: dict[str, int] = {word: number for number, word in enumerate(VOCABULARY)}


def encode(words: Sequence[str]) -> list[int]:
    """Return one id a word. Raises KeyError for a word outside VOCABULARY."""
    return [IDS[word] for word in words]


def prompt(colour: str, image_tokens: int) -> list[int]:
    """Return the ids of one image of `image_tokens` tokens and the question; the answer follows."""
    question = [colour if word == COLOUR else word for word in QUESTION]
    return encode([VISION_START, *[IMAGE] * image_tokens, VISION_END, *question])
