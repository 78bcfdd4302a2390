"""The tasks: answers are in the evidence, and the parts have nothing in common."""

from __future__ import annotations

import numpy as np
import pytest

from ARR_COC.Training import tasks
from ARR_COC.Training.examples import Example
from ARR_COC.Training.tasks import counting, digits, drawing, forms


def examples(name: str, count: int = 20, part: digits.Part = "test") -> list[Example]:
    source = tasks.source(name, part, 0, 8)
    return [source.example(index) for index in range(count)]


@pytest.mark.parametrize("name", tasks.NAMES)
def test_an_example_is_a_pure_function_of_its_number(name: str) -> None:
    first, again = tasks.source(name, "train", 3, 4), tasks.source(name, "train", 3, 4)
    assert np.array_equal(first.example(7).image, again.example(7).image)
    assert first.example(7).questions == again.example(7).questions
    assert not np.array_equal(first.example(7).image, first.example(8).image)


@pytest.mark.parametrize("name", tasks.NAMES)
def test_seeds_and_parts_are_other_streams(name: str) -> None:
    one = tasks.source(name, "train", 0, 4).example(0).image
    for part, seed in (("train", 1), ("test", 0)):
        other = tasks.source(name, part, seed, 4).example(0).image  # type: ignore[arg-type]
        assert not np.array_equal(one, other)


@pytest.mark.parametrize("name", tasks.NAMES)
def test_images_are_whole_blocks_and_evidence_lies_inside(name: str) -> None:
    for example in examples(name):
        height, width, channels = example.image.shape
        assert (height % 32, width % 32, channels) == (0, 0, 3)
        assert example.questions
        for question in example.questions:
            for left, top, right, bottom in question.evidence:
                assert 0 <= left < right <= width
                assert 0 <= top < bottom <= height


@pytest.mark.parametrize("name", ["frames", "forms"])
def test_questions_about_one_image_have_their_evidence_in_other_places(name: str) -> None:
    for example in examples(name):
        places = [question.evidence for question in example.questions]
        assert len(set(places)) == len(places)


def test_the_frame_round_the_evidence_has_the_colour_that_is_asked_for() -> None:
    for example in examples("frames"):
        for question in example.questions:
            ((left, top, _, _),) = question.evidence
            asked = drawing.COLOURS[question.text.split()[-1]]
            assert tuple(example.image[top, left]) == asked


def test_no_digit_of_the_test_was_seen_in_training() -> None:
    train, test = digits.load("train"), digits.load("test")
    assert not set(train.ids.tolist()) & set(test.ids.tolist())
    assert set(test.labels.tolist()) == set(range(10))


def test_no_name_and_no_font_of_the_test_was_seen_in_training() -> None:
    assert not set(forms.names("train")) & set(forms.names("test"))
    assert not set(forms.FONTS["train"]) & set(forms.FONTS["test"])
    assert len(forms.names("test")) >= 20


def test_a_form_prints_what_its_questions_answer() -> None:
    source = forms.Forms("test", 0, questions=8)
    for index in range(20):
        text = source.text(index)
        for question in source.example(index).questions:
            ((left, top, _, _),) = question.evidence
            block = top // 32 * forms.SIDE + left // 32
            assert text[block] == question.text.split()[-1] + question.answer


def test_a_blank_block_of_a_form_holds_no_ink_and_a_printed_one_does() -> None:
    source = forms.Forms("test", 0, least=3, most=3)
    example, text = source.example(0), source.text(0)
    for number, printed in enumerate(text):
        dark = drawing.block(example.image, number).min() < 180
        assert dark == (printed != "    ")


def test_the_count_is_the_number_of_frames_of_the_colour() -> None:
    seen = set()
    for example in examples("counting", 60):
        question = example.questions[0]
        colour = drawing.COLOURS[question.text.split()[-1]]
        blocks = (drawing.block(example.image, n) for n in range(counting.SIDE**2))
        assert sum(tuple(cell[0, 0]) == colour for cell in blocks) == int(question.answer)
        seen.add(question.answer)
    assert len(seen) == counting.MOST + 1


def test_the_shape_is_the_only_thing_of_its_colour() -> None:
    for example in examples("salient"):
        shape, colour = example.questions
        assert shape.evidence == colour.evidence
        ((left, top, right, bottom),) = shape.evidence
        painted = (example.image == drawing.COLOURS[colour.answer]).all(-1)
        assert painted[top:bottom, left:right].sum() > 60
        painted[top:bottom, left:right] = False
        assert not painted.any()


def test_an_unknown_task_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="frames, forms, salient, counting"):
        tasks.source("poems", "train", 0, 1)


def test_all_words_of_all_questions_are_one_token_each() -> None:
    words = set(tasks.words())
    for name in tasks.NAMES:
        for example in examples(name, 5):
            for question in example.questions:
                names = question.text.split()
                assert set(names[:-1] if name == "forms" else names) <= words
