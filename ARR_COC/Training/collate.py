"""Examples as one batch of tensors: patches, prompts with answers, labels on the answers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ARR_COC import images
from ARR_COC.images import BadInput
from ARR_COC.processing import Asked, Processor
from ARR_COC.Training.examples import Example, Question, evidence_blocks

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Batch:
    """n images and their questions, one question a row, in reading order.

    pixel_values [P, 1536] and image_grid_thw [n, 3], image by image; images [rows], which image a
    row shows; input_ids, attention_mask, labels and query_mask [rows, L], padded on the right;
    labels are IGNORED except on the answer and its end token, query_mask is True on the question's
    own words. evidence, one a row: ascending block numbers, on the CPU, empty where unknown.
    answer_tokens is the number of labelled positions.
    """

    pixel_values: torch.Tensor
    image_grid_thw: torch.Tensor
    images: torch.Tensor
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    query_mask: torch.Tensor
    evidence: tuple[torch.Tensor, ...]
    answers: tuple[str, ...]
    answer_tokens: int

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch with its tensors on `device`; evidence stays where it is."""
        return replace(
            self,
            pixel_values=self.pixel_values.to(device),
            image_grid_thw=self.image_grid_thw.to(device),
            images=self.images.to(device),
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            labels=self.labels.to(device),
            query_mask=self.query_mask.to(device),
        )


class _Row(NamedTuple):
    """One question's row: its image's number and block count, its ids, and its length."""

    image: int
    blocks: int
    asked: Asked
    answer: tuple[int, ...]
    length: int


def collate(examples: Sequence[Example], processor: Processor) -> Batch:
    """Return the batch of the examples, each with any number of questions from one up.

    Raises BadInput, naming the example's place in the batch, for what the processor cannot take.
    """
    return _collated(examples, processor, answered=True)


def prompts(examples: Sequence[Example], processor: Processor) -> Batch:
    """Return the batch without the answers' tokens: to generate from. All labels are IGNORED."""
    return _collated(examples, processor, answered=False)


def _collated(examples: Sequence[Example], processor: Processor, *, answered: bool) -> Batch:
    pictures, rows, evidence, answers = [], [], [], []
    for number, example in enumerate(examples):
        try:
            picture = processor.pixels(example.image)
            grid = picture.shape[0] // images.BLOCK, picture.shape[1] // images.BLOCK
            if not example.questions:
                raise BadInput("has no question: give each image at least one")
            for question in example.questions:
                rows.append(_row(number, grid[0] * grid[1], question, processor, answered))
                touched = evidence_blocks(question.evidence, grid, example.image.shape[:2])
                evidence.append(torch.from_numpy(touched))
                answers.append(question.answer)
        except ValueError as error:
            raise BadInput(f"example {number} of the batch: {error}") from error
        pictures.append(picture)
    if not rows:
        raise BadInput("a batch needs at least one example")
    pixel_values, image_grid_thw = _stacked(pictures)
    input_ids, attention_mask, labels, query_mask = _padded(rows, processor)
    return Batch(
        pixel_values=pixel_values,
        image_grid_thw=image_grid_thw,
        images=torch.tensor([row.image for row in rows]),
        input_ids=input_ids,
        attention_mask=attention_mask,
        labels=labels,
        query_mask=query_mask,
        evidence=tuple(evidence),
        answers=tuple(answers),
        answer_tokens=sum(len(row.answer) for row in rows),
    )


def _row(image: int, blocks: int, question: Question, processor: Processor, answered: bool) -> _Row:
    asked = processor.asked(question.text)
    answer = processor.answer(question.answer) if answered else ()
    length = len(asked.before) + blocks + len(asked.after) + len(answer)
    processor.check_length(length, blocks)
    return _Row(image, blocks, asked, answer, length)


def _stacked(pictures: Sequence[images.Pixels]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return patch rows and grids of images in whole blocks; equal neighbours are cut in one go."""
    parts = [
        images.patches(np.stack(list(alike)))
        for _, alike in groupby(pictures, key=lambda picture: picture.shape)
    ]
    sides = [[1, p.shape[0] // images.PATCH, p.shape[1] // images.PATCH] for p in pictures]
    return parts[0] if len(parts) == 1 else torch.cat(parts), torch.tensor(sides)


def _padded(rows: Sequence[_Row], processor: Processor) -> tuple[torch.Tensor, ...]:
    """Return input_ids, attention_mask, labels and query_mask [rows, L]."""
    shape = len(rows), max(row.length for row in rows)
    input_ids = np.full(shape, processor.special.pad, dtype=np.int64)
    attention = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    query: npt.NDArray[np.bool_] = np.zeros(shape, dtype=np.bool_)
    for number, (_, blocks, asked, answer, length) in enumerate(rows):
        run = len(asked.before) + blocks
        input_ids[number, :length] = (
            *asked.before,
            *[processor.special.image] * blocks,
            *asked.after,
            *answer,
        )
        attention[number, :length] = 1
        labels[number, length - len(answer) : length] = answer
        query[number, run + asked.start : run + asked.stop] = True
    return tuple(torch.from_numpy(part) for part in (input_ids, attention, labels, query))
