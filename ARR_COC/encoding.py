"""What the language model takes of images: features of every block, or only of kept ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures
from transformers.vision_utils import (
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the language model takes of each run: main [K, D], and as much of each DeepStack tap."""

    main: tuple[Tensor, ...]
    taps: tuple[tuple[Tensor, ...], ...]
    """taps[layer][run]."""

    def outputs(self) -> dict[str, BaseModelOutputWithDeepstackFeatures]:
        """Return the features as Qwen3-VL takes them: its argument mm_encoder_outputs."""
        image = BaseModelOutputWithDeepstackFeatures()
        # Set, not given: the types that it declares are those before it splits them by image.
        image["pooler_output"], image["deepstack_features"] = self.main, list(self.taps)
        return {"image": image}


def encode(
    qwen: Qwen3VLForConditionalGeneration,
    pixel_values: Tensor,
    image_grid_thw: Tensor,
    images: Tensor | None = None,
    kept: Sequence[Tensor] | None = None,
) -> Encoded:
    """Return the features of S runs; `images [S]` says which image each shows (default: arange).

    Without `kept` each image goes through the vision tower once, whatever the number of its runs.
    With `kept` only the patches of the kept blocks go through it, at the positions that they have
    in the whole image; each run attends to its own, and all runs share one call of the tower.
    Raises ValueError on images or kept blocks that do not fit.
    """
    shown = runs_shown(image_grid_thw, images)
    _check_pixels(pixel_values, image_grid_thw)
    if kept is None:
        seen = qwen.model.get_image_features(pixel_values, image_grid_thw, return_dict=True)
        order = shown.tolist()
        return Encoded(
            tuple(seen.pooler_output[image] for image in order),
            tuple(tuple(tap[image] for image in order) for tap in seen.deepstack_features),
        )
    sizes = block_counts(qwen, image_grid_thw)
    check_kept(kept, sizes[shown])
    return _encode_kept(qwen, pixel_values, image_grid_thw, _starts(sizes)[shown], kept)


def keep(encoded: Encoded, kept: Sequence[Tensor]) -> Encoded:
    """Return the features of the kept blocks only: the same rows of the main one and of each tap.

    Raises ValueError if kept does not fit the runs.
    """
    check_kept(kept, torch.tensor([len(run) for run in encoded.main]))
    kept = [blocks.to(run.device) for blocks, run in zip(kept, encoded.main, strict=True)]

    def picked(features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(run[blocks] for run, blocks in zip(features, kept, strict=True))

    return Encoded(picked(encoded.main), tuple(picked(tap) for tap in encoded.taps))


def block_counts(qwen: Qwen3VLForConditionalGeneration, image_grid_thw: Tensor) -> Tensor:
    """Return the number of blocks of each image; one block is one token of the language model."""
    counts: Tensor = image_grid_thw.prod(-1) // qwen.model.visual.spatial_merge_unit
    return counts


def runs_shown(image_grid_thw: Tensor, images: Tensor | None) -> Tensor:
    """Return [S], the image of each run. Raises ValueError on videos and on unknown images."""
    if (image_grid_thw[:, 0] != 1).any():
        raise ValueError("image_grid_thw has entries of more than one frame: videos are not read")
    if images is None:
        return torch.arange(len(image_grid_thw), device=image_grid_thw.device)
    if images.dim() != 1 or ((images < 0) | (images >= len(image_grid_thw))).any():
        raise ValueError(
            f"images must be a vector of numbers from 0 to {len(image_grid_thw) - 1}: "
            f"image_grid_thw has {len(image_grid_thw)} images"
        )
    return images.to(image_grid_thw.device)


def check_kept(kept: Sequence[Tensor], sizes: Tensor) -> None:
    """Raise ValueError unless kept has, for each of S runs, ascending numbers below sizes [S]."""
    if len(kept) != len(sizes):
        raise ValueError(f"kept has {len(kept)} tensors for {len(sizes)} runs of image tokens")
    for run, blocks in enumerate(kept):
        if blocks.dim() != 1 or blocks.dtype != torch.long:
            raise ValueError(f"kept[{run}] must be a vector of int64 block numbers")
        if not len(blocks):
            raise ValueError(f"kept[{run}] is empty: at least one block of each run must be kept")
    flat = torch.cat(tuple(kept))
    runs = _run_numbers(kept).to(flat.device)
    outside = (flat < 0) | (flat >= sizes.to(flat.device)[runs])
    unordered = (flat.diff() <= 0) & (runs.diff() == 0)
    if not (outside.any() | unordered.any()):
        return
    if outside.any():
        run = int(runs[outside][0])
        raise ValueError(
            f"kept[{run}] has blocks outside 0 to {int(sizes[run]) - 1}: {kept[run].tolist()}"
        )
    run = int(runs[1:][unordered][0])
    raise ValueError(f"kept[{run}] is not ascending: {kept[run].tolist()}")


def flat_kept(kept: Sequence[Tensor], starts: Tensor) -> Tensor:
    """Return the kept blocks of all runs in one vector, each counted from its run's start."""
    return torch.cat(tuple(kept)).to(starts.device) + starts[_run_numbers(kept).to(starts.device)]


def _encode_kept(
    qwen: Qwen3VLForConditionalGeneration,
    pixel_values: Tensor,
    image_grid_thw: Tensor,
    starts: Tensor,
    kept: Sequence[Tensor],
) -> Encoded:
    """Return the features of kept blocks, counted from starts [S] (blocks before each image)."""
    tower = qwen.model.visual
    unit = tower.spatial_merge_unit
    indices, weights = get_vision_interpolation_indices_and_weights(
        image_grid_thw,
        num_grid_per_side=tower.num_grid_per_side,
        mode=tower.interpolation_mode,
        align_corners=tower.interpolation_align_corners,
        spatial_merge_size=tower.spatial_merge_size,
    )
    positions = get_vision_position_ids(image_grid_thw, tower.spatial_merge_size)
    blocks = flat_kept(kept, starts)
    rows = (blocks[:, None] * unit + torch.arange(unit, device=blocks.device)).flatten()
    lengths = [len(blocks) for blocks in kept]
    ends = torch.tensor([0, *lengths]).cumsum(0) * unit
    seen = tower(
        pixel_values[rows.to(pixel_values.device)].to(tower.dtype),
        grid_thw=image_grid_thw,
        interp_indices=indices[rows],
        interp_weights=weights[rows],
        position_ids=positions[rows],
        cu_seqlens=ends.to(image_grid_thw.device, torch.int32),
        max_seqlen=max(lengths) * unit,
        return_dict=True,
    )
    return Encoded(
        torch.split(seen.pooler_output, lengths),
        tuple(torch.split(tap, lengths) for tap in seen.deepstack_features),
    )


def _run_numbers(kept: Sequence[Tensor]) -> Tensor:
    lengths = torch.tensor([len(blocks) for blocks in kept])
    return torch.arange(len(kept)).repeat_interleave(lengths)


def _starts(sizes: Tensor) -> Tensor:
    return sizes.cumsum(0) - sizes


def _check_pixels(pixel_values: Tensor, image_grid_thw: Tensor) -> None:
    patches = int(image_grid_thw.prod(-1).sum())
    if len(pixel_values) != patches:
        raise ValueError(
            f"pixel_values has {len(pixel_values)} patches, image_grid_thw counts {patches}"
        )
