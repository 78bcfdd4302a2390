"""What a selector learns from: each signal reaches each weight, and the reader stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_tasks import tiny

from ARR_COC.attending import Budget, attend
from ARR_COC.encoding import block_counts
from ARR_COC.Training import signals, subsets, tasks
from ARR_COC.Training.collate import collate


@pytest.mark.parametrize("name", list(signals.SIGNALS))
def test_every_signal_gives_every_weight_of_the_selector_a_gradient(name: str) -> None:
    arr, words = tiny()
    arr.qwen.requires_grad_(False)
    source = tasks.source("frames", "train", 0, 3)
    batch = collate([source.example(index) for index in range(2)], words)
    torch.manual_seed(0)
    found = signals.relevance(arr, batch)
    losses = signals.SIGNALS[name](arr, batch, found, Budget(1 / 4))
    assert losses.shape == (6,)
    losses.mean().backward()
    assert arr.selector is not None
    without = [n for n, p in arr.selector.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert all(weight.grad is None for weight in arr.qwen.parameters())


def test_the_attention_signal_is_least_where_the_scores_are_the_readers_attention() -> None:
    arr, words = tiny()
    batch = collate([tasks.source("frames", "train", 0, 2).example(0)], words)
    found = signals.relevance(arr, batch)
    first = signals.attention(arr, batch, found, Budget(1.0)).sum()
    scores = [run.scores for run in found]
    slopes = torch.autograd.grad(first, scores)
    # The slope of the cross-entropy is softmax(scores) - target, so the target can be read off it.
    targets = [s.detach().softmax(0) - slope for s, slope in zip(scores, slopes, strict=True)]
    for target in targets:
        assert float(target.sum()) == pytest.approx(1.0, abs=1e-5)
        assert float(target.min()) >= -1e-6


def test_the_usual_attention_is_back_after_the_signal() -> None:
    arr, words = tiny()
    batch = collate([tasks.source("frames", "train", 0, 2).example(0)], words)
    config = arr.qwen.model.language_model.config
    before = config._attn_implementation
    signals.attention(arr, batch, signals.relevance(arr, batch), Budget(1.0))
    assert config._attn_implementation == before == "sdpa"


def test_straight_through_answers_as_with_the_chosen_blocks_alone() -> None:
    arr, words = tiny()
    batch = collate([tasks.source("frames", "train", 0, 3).example(0)], words)
    found = signals.relevance(arr, batch)
    budget = Budget(1 / 4)
    kept = [attend(run.scores, run.grid, budget) for run in found]
    losses = signals.straight_through(arr, batch, found, budget)
    alone = signals.losses(signals.answer(arr, batch, kept=kept, where="after"), batch)
    assert torch.allclose(losses, alone, atol=2e-2)


def test_random_subsets_fit_their_images_and_half_of_them_hold_the_evidence() -> None:
    arr, words = tiny()
    source = tasks.source("frames", "train", 0, 6)
    batch = collate([source.example(index) for index in range(40)], words)
    kept = subsets.random_subsets(batch, np.random.default_rng(0))
    sizes = block_counts(arr.qwen, batch.image_grid_thw)[batch.images].tolist()
    for blocks, size in zip(kept, sizes, strict=True):
        assert blocks.tolist() == sorted(set(blocks.tolist()))
        assert 0 <= int(blocks[0]) <= int(blocks[-1]) < size
    held = [set(e.tolist()) <= set(k.tolist()) for e, k in zip(batch.evidence, kept, strict=True)]
    assert 0.55 < np.mean(held) < 0.8  # half on purpose, and a third of the others by luck
    counts = [len(blocks) for blocks in kept]
    assert min(counts) == 1
    assert max(counts) >= 14


def test_a_model_without_a_selector_cannot_be_taught_to_select() -> None:
    arr, words = tiny()
    arr.selector = None
    batch = collate([tasks.source("frames", "train", 0, 1).example(0)], words)
    with pytest.raises(ValueError, match="no selector"):
        signals.relevance(arr, batch)
