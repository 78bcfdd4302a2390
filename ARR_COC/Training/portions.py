"""The first examples of a source, in batches that fit into memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from ARR_COC.images import BLOCK, fitted
from ARR_COC.processing import Processor
from ARR_COC.Training.collate import Batch, collate
from ARR_COC.Training.examples import Example, Source

MOST_QUESTIONS, MOST_TOKENS = 64, 32_768
"""Bounds of a batch, whichever is met first: its rows, and the image tokens of all its rows."""


def portions(source: Source, count: int, processor: Processor) -> Iterator[Batch]:
    """Yield the first `count` examples in batches within the bounds, or of one question.

    An image with more questions than that is in several batches. Raises BadInput, naming the place
    in its batch, for an example that cannot be used.
    """
    waiting: list[Example] = []
    questions = tokens = 0
    for index in range(count):
        example = source.example(index)
        blocks = _blocks(example, processor)
        for part in _parts(example, max(1, min(MOST_QUESTIONS, MOST_TOKENS // blocks))):
            asked = len(part.questions)
            full = questions + asked > MOST_QUESTIONS or tokens + asked * blocks > MOST_TOKENS
            if waiting and full:
                yield collate(waiting, processor)
                waiting, questions, tokens = [], 0, 0
            waiting.append(part)
            questions, tokens = questions + asked, tokens + asked * blocks
    yield collate(waiting, processor)


def _blocks(example: Example, processor: Processor) -> int:
    height, width = example.image.shape[:2]
    size = fitted(height, width, processor.min_pixels, processor.max_pixels)
    return math.prod(size) // BLOCK**2


def _parts(example: Example, most: int) -> Iterator[Example]:
    """Yield the example with at most so many of its questions at a time."""
    for first in range(0, max(1, len(example.questions)), most):
        yield replace(example, questions=example.questions[first : first + most])
