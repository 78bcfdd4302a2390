"""Examinations: exact answers, what was kept, and how the figures are told."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small_arr
import torch
from PIL import Image
from small_arr import Listed, learnt

from ARR_COC.asking import ask
from ARR_COC.attending import Budget
from ARR_COC.images import BadInput
from ARR_COC.Training import evaluate, portions
from ARR_COC.Training.collate import IGNORED, collate
from ARR_COC.Training.evaluate import Examination, examine, wilson
from ARR_COC.Training.examination import AtBudget
from ARR_COC.Training.examples import Example, Question

BUDGETS = (1.0, 0.5, 0.2)


@pytest.mark.parametrize("where", ["before", "after"])
def test_an_answer_counts_if_and_only_if_greedy_decoding_writes_it(where: Any) -> None:
    arr, processor, source = learnt()
    found = examine(arr, processor, source, 8, BUDGETS, "cpu", where, gestalt=0.3)
    for budget in BUDGETS:
        replies = [
            (ask(arr, processor, question.text, example.image, Budget(budget, gestalt=0.3), where))
            for example in source.examples
            for question in example.questions
        ]
        wanted = [question for example in source.examples for question in example.questions]
        right = [
            reply.answer == question.answer for reply, question in zip(replies, wanted, strict=True)
        ]
        assert 0 < sum(right) < 16
        assert found.at(budget).correct == sum(right)
        assert found.at(budget).kept == sum(len(reply.kept) for reply in replies)
        seen = [
            _block(question, reply.grid) in reply.kept
            for reply, question in zip(replies, wanted, strict=True)
        ]
        assert found.evidence_recall_at(budget) == pytest.approx(sum(seen) / 16)
    assert found.evidence_recall_at(1.0) == 1.0
    answers = Counter(question.answer for e in source.examples for question in e.questions)
    assert found.best_constant == max(answers.values()) / 16
    assert (found.images, found.questions, found.where) == (8, 16, where)


def _block(question: Question, grid: tuple[int, int]) -> int:
    left, top, _, _ = question.evidence[0]
    return top // 32 * grid[1] + left // 32


def test_the_loss_is_that_of_whole_answers() -> None:
    arr, processor, source = learnt()
    found = examine(arr, processor, source, 8, [1], "cpu")
    batch = collate(source.examples, processor)
    with torch.no_grad():
        mean = arr(
            batch.input_ids,
            batch.attention_mask,
            batch.pixel_values,
            batch.image_grid_thw,
            images=batch.images,
            labels=batch.labels,
        ).loss
    total = float(mean) * int((batch.labels != IGNORED).sum())
    assert found.at(1).loss == pytest.approx(total / 16, rel=1e-4)


def test_blocks_are_dropped_where_it_was_asked_for() -> None:
    arr, processor, source = learnt()
    before = examine(arr, processor, source, 8, [1, 0.2], "cpu", "before")
    after = examine(arr, processor, source, 8, [1, 0.2], "cpu", "after")
    assert before.at(1).loss == after.at(1).loss
    assert abs(before.at(0.2).loss - after.at(0.2).loss) > 1e-3


def test_batches_are_bounded_and_change_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    arr, processor, source = learnt()
    many = replace(source.example(0), questions=source.example(0).questions * 5)
    crowded = Listed((*source.examples, many))
    whole = examine(arr, processor, crowded, 9, BUDGETS, "cpu")
    for questions, tokens in ((3, 10_000), (64, 20), (64, 1)):
        monkeypatch.setattr(portions, "MOST_QUESTIONS", questions)
        monkeypatch.setattr(portions, "MOST_TOKENS", tokens)
        rows = [batch.input_ids.shape[0] for batch in portions.portions(crowded, 9, processor)]
        assert sum(rows) == 26
        assert max(rows) <= max(1, min(questions, tokens // 6))
        parted = examine(arr, processor, crowded, 9, BUDGETS, "cpu")
        assert [at.correct for at in parted.found] == [at.correct for at in whole.found]
        assert [at.loss for at in parted.found] == pytest.approx([at.loss for at in whole.found])


def test_batches_are_filled_up_to_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    _, processor, source = learnt()
    monkeypatch.setattr(portions, "MOST_QUESTIONS", 4)
    rows = [batch.input_ids.shape[0] for batch in portions.portions(source, 7, processor)]
    assert rows == [4, 4, 4, 2]


def test_the_model_comes_back_as_it_was() -> None:
    arr, processor, source = learnt()
    assert arr.selector is not None
    arr.selector.train()
    modes = [part.training for part in arr.modules()]
    assert len(set(modes)) == 2
    examine(arr, processor, source, 2, [1], "cpu")
    assert [part.training for part in arr.modules()] == modes
    with pytest.raises(BadInput):
        examine(arr, processor, Listed((Example(source.example(0).image, ()),)), 1, [1], "cpu")
    assert [part.training for part in arr.modules()] == modes
    arr.eval()


def test_a_reader_without_a_selector_is_examined_with_all_tokens() -> None:
    arr, processor = small_arr.build(selector=False)
    found = examine(arr, processor, small_arr.pictures(3), 99, [0.5, 0.25], "cpu")
    assert found.budgets == (1.0,)
    assert found.images == 3
    assert "all 7 tokens" in found.summary()[1]


def test_evidence_that_is_not_known_is_not_made_up() -> None:
    arr, processor, _ = learnt()
    plain = Listed((Example(small_arr.picture(0).image, (Question("which colour", "red"),)),))
    found = examine(arr, processor, plain, 1, [0.5], "cpu")
    assert found.evidence_recall_at(0.5) is None
    assert "evidence" not in " ".join(found.summary())


@pytest.mark.parametrize(
    ("examples", "budgets", "words"),
    [(0, [1.0], "at least one example"), (1, [], "at least one budget"), (1, [1.5], "1.5")],
)
def test_what_cannot_be_examined_is_refused(
    examples: int, budgets: list[float], words: str
) -> None:
    arr, processor, source = learnt()
    with pytest.raises(ValueError, match=words):
        examine(arr, processor, source, examples, budgets, "cpu")


def test_the_interval_is_wilsons() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81/263 and 0/20, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


FOUND = Examination(
    images=100,
    questions=1200,
    blocks=1200 * 16,
    evidence=1200,
    constant="7",
    best_constant=0.12,
    where="before",
    gestalt=0.0,
    found=(
        AtBudget(1.0, 1129, 0.2, 1200 * 16, 1200),
        AtBudget(0.125, 1116, 0.3, 1200 * 2, 1178),
        AtBudget(0.0625, 150, float("inf"), 1200, 300),
    ),
)


def test_the_summary_tells_each_budget_beside_what_needs_no_reading() -> None:
    lines = FOUND.summary()
    assert lines[0].startswith("1,200 questions about 100 images")
    assert lines[1].startswith("accuracy 94.1 % with all 16 tokens, 95 % interval 92.6 % to 95.3 %")
    assert lines[2].startswith("accuracy 93.0 % with 2 of 16 tokens (12.5 % of the image), ")
    assert lines[2].endswith("98.2 % of the evidence kept")
    assert lines[3].endswith("not above the most frequent answer")
    assert lines[4] == 'always answering the most frequent answer ("7") gives 12.0 %'


def test_figures_are_found_by_budget_and_go_into_json() -> None:
    assert FOUND.accuracy_at(0.125) == 0.93
    with pytest.raises(KeyError, match=r"budget 0\.5 was not examined; there are 1, 0\.125, 0\.06"):
        FOUND.accuracy_at(0.5)
    told = json.loads(json.dumps(FOUND.as_dict(), allow_nan=False))
    assert told["budgets"][1]["accuracy"] == 0.93
    assert told["budgets"][1]["kept_share"] == 0.125
    assert told["budgets"][2]["loss"] is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of data: three pictures with a question each, all for validation."""
    root = tmp_path / "data"
    root.mkdir()
    lines = []
    for number in range(3):
        example = small_arr.picture(number)
        Image.fromarray(example.image).save(root / f"{number}.png")
        asked = example.questions[0]
        entry = {"image": f"{number}.png", "question": asked.text, "answer": asked.answer}
        lines.append(json.dumps({**entry, "split": "validation"}))
    (root / "data.jsonl").write_text("\n".join(lines))
    return root


def test_the_command_examines_a_checkpoint_on_a_folder(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arr, processor, _ = learnt()
    saved = str(small_arr.save(arr, processor, tmp_path / "saved"))
    options = ["--data", str(folder), "--budget", "0.2", "--device", "cpu"]
    out = tmp_path / "out"
    assert evaluate.main([saved, *options, "--json", "--out", str(out)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [at["budget"] for at in told["budgets"]] == [1.0, 0.2]
    assert told["budgets"][0]["accuracy"] == 1.0
    assert (out / "README.md").is_file()
    assert evaluate.main([saved, *options, "--examples", "1"]) == 0
    assert capsys.readouterr().out.startswith("1 question about 1 image, ")


def test_the_command_knows_the_generated_tasks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arr, processor, _ = learnt()
    saved = str(small_arr.save(arr, processor, tmp_path / "saved"))
    assert evaluate.main([saved, "--data", "frames", "--examples", "2", "--budget", "0.125"]) == 0
    assert "with 2 of 16 tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--data", "nowhere"], "neither one of frames, "),
        (["--data", "frames", "--option", "a=b"], "has no options"),
        (["--data", "{folder}", "--option", "path"], "KEY=VALUE"),
        (["--data", "{folder}", "--option", "colour=red"], "no option 'colour'"),
        (["--device", "abacus"], "no such device"),
        (["--out", "{folder}/data.jsonl"], "name another folder"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    tmp_path: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    words: str,
) -> None:
    arguments = [part.format(folder=folder) for part in more]
    assert evaluate.main([str(tmp_path), *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert words in told.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "no such folder"),
        ([".", "--examples", "0"], "whole number from 1"),
        ([".", "--budget", "0"], "not in (0, 1]"),
        ([".", "--gestalt", "1"], "not in [0, 1)"),
    ],
)
def test_an_option_out_of_its_bounds_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        evaluate.main(arguments)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert words in told
