"""A bias on image tokens' keys: what it does to the answer, and the gradient that comes back."""

from __future__ import annotations

import pytest
import torch
from tiny_qwen import IMAGE, Batch, batch, build, some
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration

from ARR_COC.encoding import encode
from ARR_COC.prompt import biased_mask, shorten
from ARR_COC.realizing import ArrCoc


@pytest.fixture(scope="module")
def qwen() -> Qwen3VLForConditionalGeneration:
    return build()


@pytest.fixture
def given() -> Batch:
    return batch([(3, 4), (5, 2)], [[1], [0, 1], [0]])


def labels_of(given: Batch) -> Tensor:
    """Return labels on the last two tokens of each row."""
    ends = given.attention_mask.sum(1, keepdim=True)
    place = torch.arange(given.input_ids.shape[1])
    return given.input_ids.masked_fill((place < ends - 2) | (place >= ends), -100)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_bias_of_nothing_changes_nothing(given: Batch, attention: str) -> None:
    model = ArrCoc(build(attention=attention))
    kept = some(given.sizes)
    none = [torch.zeros(len(blocks)) for blocks in kept]
    with torch.no_grad():
        plain = model(**given.arguments(), kept=kept)
        biased = model(**given.arguments(), kept=kept, key_bias=none)
    tokens = plain.prompt.columns >= 0
    torch.testing.assert_close(biased.logits[tokens], plain.logits[tokens], atol=1e-5, rtol=1e-5)


def test_a_bias_is_the_same_with_padding_on_either_side(
    qwen: Qwen3VLForConditionalGeneration, given: Batch
) -> None:
    bias = [torch.linspace(-2, 2, n) for n in given.sizes]
    with torch.no_grad():
        right = ArrCoc(qwen)(**given.arguments(), key_bias=bias)
        prompt = shorten(
            qwen,
            given.input_ids,
            given.attention_mask,
            given.image_grid_thw,
            given.images,
            padding_side="left",
        )
        left = qwen(
            input_ids=prompt.input_ids,
            attention_mask=biased_mask(qwen, prompt, bias, None, torch.tensor(given.sizes)),
            position_ids=prompt.position_ids,
            mm_encoder_outputs=encode(
                qwen, given.pixel_values, given.image_grid_thw, given.images
            ).outputs(),
        ).logits
    pair = left[prompt.columns >= 0], right.logits[right.prompt.columns >= 0]
    torch.testing.assert_close(*pair, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("depth", [-1e4, -torch.inf])
def test_a_bias_without_bottom_is_to_drop_the_token(
    qwen: Qwen3VLForConditionalGeneration, given: Batch, depth: float
) -> None:
    kept = some(given.sizes)
    bias = [torch.full((n,), depth) for n in given.sizes]
    for run, blocks in zip(bias, kept, strict=True):
        run[blocks] = 0.0
    model = ArrCoc(qwen)
    with torch.no_grad():
        dropped = model(**given.arguments(), kept=kept, where="after")
        hidden = model(**given.arguments(), key_bias=bias)
    tokens = dropped.prompt.columns >= 0
    columns = dropped.prompt.columns.clamp(min=0)
    same = hidden.logits.gather(1, columns[..., None].expand_as(dropped.logits))
    torch.testing.assert_close(same[tokens], dropped.logits[tokens], atol=1e-5, rtol=1e-5)


def test_a_bias_of_all_blocks_is_that_of_the_kept_ones(
    qwen: Qwen3VLForConditionalGeneration, given: Batch
) -> None:
    kept = some(given.sizes)
    whole = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in given.sizes]
    part = [bias[blocks] for bias, blocks in zip(whole, kept, strict=True)]
    model = ArrCoc(qwen)
    with torch.no_grad():
        one = model(**given.arguments(), kept=kept, key_bias=whole)
        other = model(**given.arguments(), kept=kept, key_bias=part)
    assert torch.equal(one.logits, other.logits)


def test_more_bias_draws_attention_in_every_layer_and_for_later_words_only(given: Batch) -> None:
    model = ArrCoc(build(attention="eager"))
    bias = [torch.zeros(n) for n in given.sizes]
    raised = [run.clone() for run in bias]
    raised[1][3] = 2.0
    with torch.no_grad():
        before = model(**given.arguments(), key_bias=bias, output_attentions=True)
        after = model(**given.arguments(), key_bias=raised, output_attentions=True)
    column = int((given.input_ids[1] == IMAGE).nonzero()[3])
    assert before.attentions is not None
    assert after.attentions is not None
    assert len(after.attentions) == 3
    later = slice(column + 1, int(given.attention_mask[1].sum()))
    for old, new in zip(before.attentions, after.attentions, strict=True):
        assert (new[1, :, later, column].mean(1) > old[1, :, later, column].mean(1)).all()
        assert torch.equal(new[1, :, : column + 1], old[1, :, : column + 1])
        assert torch.equal(new[0], old[0])
        assert torch.equal(new[2], old[2])
    first_old, first_new = before.attentions[0][1, :, later], after.attentions[0][1, :, later]
    odds = first_new[..., column] / first_new[..., 0] / (first_old[..., column] / first_old[..., 0])
    torch.testing.assert_close(odds.log(), torch.full_like(odds, 2.0), atol=1e-4, rtol=1e-4)


def test_the_gradient_is_the_slope_of_the_loss(
    qwen: Qwen3VLForConditionalGeneration, given: Batch
) -> None:
    model = ArrCoc(qwen).requires_grad_(False)
    kept = some(given.sizes)

    def loss(bias: list[Tensor]) -> Tensor:
        found: Tensor = model(
            **given.arguments(), kept=kept, labels=labels_of(given), key_bias=bias
        ).loss
        return found

    leaves = [torch.zeros(len(blocks), requires_grad=True) for blocks in kept]
    loss(leaves).backward()
    for run, leaf in enumerate(leaves):
        assert leaf.grad is not None
        step = leaf.grad / leaf.grad.norm() * 0.05
        ahead = [x.detach() + step if i == run else x.detach() for i, x in enumerate(leaves)]
        behind = [x.detach() - step if i == run else x.detach() for i, x in enumerate(leaves)]
        slope = (loss(ahead) - loss(behind)) / 0.1
        assert slope > 1e-4
        torch.testing.assert_close(slope, leaf.grad.norm(), rtol=0.02, atol=1e-4)


def test_mixed_precision_takes_a_bias_too(
    qwen: Qwen3VLForConditionalGeneration, given: Batch
) -> None:
    bias = [torch.zeros(n, requires_grad=True) for n in given.sizes]
    with torch.autocast("cpu", torch.bfloat16):
        answered = ArrCoc(qwen)(**given.arguments(), labels=labels_of(given), key_bias=bias)
    answered.loss.backward()
    for run in bias:
        assert run.grad is not None
        assert run.grad.isfinite().all()
        assert run.grad.abs().max() > 0


def test_attentions_are_refused_where_they_cannot_be_had(
    qwen: Qwen3VLForConditionalGeneration, given: Batch
) -> None:
    with pytest.raises(ValueError, match="attn_implementation='eager'"):
        ArrCoc(qwen)(**given.arguments(), output_attentions=True)


@pytest.mark.parametrize(
    ("sizes", "told"), [((10, 12, 10), "3 tensors for 4 runs"), ((10, 12, 9, 12), r"key_bias\[2\]")]
)
def test_a_bias_that_does_not_fit_is_refused(
    qwen: Qwen3VLForConditionalGeneration, given: Batch, sizes: tuple[int, ...], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        ArrCoc(qwen)(**given.arguments(), key_bias=[torch.zeros(n) for n in sizes])
