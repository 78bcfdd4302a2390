"""The prompt without the image tokens that were dropped; what is left keeps its positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration

from ARR_COC.encoding import block_counts, check_kept, flat_kept, runs_shown


@dataclass(frozen=True, slots=True)
class Prompt:
    """A shortened batch of rows, as the language model takes it."""

    input_ids: Tensor
    """[rows, L']"""
    attention_mask: Tensor
    """[rows, L']: 1 on tokens, 0 on padding."""
    position_ids: Tensor
    """[4, rows, L']: the text plane (0, 1, 2, ...), then M-RoPE's time, height and width."""
    columns: Tensor
    """[rows, L']: the column that each token had before, -1 on padding."""

    def taken(self, values: Tensor, fill: int) -> Tensor:
        """Return values [rows, L] of the tokens that are left: [rows, L'], with fill on padding."""
        return values.gather(1, self.columns.clamp(min=0)).masked_fill(self.columns < 0, fill)


@dataclass(frozen=True, slots=True)
class Runs:
    """Where a batch has its S runs of image tokens; T tokens in reading order over all rows."""

    rows: Tensor
    """[S]: the row of each run."""
    starts: Tensor
    """[S]: the number of image tokens before each run."""
    grids: Tensor
    """[S, 2]: the height and the width of each run's image in blocks."""
    tokens: tuple[Tensor, Tensor]
    """Row [T] and column [T] of each image token."""


def find_runs(
    qwen: Qwen3VLForConditionalGeneration,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_grid_thw: Tensor,
    images: Tensor | None = None,
) -> Runs:
    """Return the runs of image tokens. Raises ValueError where they do not fit the images."""
    shown = runs_shown(image_grid_thw, images).to(input_ids.device)
    visual = _visual(qwen, input_ids) & attention_mask.bool()
    begins = visual.clone()
    begins[:, 1:] &= ~visual[:, :-1]
    if (found := int(begins.sum())) != len(shown):
        raise ValueError(
            f"input_ids has {found} runs of image tokens (text between each two), "
            f"images names {len(shown)}"
        )
    sizes = block_counts(qwen, image_grid_thw).to(input_ids.device)[shown]
    rows, columns = visual.nonzero(as_tuple=True)
    first = begins[rows, columns].nonzero()[:, 0]
    lengths = torch.cat((first, first.new_tensor([len(rows)]))).diff()
    if not torch.equal(lengths, sizes):
        run = int((lengths != sizes).nonzero()[0])
        raise ValueError(
            f"run {run} has {int(lengths[run])} image tokens, its image {int(sizes[run])} blocks"
        )
    merge = qwen.model.visual.spatial_merge_size
    grids = image_grid_thw[:, 1:].to(input_ids.device)[shown] // merge
    return Runs(rows[first], first, grids, (rows, columns))


def shorten(
    qwen: Qwen3VLForConditionalGeneration,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_grid_thw: Tensor,
    images: Tensor | None = None,
    kept: Sequence[Tensor] | None = None,
    *,
    padding_side: Literal["left", "right"] = "right",
    pad_id: int = 0,
) -> Prompt:
    """Return the rows without padding and without the image tokens of blocks that are not kept.

    Rows may differ in length; all are padded with pad_id to the longest. kept None: all blocks.
    Raises ValueError on runs or kept blocks that do not fit.
    """
    runs = find_runs(qwen, input_ids, attention_mask, image_grid_thw, images)
    left = attention_mask.bool()
    if kept is not None:
        check_kept(kept, runs.grids.prod(-1))
        stays = torch.zeros_like(runs.tokens[0], dtype=torch.bool)
        stays[flat_kept(kept, runs.starts)] = True
        left = left.index_put(runs.tokens, stays)
    columns = _packed(left, padding_side)
    tokens = columns >= 0
    full = _positions(attention_mask, runs)
    gathered = full.gather(2, columns.clamp(min=0).expand(3, -1, -1))
    text = tokens.long().cumsum(1) - 1
    planes = torch.cat((text[None], gathered)).masked_fill(~tokens, 0)
    ids = input_ids.gather(1, columns.clamp(min=0)).masked_fill(~tokens, pad_id)
    return Prompt(ids, tokens.to(attention_mask.dtype), planes, columns)


def biased_mask(
    qwen: Qwen3VLForConditionalGeneration,
    prompt: Prompt,
    key_bias: Sequence[Tensor],
    kept: Sequence[Tensor] | None,
    sizes: Tensor,
) -> Tensor:
    """Return an additive attention mask [rows, 1, L', L']: causal, padding, and the keys' bias.

    key_bias has a tensor for each of S runs, [K] of its tokens that are left or [N] of all blocks
    of its image; sizes [S] are these N. It is added to the logits of the keys that are left, for
    every later query of the row. No token is hidden from itself, so that no query is left without
    a key, even at a bias of -inf. Raises ValueError on what does not fit, and on attention that
    takes no such mask.
    """
    check_attention(qwen, "key_bias is added", ("sdpa", "eager"))
    dtype = qwen.dtype
    visual = _visual(qwen, prompt.input_ids)
    left = _bias_left(key_bias, kept, sizes.tolist())
    bias = torch.cat(left).to(visual.device, torch.float32)
    bias = torch.zeros(visual.shape, device=visual.device).masked_scatter(visual, bias)
    place = torch.arange(visual.shape[1], device=visual.device)
    later, own = place[:, None] > place, place[:, None] == place
    added = torch.where(later & prompt.attention_mask.bool()[:, None], bias[:, None], -torch.inf)
    limited = added.masked_fill(own, 0.0).to(dtype)
    return limited.clamp(min=torch.finfo(dtype).min)[:, None]


def check_attention(
    qwen: Qwen3VLForConditionalGeneration, purpose: str, fit: Sequence[str]
) -> None:
    """Raise ValueError unless the language model's attention is one of those that fit."""
    used = qwen.model.language_model.config._attn_implementation
    if used not in fit:
        raise ValueError(
            f"{purpose} by {' or '.join(fit)} attention only, the model uses {used}: "
            f"load it with attn_implementation={fit[0]!r}"
        )


def _bias_left(
    key_bias: Sequence[Tensor], kept: Sequence[Tensor] | None, sizes: Sequence[int]
) -> list[Tensor]:
    """Return the bias [K] of each run's tokens that are left, given that or the bias [N]."""
    if len(key_bias) != len(sizes):
        raise ValueError(f"key_bias has {len(key_bias)} tensors for {len(sizes)} runs")
    picked = []
    for run, (bias, size) in enumerate(zip(key_bias, sizes, strict=True)):
        left = size if kept is None else len(kept[run])
        if bias.shape not in ((left,), (size,)):
            raise ValueError(
                f"key_bias[{run}] has shape {tuple(bias.shape)}, its run {left} of {size} blocks"
            )
        whole = kept is not None and len(bias) > left
        picked.append(bias[kept[run].to(bias.device)] if kept is not None and whole else bias)
    return picked


def _visual(qwen: Qwen3VLForConditionalGeneration, input_ids: Tensor) -> Tensor:
    visual: Tensor = input_ids == qwen.config.image_token_id
    return visual


def _packed(left: Tensor, padding_side: Literal["left", "right"]) -> Tensor:
    """Return [rows, L'], the columns where left [rows, L] is True in order, and -1 on padding."""
    lengths = left.sum(1, keepdim=True)
    longest = int(lengths.max())
    order = (~left).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]
    place = torch.arange(longest, device=left.device).expand(len(left), -1)
    if padding_side == "left":
        place = place - (longest - lengths)
    packed = order.gather(1, place.clamp(min=0))
    return packed.masked_fill((place < 0) | (place >= lengths), -1)


def _positions(attention_mask: Tensor, runs: Runs) -> Tensor:
    """Return the M-RoPE positions [3, rows, L] of whole prompts, 0 on padding.

    The numbers of Qwen3VLModel.get_rope_index, which goes through the rows one by one: a text
    token takes one position, an image of h x w blocks max(h, w), and its block (y, x) stands at
    its start plus (0, y, x).
    """
    rows, columns = runs.tokens
    heights, widths = runs.grids.unbind(1)
    sizes = heights * widths
    steps = attention_mask.long().index_put((rows, columns), torch.zeros_like(rows))
    last = runs.starts + sizes - 1
    steps[rows[last], columns[last]] = torch.maximum(heights, widths)
    start = (steps.cumsum(1) - steps).masked_fill(attention_mask == 0, 0)
    block = torch.arange(len(rows), device=rows.device) - runs.starts.repeat_interleave(sizes)
    width = widths.repeat_interleave(sizes)
    planes = start.expand(3, -1, -1).clone()
    planes[1, rows, columns] += block // width
    planes[2, rows, columns] += block % width
    return planes
