"""Batches: any images with any questions, labels on the answers only, evidence by block."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ARR_COC.images import BadInput
from ARR_COC.processing import Processor
from ARR_COC.Training.collate import IGNORED, collate, prompts
from ARR_COC.Training.examples import Example, Question, evidence_blocks


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def processor() -> Processor:
    return Processor.tiny(["which", "digit", "red", "blue"], context=64, max_pixels=128 * 128)


@pytest.fixture
def examples() -> list[Example]:
    """Images of 4, 9 (equal neighbours), 6 blocks; the last is resized from 200 x 300."""
    return [
        Example(picture(64, 64), (Question("which digit", "7", ((0, 0, 32, 32),)),)),
        Example(picture(96, 96, 1), (Question("red", "17"), Question("which digit red", "blue"))),
        Example(picture(96, 96, 2), (Question("blue", "4"),)),
        Example(picture(200, 300, 3), (Question("x", "12", ((0, 100, 150, 200),)),)),
    ]


def test_each_row_shows_its_image_and_asks_its_question(
    processor: Processor, examples: list[Example]
) -> None:
    batch = collate(examples, processor)
    assert batch.images.tolist() == [0, 1, 1, 2, 3]
    assert batch.image_grid_thw.tolist() == [[1, 4, 4], [1, 6, 6], [1, 6, 6], [1, 6, 8]]
    rows = [processor.image(example.image)[0] for example in examples]
    assert torch.equal(batch.pixel_values, torch.cat(rows))
    asked = [(number, q) for number, one in enumerate(examples) for q in one.questions]
    for row, (number, question) in enumerate(asked):
        blocks = len(rows[number]) // 4
        prompt = processor.prompt(question.text, blocks)
        ids = batch.input_ids[row, : len(prompt)].tolist()
        assert ids == prompt
        answer = batch.input_ids[row, len(prompt) : int(batch.attention_mask[row].sum())]
        assert answer.tolist() == list(processor.answer(question.answer))
        own = batch.query_mask[row].nonzero().flatten().tolist()
        assert own == list(processor.query(question.text, blocks))
    assert batch.answers == tuple(question.answer for _, question in asked)


def test_only_answers_and_their_end_are_labelled(
    processor: Processor, examples: list[Example]
) -> None:
    batch = collate(examples, processor)
    labelled = batch.labels != IGNORED
    assert torch.equal(batch.labels[labelled], batch.input_ids[labelled])
    said = [processor.decode(ids[mask]) for ids, mask in zip(batch.labels, labelled, strict=True)]
    assert said == list(batch.answers)
    ends = batch.labels == processor.special.eos
    assert ends.sum(dim=1).tolist() == [1] * len(said)
    assert batch.answer_tokens == int(labelled.sum()) == 2 + 3 + 2 + 2 + 3
    assert not (labelled & batch.query_mask).any()


def test_padding_is_on_the_right_and_masked(processor: Processor, examples: list[Example]) -> None:
    batch = collate(examples, processor)
    padded = batch.attention_mask == 0
    assert padded.any()
    assert (batch.input_ids[padded] == processor.special.pad).all()
    assert (batch.labels[padded] == IGNORED).all()
    assert not batch.query_mask[padded].any()
    assert (batch.attention_mask.diff(dim=1) <= 0).all()


def test_prompts_hold_no_answer(processor: Processor, examples: list[Example]) -> None:
    batch = prompts(examples, processor)
    whole = collate(examples, processor)
    assert (batch.labels == IGNORED).all()
    assert batch.answer_tokens == 0
    assert batch.answers == whole.answers
    before = (whole.attention_mask == 1) & (whole.labels == IGNORED)
    assert torch.equal(batch.attention_mask.sum(1), before.sum(1))


def test_evidence_follows_the_image_when_it_is_resized(
    processor: Processor, examples: list[Example]
) -> None:
    evidence = collate(examples, processor).evidence
    assert evidence[0].tolist() == [0]
    assert evidence[1].tolist() == []
    # 200 x 300 px become 3 x 4 blocks; the lower left quarter is rows 1 (half) and 2, columns 0, 1.
    assert evidence[4].tolist() == [4, 5, 8, 9]


def test_a_batch_moves_to_a_device_as_a_whole(
    processor: Processor, examples: list[Example]
) -> None:
    moved = collate(examples, processor).to(torch.device("meta"))
    tensors = (moved.pixel_values, moved.image_grid_thw, moved.images, moved.input_ids)
    masks = (moved.attention_mask, moved.labels, moved.query_mask)
    assert {tensor.device.type for tensor in (*tensors, *masks)} == {"meta"}
    assert {blocks.device.type for blocks in moved.evidence} == {"cpu"}


@pytest.mark.parametrize(
    ("example", "words"),
    [
        (Example(picture(64, 64), ()), "no question"),
        (Example(picture(64, 64), (Question("", "7"),)), "question is empty"),
        (Example(picture(64, 64), (Question("red", ""),)), "answer is empty"),
        (Example(picture(64, 64), (Question("red", 7),)), "must be text"),  # type: ignore[arg-type]
        (Example(picture(64, 64), (Question("red", "7" * 60),)), "the model takes 64"),
        (Example(picture(64, 64), (Question("red", "7", ((0, 0, 65, 9),)),)), "leaves the image"),
        (Example(picture(2, 900), (Question("red", "7"),)), "200 times"),
    ],
)
def test_an_example_that_cannot_be_used_is_named(
    processor: Processor, examples: list[Example], example: Example, words: str
) -> None:
    with pytest.raises(BadInput, match=f"example 4 of the batch: .*{words}"):
        collate([*examples, example], processor)


def test_an_empty_batch_is_refused(processor: Processor) -> None:
    with pytest.raises(BadInput, match="at least one example"):
        collate([], processor)


@given(st.data())
def test_blocks_that_a_box_touches_are_those_with_one_of_its_pixels(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right = data.draw(st.integers(left + 1, width))
    bottom = data.draw(st.integers(top + 1, height))
    expected = [
        row * columns + column
        for row in range(rows)
        for column in range(columns)
        if row * height < bottom * rows
        and (row + 1) * height > top * rows
        and column * width < right * columns
        and (column + 1) * width > left * columns
    ]
    found = evidence_blocks([(left, top, right, bottom)], (rows, columns), (height, width))
    assert found.tolist() == expected


def test_blocks_of_several_boxes_are_ascending_and_once_each() -> None:
    boxes = [(40, 40, 64, 64), (0, 0, 33, 1), (32, 32, 33, 33)]
    assert evidence_blocks(boxes, (2, 2)).tolist() == [0, 1, 3]


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (5, 5, 4, 9), (-1, 0, 5, 5), (0, 0, 5, 65)])
def test_a_box_outside_the_image_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="empty or leaves the image"):
        evidence_blocks([box], (2, 2))
