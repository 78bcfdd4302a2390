"""Fewer visual tokens by mixing: smaller images, token merging, and VisionZip.

Each function gives what the language model is shown in place of the whole images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb_vision

from ARR_COC.attending import Budget
from ARR_COC.encoding import Encoded, block_counts, encode
from ARR_COC.prompt import Prompt, shorten
from ARR_COC.texture import BLOCK, PATCH, pixels
from ARR_COC.Training.collate import Batch

DOMINANT = 54 / 64
"""VisionZip's share of dominant tokens: 54 of 64, the other 10 are contextual."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the language model is given: the prompt, its visual tokens, and which blocks these are.

    kept: the blocks of each row, None where tokens are mixtures of the whole image.
    """

    prompt: Prompt
    encoded: Encoded
    kept: tuple[Tensor, ...] | None


def downsampled(qwen: Qwen3VLForConditionalGeneration, batch: Batch, budget: Budget) -> Shown:
    """Show the images scaled down (area filter) to at most K blocks, as the stock model would."""
    parts = _parts(batch, batch.pixel_values)
    smaller, grids = [], []
    for rows, (_, high, wide) in zip(parts, batch.image_grid_thw.tolist(), strict=True):
        h, w = smaller_grid((high // 2, wide // 2), budget.of(high * wide // 4))
        grids.append([1, 2 * h, 2 * w])
        if (2 * h, 2 * w) != (high, wide):
            image = pixels(rows, (high, wide))[None]
            image = functional.interpolate(image, (h * BLOCK, w * BLOCK), mode="area")
            rows = patch_rows(image[0]).to(rows.dtype)
        smaller.append(rows)
    grid = batch.image_grid_thw.new_tensor(grids)
    sizes = block_counts(qwen, grid)[batch.images].tolist()
    kept = [torch.arange(size, device=batch.input_ids.device) for size in sizes]
    cut = _shortened(qwen, batch, kept)
    placed = shorten(qwen, cut.input_ids, cut.attention_mask, grid, batch.images)
    prompt = replace(cut, position_ids=placed.position_ids)
    return Shown(prompt, encode(qwen, torch.cat(smaller), grid, batch.images), None)


def smaller_grid(grid: tuple[int, int], k: int) -> tuple[int, int]:
    """Return the grid (h, w) of at most k blocks that an image of `grid` blocks is scaled to.

    No side is enlarged. First comes the scale of the side that shrinks more, then the number of
    blocks, then the nearness of the aspect; of two that are equal in all, the wider one.
    """

    def worth(size: tuple[int, int]) -> tuple[float, int, float, int]:
        scales = size[0] / grid[0], size[1] / grid[1]
        return min(scales), size[0] * size[1], -max(scales), size[1]

    heights, widths = range(1, grid[0] + 1), range(1, grid[1] + 1)
    return max(((h, w) for h in heights for w in widths if h * w <= k), key=worth)


def patch_rows(image: Tensor) -> Tensor:
    """Return the rows [P, 1536] of an image [3, H, W] in 0..1: what texture.pixels undoes."""
    height, width = image.shape[1] // BLOCK, image.shape[2] // BLOCK
    parts = image.view(3, height, 2, PATCH, width, 2, PATCH).permute(1, 4, 2, 5, 0, 3, 6)
    rows = parts.reshape(-1, 3, 1, PATCH * PATCH).expand(-1, -1, 2, -1)
    return rows.reshape(len(rows), -1) * 2 - 1


def tome(qwen: Qwen3VLForConditionalGeneration, batch: Batch, budget: Budget, where: str) -> Shown:
    """Merge the tokens of each image (Bolya et al., ICLR 2023) until K are left.

    After the tower: its outputs, all DeepStack taps by the same matching; before it: pixels of
    blocks. A merged token stands where the one that it was merged into stood. The paper merges a
    few tokens in each layer of the tower, by the layer's keys, which DeepStack would not survive.
    """
    if where == "after":
        seen = encode(qwen, batch.pixel_values, batch.image_grid_thw)
        into = [matched(tokens, budget.of(len(tokens))) for tokens in seen.main]
        return replace(_mixed(qwen, batch, seen, into), kept=None)
    blocks = [rows.view(-1, 4 * rows.shape[1]) for rows in _parts(batch, batch.pixel_values)]
    into = [matched(image, budget.of(len(image))) for image in blocks]
    merged = torch.cat(
        [
            image.index_copy(0, ends(places), averaged(image, places))
            for image, places in zip(blocks, into, strict=True)
        ]
    ).view_as(batch.pixel_values)
    kept = [ends(into[image]) for image in batch.images.tolist()]
    encoded = encode(qwen, merged, batch.image_grid_thw, batch.images, kept)
    return Shown(_shortened(qwen, batch, kept), encoded, None)


def matched(tokens: Tensor, k: int) -> Tensor:
    """Return, for each of N tokens [N, D], the place [N] of the token that it ends in; k are left.

    Bipartite soft matching: of the tokens left, in raster order, every other one looks for the most
    similar (cosine) of the rest, and the most similar pairs are merged, at most half of the tokens
    a round. A token that was merged counts as the mean of all that it is made of.
    """
    into = torch.arange(len(tokens), device=tokens.device)
    left = into
    while len(left) > k:
        unit = functional.normalize(averaged(tokens.float(), into), dim=-1)
        likeness, best = (unit[::2] @ unit[1::2].T).max(dim=1)
        count = min(len(left) - k, len(left) // 2)
        moved = likeness.argsort(descending=True, stable=True)[:count]
        target = torch.arange(len(tokens), device=tokens.device)
        target[left[::2][moved]] = left[1::2][best[moved]]
        into = target[into]
        left = ends(into)
    return into


def averaged(values: Tensor, into: Tensor) -> Tensor:
    """Return the means [K, D] of the values [N, D] that end in each place of `into` [N], ascending.

    Negative places are dropped.
    """
    places = ends(into)
    group = torch.zeros_like(into).index_fill(0, places, 1).cumsum(0)[into] - 1
    values, group = values[into >= 0], group[into >= 0]
    sums = values.new_zeros((len(places), values.shape[1])).index_add(0, group, values)
    means: Tensor = sums / group.bincount()[:, None].to(values.dtype)
    return means


def ends(into: Tensor) -> Tensor:
    """Return the places in which tokens end by `into` [N], each once, ascending."""
    return torch.zeros_like(into).index_fill(0, into[into >= 0], 1).nonzero().flatten()


def visionzip(qwen: Qwen3VLForConditionalGeneration, batch: Batch, budget: Budget) -> Shown:
    """Show dominant tokens, and contextual ones that sum up the rest (Yang et al., CVPR 2025).

    Dominant are those that receive most attention in the tower's last layer. Of the rest, evenly
    spaced targets become contextual tokens: means of themselves and of those whose keys are most
    like theirs. kept lists both, so of the contextual ones it says only where they stand: they are
    mixtures. With no room for a contextual token the rest is dropped. The paper takes the attention
    of the class token, where there is one; its code adds the mean of the others to the target.
    """
    seen, received, keys = _looked(qwen, batch)
    into = [
        summed_up(attention, key, budget.of(len(key)))
        for attention, key in zip(received, keys, strict=True)
    ]
    return _mixed(qwen, batch, seen, into)


def summed_up(received: Tensor, keys: Tensor, k: int) -> Tensor:
    """Return the place [N] that each token ends in, -1 where it is dropped; k places in all.

    received [N]: the attention paid to each token; keys [N, D]: what likeness is measured by.
    """
    n = len(received)
    dominant = max(1, int(DOMINANT * k + 0.5))
    into = torch.full((n,), -1, device=received.device)
    top = received.argsort(descending=True, stable=True)[:dominant]
    into[top] = top
    rest = (into < 0).nonzero().flatten()
    contextual = k - dominant
    if not contextual:
        return into
    spread = (2 * torch.arange(contextual, device=rest.device) + 1) * len(rest) // (2 * contextual)
    targets = rest[spread]
    into[targets] = targets
    others = (into < 0).nonzero().flatten()
    unit = functional.normalize(keys.float(), dim=-1)
    into[others] = targets[(unit[others] @ unit[targets].T).argmax(dim=1)]
    return into


def _looked(
    qwen: Qwen3VLForConditionalGeneration, batch: Batch
) -> tuple[Encoded, list[Tensor], list[Tensor]]:
    """Return each image's features, the attention that its blocks receive [N], their keys [N, D].

    The last two are of the tower's last layer. Attention is the mean over heads and queries, summed
    over the 4 patches of a block; keys, before rotation, are the mean over heads and patches.
    """
    last: Any = qwen.model.visual.blocks[-1].attn
    given: list[tuple[Tensor, Any]] = []

    def listen(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        given.append((hidden, kwargs["position_embeddings"]))

    hook = last.register_forward_pre_hook(listen, with_kwargs=True)
    try:
        seen = encode(qwen, batch.pixel_values, batch.image_grid_thw)
    finally:
        hook.remove()
    hidden, (cos, sin) = given[0]
    queries, keys, _ = last.qkv(hidden).view(len(hidden), 3, last.num_heads, -1).unbind(1)
    turned = apply_rotary_pos_emb_vision(queries, keys, cos, sin)
    received = [
        torch.einsum("qhd,khd->hqk", q.float(), k.float()).mul(last.scaling).softmax(-1)
        for q, k in zip(*(_parts(batch, part) for part in turned), strict=True)
    ]
    return (
        seen,
        [weights.mean((0, 1)).view(-1, 4).sum(1) for weights in received],
        [part.mean(1).view(-1, 4, part.shape[-1]).mean(1) for part in _parts(batch, keys)],
    )


def _mixed(
    qwen: Qwen3VLForConditionalGeneration, batch: Batch, seen: Encoded, into: Sequence[Tensor]
) -> Shown:
    """Show the features of each image averaged by its `into`, to every row that asks about it."""
    order = batch.images.tolist()

    def mixed(features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        means = [averaged(image, places) for image, places in zip(features, into, strict=True)]
        return tuple(means[image] for image in order)

    places = [ends(image) for image in into]
    kept = tuple(places[image] for image in order)
    encoded = Encoded(mixed(seen.main), tuple(mixed(tap) for tap in seen.taps))
    return Shown(_shortened(qwen, batch, kept), encoded, kept)


def _shortened(
    qwen: Qwen3VLForConditionalGeneration, batch: Batch, kept: Sequence[Tensor]
) -> Prompt:
    return shorten(
        qwen, batch.input_ids, batch.attention_mask, batch.image_grid_thw, batch.images, kept
    )


def _parts(batch: Batch, patches: Tensor) -> tuple[Tensor, ...]:
    """Return what belongs to each image, of what has a row for each patch."""
    return torch.split(patches, batch.image_grid_thw.prod(-1).tolist())
