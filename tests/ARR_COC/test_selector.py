"""The selector as a whole: gradients, batches, saving, and what the question does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ARR_COC.attending import Budget, attend
from ARR_COC.selector import BALANCES, Relevance, Selector, SelectorConfig

EMBEDDING = 12


def made(balance: str = "learned", blind: bool = False) -> Selector:
    torch.manual_seed(0)
    return Selector(SelectorConfig(EMBEDDING, balance=balance, blind=blind))


def scored(
    selector: Selector, grids: list[tuple[int, int]], images: list[int], seed: int = 0
) -> list[Relevance]:
    """Relevance of a run for each of `images`, each in a row with a question of its own."""
    random = torch.Generator().manual_seed(3)
    sizes = torch.tensor([[1, 2 * h, 2 * w] for h, w in grids])
    rows = torch.rand(int(sizes.prod(1).sum()), 3, 1, 256, generator=random) * 2 - 1
    pixel_values = rows.expand(-1, -1, 2, -1).reshape(len(rows), 1536)
    words = torch.Generator().manual_seed(seed)
    query = torch.randn(len(images), 4, EMBEDDING, generator=words)
    mask = torch.ones(len(images), 4, dtype=torch.bool)
    numbers = torch.arange(len(images))
    found: list[Relevance] = selector(
        pixel_values, sizes, torch.tensor(images), numbers, query, mask
    )
    return found


@pytest.mark.parametrize("balance", BALANCES)
def test_every_balance_scores_every_block_of_every_run(balance: str) -> None:
    found = scored(made(balance), [(2, 3), (4, 4), (2, 3)], [0, 1, 2, 1])
    assert [run.scores.shape for run in found] == [(6,), (16,), (6,), (16,)]
    assert all(run.scores.isfinite().all() for run in found)
    assert (found[0].tensions is not None) == (balance == "learned")


def test_an_image_of_one_block_can_be_scored() -> None:
    (only,) = scored(made(), [(1, 1)], [0])
    assert only.scores.shape == (1,)
    assert only.scores.isfinite().all()


def test_every_trainable_weight_gets_a_gradient() -> None:
    selector = made()
    found = scored(selector, [(4, 4), (3, 5)], [0, 1])
    loss = sum(-run.scores.log_softmax(0)[0] for run in found)
    loss.backward()  # type: ignore[union-attr]
    without = [n for n, p in selector.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_two_questions_about_one_image_want_other_blocks() -> None:
    one, other = scored(made(), [(6, 6)], [0, 0])
    kept = [attend(run.scores, run.grid, Budget(1 / 6)).tolist() for run in (one, other)]
    assert kept[0] != kept[1]


def test_a_blind_selector_hears_no_question() -> None:
    blind = made(blind=True)
    one, other = scored(blind, [(4, 4)], [0, 0])
    assert torch.equal(one.scores, other.scores)


@pytest.mark.parametrize("way", ["propositional", "perspectival"])
def test_a_way_that_ignores_the_question_gives_all_questions_the_same(way: str) -> None:
    one, other = scored(made(way), [(4, 4)], [0, 0])
    assert torch.equal(one.scores, other.scores)


def test_a_run_is_scored_the_same_whatever_is_beside_it() -> None:
    selector = made()
    alone = scored(selector, [(4, 4)], [0])[0]
    beside = scored(selector, [(4, 4), (2, 2), (4, 4)], [0, 1, 2])[0]
    assert torch.allclose(alone.scores, beside.scores, atol=1e-5)


def test_saved_and_loaded_it_scores_the_same(tmp_path: Path) -> None:
    selector = made()
    selector.save_pretrained(tmp_path / "selector")
    loaded = Selector.from_pretrained(tmp_path / "selector")
    assert loaded.config == selector.config
    first, second = (scored(s, [(4, 4)], [0])[0].scores for s in (selector, loaded))
    assert torch.equal(first, second)


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "unknown"])
def test_what_is_no_selector_is_refused_in_words(tmp_path: Path, damage: str) -> None:
    made().save_pretrained(tmp_path)
    weights, config = tmp_path / "selector.safetensors", tmp_path / "selector.json"
    if damage == "missing":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "other":
        config.write_text(json.dumps({"embedding": 99}))
    else:
        config.write_text(json.dumps({"embedding": EMBEDDING, "wings": 2}))
    with pytest.raises(ValueError, match="no selector that can be read"):
        Selector.from_pretrained(tmp_path)


def test_an_unknown_balance_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="learned, thirds"):
        SelectorConfig(8, balance="halves")
