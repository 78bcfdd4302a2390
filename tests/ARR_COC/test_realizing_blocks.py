"""Which blocks are seen: with all of them the stock model, with some what it makes of those."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from tiny_qwen import IMAGE, Batch, batch, build, some
from torch import Tensor
from transformers import AttentionInterface, Qwen3VLForConditionalGeneration
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ARR_COC.encoding import Encoded, encode, keep
from ARR_COC.prompt import shorten
from ARR_COC.realizing import Answered, ArrCoc

BATCHES = {
    "one image": lambda: batch([(3, 4)], [[0]]),
    "several sizes, padded": lambda: batch([(3, 4), (2, 5), (4, 4)], [[0], [1], [2]]),
    "two images in a row": lambda: batch([(3, 4), (2, 5)], [[0, 1]]),
    "several rows on one image": lambda: batch([(3, 4)], [[0], [0], [0]]),
    "all of it": lambda: batch([(3, 4), (5, 2)], [[1], [0, 1], [], [0, 0]]),
    "padded on the left": lambda: batch([(3, 4), (5, 2)], [[1], [0, 1], [0]], left=True),
}


@pytest.fixture(scope="module")
def qwen() -> Qwen3VLForConditionalGeneration:
    return build()


def at_columns(answered: Answered, whole: Tensor) -> tuple[Tensor, Tensor]:
    """Return the answer's logits and those of whole [rows, L, V] at the same tokens."""
    columns = answered.prompt.columns
    tokens = columns >= 0
    rows = torch.arange(len(columns))[:, None].expand_as(columns)
    return answered.logits[tokens], whole[rows[tokens], columns[tokens]]


@pytest.mark.parametrize("where", [None, "before", "after"])
@pytest.mark.parametrize("name", [name for name in BATCHES if name != "padded on the left"])
def test_all_blocks_are_exactly_the_stock_model(
    qwen: Qwen3VLForConditionalGeneration, name: str, where: Any
) -> None:
    given = BATCHES[name]()
    chosen = {} if where is None else {"kept": given.every(), "where": where}
    with torch.no_grad():
        ours, theirs = at_columns(
            ArrCoc(qwen)(**given.arguments(), **chosen), qwen(**given.stock()).logits
        )
    assert len(ours) == given.attention_mask.sum()
    assert (ours - theirs).abs().max() == 0.0


def test_padding_on_the_left_is_as_good(qwen: Qwen3VLForConditionalGeneration) -> None:
    given = BATCHES["padded on the left"]()
    with torch.no_grad():
        pair = at_columns(ArrCoc(qwen)(**given.arguments()), qwen(**given.stock()).logits)
    torch.testing.assert_close(*pair, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", BATCHES)
def test_positions_are_those_that_the_whole_prompt_has(
    qwen: Qwen3VLForConditionalGeneration, name: str
) -> None:
    given = BATCHES[name]()
    stock = given.stock()
    theirs, _ = qwen.model.get_rope_index(
        stock["input_ids"],
        stock["mm_token_type_ids"],
        stock["image_grid_thw"],
        attention_mask=stock["attention_mask"],
    )
    prompt = shorten(
        qwen,
        given.input_ids,
        given.attention_mask,
        given.image_grid_thw,
        given.images,
        some(given.sizes),
    )
    tokens = prompt.columns >= 0
    at = prompt.columns.clamp(min=0).expand(3, -1, -1)
    assert torch.equal(prompt.position_ids[1:], theirs.gather(2, at) * tokens)
    assert torch.equal(prompt.position_ids[0][tokens], tokens.cumsum(1)[tokens] - 1)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_shortened_row_reads_as_before_without_the_dropped_tokens(
    qwen: Qwen3VLForConditionalGeneration, side: Any
) -> None:
    given = batch([(2, 2), (1, 3)], [[0, 1], [1]])
    kept = [torch.tensor([1, 2]), torch.tensor([0, 1, 2]), torch.tensor([2])]
    prompt = shorten(
        qwen,
        given.input_ids,
        given.attention_mask,
        given.image_grid_thw,
        given.images,
        kept,
        padding_side=side,
        pad_id=1,
    )
    first, second = given.input_ids.tolist()
    images = [column for column, token in enumerate(first) if token == IMAGE]
    dropped = {images[0], images[3]}
    whole = [token for column, token in enumerate(first) if column not in dropped]
    short = second[:4] + second[6 : int(given.attention_mask[1].sum())]
    padding = [1] * (len(whole) - len(short))
    assert prompt.input_ids.tolist() == [
        whole,
        padding + short if side == "left" else short + padding,
    ]
    assert prompt.attention_mask.sum(1).tolist() == [len(whole), len(short)]


def dropped_columns(given: Batch, kept: list[Tensor]) -> Tensor:
    """Return [rows, L], True on the image tokens of blocks that are not kept."""
    visual = given.input_ids == IMAGE
    stays = torch.cat(
        [torch.isin(torch.arange(n), k) for n, k in zip(given.sizes, kept, strict=True)]
    )
    return visual.masked_scatter(visual, ~stays)


@pytest.mark.parametrize("name", BATCHES)
def test_after_the_tower_it_is_the_whole_with_the_dropped_masked_out(
    qwen: Qwen3VLForConditionalGeneration, name: str
) -> None:
    given = BATCHES[name]()
    kept = some(given.sizes)
    stock = given.stock()
    positions, _ = qwen.model.get_rope_index(**{k: stock[k] for k in stock if k != "pixel_values"})
    seen = given.attention_mask.bool() & ~dropped_columns(given, kept)
    length = seen.shape[1]
    mask = seen[:, None, None] & torch.ones(length, length, dtype=torch.bool).tril()
    mask = mask | torch.eye(length, dtype=torch.bool)
    with torch.no_grad():
        answered = ArrCoc(qwen)(**given.arguments(), kept=kept, where="after")
        masked = qwen(**{**stock, "attention_mask": mask, "position_ids": positions}).logits
        whole = qwen(**stock).logits
    ours, theirs = at_columns(answered, masked)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert (ours - at_columns(answered, whole)[1]).abs().max() > 0.01


def test_before_the_tower_it_is_the_tower_with_the_dropped_patches_masked_out(
    qwen: Qwen3VLForConditionalGeneration,
) -> None:
    given = batch([(3, 4), (5, 2)], [[1], [0, 1]])
    kept = some(given.sizes)
    seen = itertools.cycle(
        torch.isin(torch.arange(n), k).repeat_interleave(4)
        for n, k in zip(given.sizes, kept, strict=True)
    )

    def hiding(module: Any, query: Any, key: Any, value: Any, **kwargs: Any) -> Any:
        kwargs["attention_mask"] = next(seen).expand(1, 1, query.shape[2], -1)
        return sdpa_attention_forward(module, query, key, value, **kwargs)

    AttentionInterface.register("hiding", hiding)
    reference = build()
    reference.model.visual.set_attn_implementation("hiding")
    stock = given.stock()
    with torch.no_grad():
        ours = encode(qwen, given.pixel_values, given.image_grid_thw, given.images, kept)
        whole = encode(reference, stock["pixel_values"], stock["image_grid_thw"])
        free = encode(qwen, given.pixel_values, given.image_grid_thw, given.images)
    theirs, unmasked = keep(whole, kept), keep(free, kept)
    for mine, masked in zip(features(ours), features(theirs), strict=True):
        torch.testing.assert_close(mine, masked, atol=1e-5, rtol=1e-5)
    assert (ours.main[0] - unmasked.main[0]).abs().max() > 1e-3


def features(encoded: Encoded) -> list[Tensor]:
    return [*encoded.main, *(run for tap in encoded.taps for run in tap)]


def test_each_tap_is_kept_at_the_blocks_of_the_main_features(
    qwen: Qwen3VLForConditionalGeneration,
) -> None:
    given = batch([(3, 4)], [[0]])
    kept = [torch.tensor([1, 4, 6, 11])]
    with torch.no_grad():
        whole = encode(qwen, given.pixel_values, given.image_grid_thw)
        right = keep(whole, kept)
        first = keep(whole, [torch.arange(4)])
        prompt = ArrCoc(qwen)(**given.arguments(), kept=kept, where="after")

        def logits(encoded: Encoded) -> Tensor:
            return qwen(
                input_ids=prompt.prompt.input_ids,
                attention_mask=prompt.prompt.attention_mask,
                position_ids=prompt.prompt.position_ids,
                mm_encoder_outputs=encoded.outputs(),
            ).logits

        assert len(right.taps) == 2
        assert torch.equal(logits(right), prompt.logits)
        for layer in range(2):
            taps = [first.taps[i] if i == layer else right.taps[i] for i in range(2)]
            wrong = logits(Encoded(right.main, tuple(taps)))
            assert (wrong - prompt.logits).abs().max() > 0.01


@pytest.mark.parametrize(
    ("chosen", "patches"), [({}, 48), ({"where": "after"}, 48), ({"where": "before"}, 4 * (6 + 5))]
)
def test_the_tower_sees_an_image_once_or_the_kept_blocks_of_each_row(
    qwen: Qwen3VLForConditionalGeneration, chosen: Any, patches: int
) -> None:
    given = batch([(3, 4)], [[0], [0]])
    seen: list[int] = []
    hook = qwen.model.visual.patch_embed.register_forward_hook(
        lambda _module, _inputs, output: seen.append(len(output))
    )
    kept = {"kept": some(given.sizes)} if chosen else {}
    with torch.no_grad(), hook:
        ArrCoc(qwen)(**given.arguments(), **chosen, **kept)
    assert seen == [patches]


@pytest.mark.parametrize("where", ["before", "after"])
def test_half_precision_is_the_stock_model_too(where: Any) -> None:
    half = build().to(torch.bfloat16)
    given = batch([(3, 4), (2, 5)], [[0, 1], [1]])
    with torch.no_grad():
        answered = ArrCoc(half)(**given.arguments(), kept=given.every(), where=where)
        ours, theirs = at_columns(answered, half(**given.stock()).logits)
        fewer = ArrCoc(half)(
            **given.arguments(),
            kept=some(given.sizes),
            where=where,
            key_bias=[torch.zeros(n) for n in given.sizes],
        )
        plain = ArrCoc(half)(**given.arguments(), kept=some(given.sizes), where=where)
    assert ours.dtype == torch.bfloat16
    assert (ours - theirs).abs().max() == 0.0
    tokens = plain.prompt.columns >= 0
    torch.testing.assert_close(fewer.logits[tokens], plain.logits[tokens], atol=0.05, rtol=0.05)
