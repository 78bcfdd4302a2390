"""The published ways to choose and to merge tokens, on tokens made by hand, and FastV by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import relevance_arms
import small_arr
import torch
from relevance_arms import Models
from relevance_choosing import conditionally_diverse, diverse
from relevance_merging import averaged, ends, matched, smaller_grid, summed_up
from torch import Tensor

from ARR_COC.encoding import encode
from ARR_COC.prompt import shorten
from ARR_COC.Training.collate import Batch, collate
from ARR_COC.Training.examples import Question


def test_smaller_grids_keep_the_aspect_and_use_the_budget() -> None:
    assert [smaller_grid((4, 4), k) for k in (16, 8, 4, 2, 1)] == [
        (4, 4),
        (2, 4),
        (2, 2),
        (1, 2),
        (1, 1),
    ]
    assert smaller_grid((2, 8), 4) == (1, 4)


def test_token_merging_takes_the_most_alike_first_and_weighs_by_size() -> None:
    tokens = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    tokens[4] = tokens[1]
    into = matched(tokens, 7)
    assert into.tolist() == [0, 1, 2, 3, 1, 5, 6, 7]
    one = matched(tokens, 1)
    torch.testing.assert_close(averaged(tokens, one), tokens.mean(0, keepdim=True))
    for k in range(1, 9):
        assert len(ends(matched(tokens, k))) == k


def test_a_merged_token_is_compared_as_the_mean_of_its_parts() -> None:
    """0 and 1, 2 and 3, 4 and 5 merge; then the means of the last two are nearer than the others.

    What they were merged into alone, 1, 3 and 5, would say otherwise.
    """
    angles = torch.tensor([-10.0, 20.0, 50.0, 40.0, 85.0, 75.0]) * math.pi / 180
    tokens = torch.stack((angles.cos(), angles.sin()), dim=1)
    assert matched(tokens, 3).tolist() == [1, 1, 3, 3, 5, 5]
    assert matched(tokens, 2).tolist() == [1, 1, 3, 3, 3, 3]


def test_max_min_diversity_picks_the_distinct() -> None:
    tokens = torch.eye(4, 8).repeat(3, 1)  # four different tokens, three times each
    chosen = diverse(tokens + 0.01 * torch.arange(12)[:, None] / 12, 4)
    assert sorted(int(token) % 4 for token in chosen) == [0, 1, 2, 3]


def test_conditional_diversity_prefers_the_relevant_but_not_twice() -> None:
    tokens = torch.eye(6, 8)
    tokens[1] = tokens[0]
    question = torch.tensor([1.0, 0.0, 0.2, 0.9, 0.1, 0.0, 0.0, 0.0])
    assert conditionally_diverse(tokens, question, 1).tolist() == [0]
    assert conditionally_diverse(tokens, question, 2).tolist() == [0, 3]
    assert conditionally_diverse(tokens, question, 6).tolist() == [0, 1, 2, 3, 4, 5]


def test_contextual_tokens_sum_up_what_received_no_attention() -> None:
    received = torch.arange(64.0)
    keys = torch.eye(2, 4).repeat(32, 1)  # two kinds of token, by turns
    for k in (1, 4, 16, 64):
        assert len(ends(summed_up(received, keys, k))) == k
    into = summed_up(received, keys, 13)
    assert into[-11:].tolist() == list(range(53, 64))  # 54 of 64 parts are dominant
    assert (into >= 0).all()
    targets = ends(into)[:2].tolist()
    assert targets == [13, 39]  # evenly spaced; both are of the odd kind, so the first takes all
    assert set(into[:53].tolist()) == set(targets)
    assert (summed_up(received, keys, 1) >= 0).sum() == 1


@pytest.mark.parametrize("layer", [1, 2])
def test_fastv_is_the_same_as_really_dropping(layer: int) -> None:
    """Layer by layer by hand, with the columns of the others cut out after the first ones."""
    arr, _ = small_arr.build(selector=False)
    asked = collate(
        [replace(small_arr.picture(1), questions=(Question("what", "5"),))], small_arr.build()[1]
    )
    rng = np.random.default_rng(0)
    where = f"layer{layer}"
    outcome = relevance_arms.answered("fastv", where, Models(arr, {}), asked, 0.4, rng)
    assert outcome.kept is not None
    assert arr.qwen.model.language_model.config._attn_implementation == "sdpa"  # put back
    columns, logits = _dropped(arr.qwen, asked, outcome.kept[0], layer)
    hidden = outcome.answered.logits[0, columns]
    torch.testing.assert_close(hidden, logits, rtol=0, atol=2e-5)
    whole = relevance_arms.answered("full", "after", Models(arr, {}), asked, 1.0, rng)
    assert (whole.answered.logits[0, columns] - logits).abs().max() > 0.01


def test_fastv_needs_a_layer_after_the_drop() -> None:
    arr, _ = small_arr.build(selector=False)
    arr.qwen.model.language_model.layers = arr.qwen.model.language_model.layers[:2]
    asked = collate([small_arr.picture(1)], small_arr.build()[1])
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="after layer 1 to 1, not 2"):
        relevance_arms.answered("fastv", "layer2", Models(arr, {}), asked, 0.5, rng)


@torch.no_grad()
def _dropped(qwen: Any, asked: Batch, left: Tensor, layer: int) -> tuple[Tensor, Tensor]:
    """Return the columns left of a single row, and their logits."""
    model = qwen.model.language_model
    encoded = encode(qwen, asked.pixel_values, asked.image_grid_thw)
    prompt = shorten(qwen, asked.input_ids, asked.attention_mask, asked.image_grid_thw)
    visual = prompt.input_ids[0] == qwen.config.image_token_id
    hidden = model.embed_tokens(prompt.input_ids)
    hidden[0, visual] = encoded.main[0]
    cos, sin = model.rotary_emb(hidden, prompt.position_ids[1:])
    columns = torch.arange(len(visual))
    taps = [tap[0] for tap in encoded.taps]
    for number, decoder in enumerate(model.layers):
        if number == layer:
            dropped = visual.nonzero()[:, 0]
            dropped = dropped[~torch.isin(torch.arange(len(dropped)), left)]
            columns = columns[~torch.isin(columns, dropped)]
            hidden, cos, sin = hidden[:, columns], cos[:, columns], sin[:, columns]
            visual, taps = visual[columns], [tap[left] for tap in taps]
        causal = torch.ones(len(columns), len(columns), dtype=torch.bool).tril()[None, None]
        hidden = decoder(hidden, attention_mask=causal, position_embeddings=(cos, sin))
        if number < len(taps):
            hidden[0, visual] += taps[number]
    logits: Tensor = qwen.lm_head(model.norm(hidden))
    return columns, logits[0]
