"""Answers: loss, generated words, the selector's choice, saving and loading, and refusals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_qwen import PAD, Batch, batch, build, some
from torch import Tensor, nn
from transformers import Qwen3VLForConditionalGeneration

from ARR_COC.attending import Budget
from ARR_COC.realizing import ArrCoc
from ARR_COC.selector import Selector, SelectorConfig


@pytest.fixture(scope="module")
def qwen() -> Qwen3VLForConditionalGeneration:
    return build()


@pytest.fixture
def given() -> Batch:
    return batch([(3, 4), (5, 2)], [[1], [0, 1], [0]])


def test_the_loss_is_the_cross_entropy_of_the_labels(
    qwen: Qwen3VLForConditionalGeneration, given: Batch
) -> None:
    ends = given.attention_mask.sum(1).tolist()
    labels = torch.full_like(given.input_ids, -100)
    for row, end in enumerate(ends):
        labels[row, end - 2 : end] = given.input_ids[row, end - 2 : end]
    answered = ArrCoc(qwen)(**given.arguments(), labels=labels, kept=some(given.sizes))
    losses = []
    for row, columns in enumerate(answered.prompt.columns.tolist()):
        for place, column in enumerate(columns):
            if column >= 0 and labels[row, column] != -100:
                chances = answered.logits[row, place - 1].log_softmax(-1)
                losses.append(-chances[labels[row, column]])
    assert len(losses) == 6
    torch.testing.assert_close(answered.loss, torch.stack(losses).mean())
    shared = ArrCoc(qwen)(
        **given.arguments(), labels=labels, kept=some(given.sizes), num_items=torch.tensor(24)
    )
    torch.testing.assert_close(shared.loss, torch.stack(losses).sum() / 24)


def alone(given: Batch, row: int, kept: list[Tensor], more: list[int]) -> dict[str, Any]:
    """Return one row without padding, with its runs' images and blocks, and more words."""
    runs = [0, 1, 3, 4]
    ids = given.input_ids[row][given.attention_mask[row].bool()]
    ids = torch.cat((ids, ids.new_tensor(more)))[None]
    return {
        **given.arguments(),
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "images": given.images[runs[row] : runs[row + 1]],
        "kept": kept[runs[row] : runs[row + 1]],
    }


@pytest.mark.parametrize("where", ["before", "after"])
def test_generated_words_are_those_of_a_recompute_word_by_word(
    qwen: Qwen3VLForConditionalGeneration, given: Batch, where: Any
) -> None:
    model = ArrCoc(qwen)
    kept = some(given.sizes)
    assert len({len(blocks) for blocks in kept}) > 1
    written = model.generate(
        **given.arguments(), kept=kept, where=where, max_new_tokens=6, do_sample=False
    )
    for row in range(3):
        words: list[int] = []
        for _ in range(6):
            with torch.no_grad():
                logits = model(**alone(given, row, kept, words), where=where).logits
            words.append(int(logits[0, -1].argmax()))
        assert written[row].tolist() == words


def test_generating_with_all_blocks_is_the_stock_model(
    qwen: Qwen3VLForConditionalGeneration,
) -> None:
    given = batch([(3, 4), (5, 2)], [[1], [0, 1], [0]], left=True)
    ours = ArrCoc(qwen).generate(**given.arguments(), max_new_tokens=6, do_sample=False)
    theirs = qwen.generate(**given.stock(), max_new_tokens=6, do_sample=False)
    assert ours.tolist() == theirs[:, given.input_ids.shape[1] :].tolist()


def test_a_row_that_has_ended_is_padded(
    qwen: Qwen3VLForConditionalGeneration, given: Batch
) -> None:
    options = {"max_new_tokens": 4, "do_sample": False}
    free = ArrCoc(qwen).generate(**given.arguments(), **options)
    end = int(free[0, 0])
    ended = ArrCoc(qwen).generate(**given.arguments(), **options, eos_token_id=end)
    assert ended[0, 0] == end
    assert (ended[0, 1:] == PAD).all()


@dataclass
class Scored:
    scores: Tensor


class Striking(nn.Module):
    """A stand-in for the selector that scores later blocks higher, and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.saw: dict[str, Tensor] = {}

    def forward(
        self,
        pixel_values: Tensor,
        image_grid_thw: Tensor,
        images: Tensor,
        run_rows: Tensor,
        query: Tensor,
        query_mask: Tensor,
    ) -> list[Scored]:
        self.saw = {"run_rows": run_rows, "query": query, "query_mask": query_mask}
        sizes = (image_grid_thw.prod(-1) // 4)[images].tolist()
        return [Scored(torch.arange(float(size))) for size in sizes]


def test_a_budget_keeps_what_the_selector_scores_highest(
    qwen: Qwen3VLForConditionalGeneration, given: Batch
) -> None:
    selector = Striking()
    model = ArrCoc(qwen, selector)
    query_mask = torch.zeros_like(given.input_ids, dtype=torch.bool)
    query_mask[:, 0] = True
    half = Budget(0.5)
    highest = [torch.arange(size // 2, size) for size in given.sizes]
    with torch.no_grad():
        chosen = model(**given.arguments(), query_mask=query_mask, budget=half)
        named = model(**given.arguments(), kept=highest)
    assert torch.equal(chosen.logits, named.logits)
    assert selector.saw["run_rows"].tolist() == [0, 1, 1, 2]
    assert selector.saw["query"].shape == (*given.input_ids.shape, 64)
    assert model.generate(
        **given.arguments(), query_mask=query_mask, budget=half, max_new_tokens=3, do_sample=False
    ).equal(model.generate(**given.arguments(), kept=highest, max_new_tokens=3, do_sample=False))


def test_a_budget_without_a_selector_is_refused(
    qwen: Qwen3VLForConditionalGeneration, given: Batch
) -> None:
    with pytest.raises(ValueError, match="selector"):
        ArrCoc(qwen)(**given.arguments(), budget=Budget(0.5))


def test_the_whole_comes_back_from_its_folder(tmp_path: Path, given: Batch) -> None:
    saved = ArrCoc(build(seed=3), Selector(SelectorConfig(embedding=64)))
    saved.save_pretrained(tmp_path)
    loaded = ArrCoc.from_pretrained(tmp_path)
    asked: dict[str, Any] = {
        **given.arguments(),
        "query_mask": given.attention_mask.bool(),
        "budget": Budget(0.3),
    }
    assert loaded.state_dict().keys() == saved.state_dict().keys()
    with torch.no_grad():
        first = saved(**asked)
        assert torch.equal(loaded(**asked).logits, first.logits)
    half = ArrCoc.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.qwen.dtype == torch.bfloat16
    with torch.no_grad():
        assert half(**asked).logits.shape == first.logits.shape


def test_a_model_without_selector_does_not_hide_behind_an_old_one(tmp_path: Path) -> None:
    model = ArrCoc(build())
    model.save_pretrained(tmp_path)
    assert ArrCoc.from_pretrained(tmp_path).selector is None
    (tmp_path / "selector").mkdir()
    with pytest.raises(FileExistsError, match="selector"):
        model.save_pretrained(tmp_path)


def other(kept: list[Tensor], run: int, blocks: list[int]) -> list[Tensor]:
    return [*kept[:run], torch.tensor(blocks), *kept[run + 1 :]]


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize(
    ("run", "blocks", "told"),
    [
        (1, [3, 1], r"kept\[1\] is not ascending: \[3, 1\]"),
        (1, [1, 1], r"kept\[1\] is not ascending: \[1, 1\]"),
        (2, [0, 10], r"kept\[2\] has blocks outside 0 to 9: \[0, 10\]"),
        (0, [-1, 2], r"kept\[0\] has blocks outside 0 to 9: \[-1, 2\]"),
        (3, [], r"kept\[3\]"),
        (3, [0.5], r"kept\[3\] must be a vector of int64"),
    ],
)
def test_blocks_that_cannot_be_kept_are_refused(
    qwen: Qwen3VLForConditionalGeneration,
    given: Batch,
    where: Any,
    run: int,
    blocks: list[int],
    told: str,
) -> None:
    kept = other(given.every(), run, blocks)
    with pytest.raises(ValueError, match=told):
        ArrCoc(qwen)(**given.arguments(), kept=kept, where=where)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"kept": [torch.arange(4)]}, "1 tensors for 4 runs"),
        ({"kept": [torch.zeros(0, dtype=torch.long)] * 4}, "empty"),
        ({"where": "between"}, "'before' or 'after'"),
        ({"images": torch.tensor([1, 0, 1])}, "4 runs of image tokens .* names 3"),
        ({"images": torch.tensor([1, 0, 1, 2])}, "numbers from 0 to 1"),
        ({"images": torch.tensor([0, 0, 1, 0])}, "run 0 has 10 image tokens, its image 12 blocks"),
        ({"image_grid_thw": torch.tensor([[2, 6, 4], [1, 10, 4]])}, "videos"),
        ({"pixel_values": torch.zeros(80, 1536)}, "80 patches, image_grid_thw counts 88"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    qwen: Qwen3VLForConditionalGeneration, given: Batch, changed: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        ArrCoc(qwen)(**{**given.arguments(), **changed})


def test_a_prompt_that_ends_in_an_image_cannot_be_answered(
    qwen: Qwen3VLForConditionalGeneration,
) -> None:
    given = batch([(2, 2)], [[0]])
    arguments = given.arguments()
    arguments["input_ids"] = given.input_ids[:, :-4]
    arguments["attention_mask"] = given.attention_mask[:, :-4]
    with pytest.raises(ValueError, match="ends in an image"):
        ArrCoc(qwen).generate(**arguments)


def test_another_transformers_is_refused_by_name(
    qwen: Qwen3VLForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ARR_COC.realizing.transformers.__version__", "5.24.0")
    with pytest.raises(ImportError, match=r"transformers 5\.23\.0 only, 5\.24\.0 is installed"):
        ArrCoc(qwen)
