"""The arms of the relevance benchmark: what each gives the reader, and that it keeps its budget."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import relevance_arms
import small_arr
import torch
from relevance_arms import ARMS, Models, Outcome, exact, recall
from relevance_merging import patch_rows
from torch import Tensor

from ARR_COC.attending import Budget, uniform
from ARR_COC.encoding import encode
from ARR_COC.realizing import ArrCoc
from ARR_COC.selector import Selector, SelectorConfig
from ARR_COC.texture import pixels
from ARR_COC.Training import signals
from ARR_COC.Training.collate import IGNORED, Batch, collate
from ARR_COC.Training.examples import Example, Question

EVERY = [(arm, where) for arm, places in ARMS.items() for where in places]
SCALED = ("downsample", "tome")
TRAINED = {"query_blind": "learned", "ours_participatory": "participatory"}
TRAINED |= {"ours_thirds": "thirds", "ours": "learned"}


@cache
def models() -> Models:
    arr, _ = small_arr.build(selector=False)
    torch.manual_seed(1)
    selectors = {
        arm: Selector(SelectorConfig(64, balance=balance, blind=arm == "query_blind"))
        for arm, balance in TRAINED.items()
    }
    return Models(arr, selectors)


@cache
def batch() -> Batch:
    """Three images, of 16, 6 and 16 blocks, with three, one and two questions."""
    random = np.random.default_rng(0)
    asked = (
        Question("which colour", "red", ((0, 0, 40, 20),)),
        Question("what number", "47"),
        Question("which number", "5", ((32, 32, 64, 64),)),
    )
    shapes = ((128, 128), asked), ((64, 96), asked[:1]), ((128, 128), asked[1:])
    examples = [
        Example(random.integers(0, 256, (*size, 3), dtype=np.uint8), questions)
        for size, questions in shapes
    ]
    return collate(examples, small_arr.build()[1])


SIZES = (16, 16, 16, 6, 16, 16)


def answered(arm: str, where: str, budget: float, seed: int = 0) -> Outcome:
    rng = np.random.default_rng(seed)
    return relevance_arms.answered(arm, where, models(), batch(), budget, rng)


def kept(arm: str, where: str, budget: float, seed: int = 0) -> tuple[Tensor, ...]:
    blocks = answered(arm, where, budget, seed).kept
    assert blocks is not None
    return blocks


def visual(outcome: Outcome) -> Tensor:
    """Return how many image tokens each row of the prompt has."""
    image: int = models().arr.qwen.config.image_token_id
    return (outcome.answered.prompt.input_ids == image).sum(1)


@cache
def stock() -> Tensor:
    """Return the logits of transformers' own model, an image for each row."""
    qwen, asked = models().arr.qwen, batch()
    parts = torch.split(asked.pixel_values, asked.image_grid_thw.prod(-1).tolist())
    with torch.no_grad():
        logits: Tensor = qwen(
            input_ids=asked.input_ids,
            attention_mask=asked.attention_mask,
            mm_token_type_ids=(asked.input_ids == qwen.config.image_token_id).int(),
            pixel_values=torch.cat([parts[image] for image in asked.images.tolist()]),
            image_grid_thw=asked.image_grid_thw[asked.images],
        ).logits
    return logits


@pytest.mark.parametrize(("arm", "where"), EVERY)
def test_the_whole_budget_is_the_stock_model(arm: str, where: str) -> None:
    outcome = answered(arm, where, 1.0)
    seen = batch().attention_mask.bool()
    torch.testing.assert_close(outcome.answered.logits[seen], stock()[seen], rtol=0, atol=2e-5)
    assert outcome.tokens == pytest.approx(sum(SIZES) / len(SIZES))


@pytest.mark.parametrize("budget", [0.05, 0.3, 0.5])
@pytest.mark.parametrize(("arm", "where"), [pair for pair in EVERY if pair[0] != "full"])
def test_every_arm_has_the_tokens_of_its_budget(arm: str, where: str, budget: float) -> None:
    outcome = answered(arm, where, budget)
    counts = torch.tensor([Budget(budget).of(size) for size in SIZES])
    if outcome.kept is not None:
        assert [len(blocks) for blocks in outcome.kept] == counts.tolist()
        assert all((blocks.diff() > 0).all() for blocks in outcome.kept)
    if arm == "fastv":
        layers, full = int(where[-1]), sum(SIZES) / len(SIZES)
        left = float(counts.float().mean())
        assert outcome.tokens == pytest.approx((layers * full + (3 - layers) * left) / 3)
        return
    if arm == "downsample":
        assert (visual(outcome) <= counts).all()
    else:
        assert torch.equal(visual(outcome), counts)
    assert outcome.tokens == pytest.approx(float(visual(outcome).float().mean()))
    assert (outcome.kept is None) == (arm in SCALED)


@pytest.mark.parametrize(("arm", "where"), EVERY)
def test_before_the_tower_means_that_it_sees_no_more(arm: str, where: str) -> None:
    given: list[int] = []
    hook = models().arr.qwen.model.visual.patch_embed.register_forward_pre_hook(
        lambda _, args: given.append(len(args[0]))
    )
    outcome = answered(arm, where, 0.3)
    hook.remove()
    if arm == "downsample":
        assert given == [4 * (4 + 2 + 4)]  # each image once: 2 x 2, 1 x 2 and 2 x 2 blocks
    else:
        whole = 4 * (16 + 6 + 16)
        assert given == [4 * int(visual(outcome).sum()) if where == "before" else whole]


def test_unknown_arms_and_places_are_refused() -> None:
    for arm, where in (("best", "before"), ("cdprune", "before"), ("fastv", "after")):
        with pytest.raises(ValueError, match="there is no arm"):
            answered(arm, where, 0.5)


def test_the_places_of_uniform_centre_and_random() -> None:
    assert torch.equal(kept("uniform", "after", 0.25)[0], uniform(16, 4, (4, 4)))
    assert kept("centre", "after", 0.25)[0].tolist() == [5, 6, 9, 10]
    one, same, other = (kept("random", "before", 0.25, seed) for seed in (1, 1, 2))
    assert all(map(torch.equal, one, same))
    assert not all(map(torch.equal, one, other))
    assert not torch.equal(one[0], one[1])  # drawn for each row, though the image is the same


def test_salience_keeps_the_block_with_the_most_edges() -> None:
    image = np.full((96, 96, 3), 90, dtype=np.uint8)
    image[32:64, 64:96] = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    image[64:96, 0:32] = 240  # bright and flat: edges on its border only
    asked = collate([Example(image, (Question("what", "5"),))], small_arr.build()[1])
    rng = np.random.default_rng(0)
    for where in ("before", "after"):
        found = relevance_arms.answered("salience", where, models(), asked, 0.1, rng).kept
        assert found is not None
        assert found[0].tolist() == [5]


def test_the_oracle_keeps_the_evidence_first() -> None:
    for budget, found in ((0.5, 1.0), (0.05, 0.5)):
        outcome = answered("oracle", "before", budget)
        shares = recall(outcome, batch())
        assert torch.equal(shares[[0, 2, 5]], torch.tensor([found, 1.0, 1.0]))  # 2, 1, 1 blocks
        assert shares[[1, 4]].isnan().all()  # no evidence is known
    assert kept("oracle", "before", 0.05)[0].tolist() == [0]
    assert recall(answered("tome", "after", 0.5), batch()).isnan().all()


def test_exact_wants_every_token_of_the_answer() -> None:
    outcome = answered("full", "after", 1.0)
    labels = batch().labels
    logits = torch.nn.functional.one_hot(labels.clamp(min=0), outcome.answered.logits.shape[-1])
    right = replace(outcome.answered, logits=logits.roll(-1, 1).float())
    assert exact(replace(outcome, answered=right), batch()).all()
    end = int((labels[1] != IGNORED).nonzero()[-1])
    right.logits[1, end - 1] = -right.logits[1, end - 1]
    assert exact(replace(outcome, answered=right), batch()).tolist() == [True, False] + [True] * 4


def test_the_blind_selector_scores_the_same_for_every_question() -> None:
    for arm, alike in (("query_blind", True), ("ours", False)):
        arr = ArrCoc(models().arr.qwen, models().selectors[arm])
        with torch.no_grad():
            first, second = (found.scores for found in signals.relevance(arr, batch())[:2])
        assert torch.equal(first, second) is alike


def test_patch_rows_undo_putting_an_image_together() -> None:
    rows = batch().pixel_values[64 : 64 + 24]  # the second image, 2 x 3 blocks
    torch.testing.assert_close(patch_rows(pixels(rows, (4, 6))), rows, rtol=0, atol=1e-6)


def test_downsampling_is_the_stock_model_on_the_smaller_image() -> None:
    """Halving a 4 x 4 image is averaging 2 x 2 pixels."""
    image = np.random.default_rng(3).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    image = image.repeat(2, axis=0).repeat(2, axis=1)[:128, :128]
    question = (Question("which colour", "red"),)
    words = small_arr.build()[1]
    whole = collate([Example(image, question)], words)
    half = collate([Example(image[::2, ::2], question)], words)
    rng = np.random.default_rng(0)
    scaled = relevance_arms.answered("downsample", "before", models(), whole, 0.25, rng).answered
    direct = relevance_arms.answered("full", "after", models(), half, 1.0, rng).answered
    assert torch.equal(scaled.prompt.input_ids, half.input_ids)
    assert torch.equal(scaled.prompt.position_ids, direct.prompt.position_ids)
    torch.testing.assert_close(scaled.logits, direct.logits, rtol=0, atol=2e-5)


def test_dominant_tokens_are_those_that_the_last_layer_attends_to() -> None:
    """Attention as transformers itself computes it, asked of a model whose attention is eager."""
    arr, _ = small_arr.build(selector=False)
    arr.qwen.set_attn_implementation("eager")
    asked = collate([small_arr.picture(1)], small_arr.build()[1])
    seen: list[Tensor] = []
    last: Any = arr.qwen.model.visual.blocks[-1].attn
    with torch.no_grad():
        rng = np.random.default_rng(0)
        found = relevance_arms.answered("visionzip", "after", Models(arr, {}), asked, 0.3, rng)
        with pytest.MonkeyPatch.context() as patch:
            name = "eager_attention_forward"
            module = sys.modules[type(last).__module__]
            original = getattr(module, name)

            def listen(of: Any, *args: Any, **kwargs: Any) -> Any:
                output = original(of, *args, **kwargs)
                if of is last:
                    seen.append(output[1])
                return output

            patch.setattr(module, name, listen)
            encode(arr.qwen, asked.pixel_values, asked.image_grid_thw)
    received = seen[0][0].mean((0, 1)).view(-1, 4).sum(1)
    assert found.kept is not None
    assert torch.equal(found.kept[0], received.topk(3).indices.sort().values)


@pytest.mark.parametrize("layer", [1, 2])
def test_fastv_keeps_what_the_last_token_of_the_prompt_attends_to(layer: int) -> None:
    arr, asked = models().arr, batch()
    found = kept("fastv", f"layer{layer}", 0.25)
    arr.qwen.set_attn_implementation("eager")
    with torch.no_grad():
        whole = arr(
            asked.input_ids,
            asked.attention_mask,
            asked.pixel_values,
            asked.image_grid_thw,
            asked.images,
            output_attentions=True,
        )
    arr.qwen.set_attn_implementation("sdpa")
    for row, size in enumerate(SIZES):
        asks = int((asked.labels[row] != IGNORED).nonzero()[0]) - 1
        blocks = (asked.input_ids[row] == arr.qwen.config.image_token_id).nonzero()[:, 0]
        paid = whole.attentions[layer - 1][row, :, asks].mean(0)[blocks]
        assert torch.equal(found[row], paid.topk(Budget(0.25).of(size)).indices.sort().values)
