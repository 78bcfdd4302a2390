"""Random Qwen3-VL models of real widths and few layers, with a selector; an image to show them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bench
import torch
from torch import Tensor
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

sys.path.insert(0, str(bench.TOP))
from ARR_COC.realizing import ArrCoc
from ARR_COC.selector import Selector, SelectorConfig

DEPTHS = (2, 4)
"""Layers, of the tower and of the language model alike, of the models that are measured."""
WORDS = 24
"""Tokens of the question."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's widths and its real depths; `pixels` a side is the image that fits it."""

    vision: Mapping[str, Any]
    text: Mapping[str, Any]
    vision_layers: int
    text_layers: int
    taps: int
    pixels: int

    def config(self, depth: int) -> Qwen3VLConfig:
        """Return the configuration with `depth` layers each and as many taps as DEPTHS[0] has."""
        vocabulary = self.text["vocab_size"]
        text = {**self.text, "num_hidden_layers": depth, "max_position_embeddings": 32768}
        taps = [(tap + 1) * depth // DEPTHS[0] - 1 for tap in range(self.measured_taps)]
        vision = {**self.vision, "depth": depth, "deepstack_visual_indexes": taps}
        vision |= {"patch_size": 16, "spatial_merge_size": 2, "num_position_embeddings": 2304}
        return Qwen3VLConfig(
            text_config=text,
            vision_config={**vision, "out_hidden_size": self.text["hidden_size"]},
            image_token_id=vocabulary - 1,
            video_token_id=vocabulary - 2,
            vision_start_token_id=vocabulary - 3,
            vision_end_token_id=vocabulary - 4,
            tie_word_embeddings=True,
        )

    @property
    def measured_taps(self) -> int:
        """DeepStack taps of each measured model: as many for each, so that depth alone differs."""
        return min(self.taps, DEPTHS[0])


def _rope(sections: list[int], theta: float) -> dict[str, object]:
    form = {"rope_type": "default", "mrope_interleaved": True}
    return {**form, "rope_theta": theta, "mrope_section": sections}


SHAPES = {
    "2b": Shape(
        {"hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16},
        {
            "vocab_size": 151936,
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "rope_parameters": _rope([24, 20, 20], 5e6),
        },
        vision_layers=24,
        text_layers=28,
        taps=3,  # behind layers 5, 11 and 17
        pixels=1024,
    ),
    "small": Shape(
        {"hidden_size": 64, "intermediate_size": 128, "num_heads": 4},
        {
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "rope_parameters": _rope([4, 2, 2], 1e4),
        },
        vision_layers=6,
        text_layers=8,
        taps=3,
        pixels=256,
    ),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and one question in one row."""

    input_ids: Tensor
    attention_mask: Tensor
    pixel_values: Tensor
    image_grid_thw: Tensor
    images: Tensor | None
    query_mask: Tensor


def model(shape: Shape, depth: int, dtype: torch.dtype = torch.float32) -> ArrCoc:
    """Return a random model of `depth` layers each with its (float32) selector, in eval mode."""
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        qwen = Qwen3VLForConditionalGeneration(shape.config(depth))
    finally:
        torch.set_default_dtype(torch.float32)
    selector = Selector(SelectorConfig(shape.text["hidden_size"], balance="learned"))
    return ArrCoc(qwen, selector).eval()


def sample(arr: ArrCoc, height: int, width: int) -> Sample:
    """Return a random image of height x width blocks between its two marks, then the question."""
    config, blocks = arr.qwen.config, height * width
    image = [config.vision_start_token_id, *[config.image_token_id] * blocks]
    ids = torch.tensor([[*image, config.vision_end_token_id, *range(WORDS)]])
    asked = torch.zeros_like(ids, dtype=torch.bool)
    asked[:, -WORDS:] = True
    grid = torch.tensor([[1, 2 * height, 2 * width]])
    patches = torch.rand(4 * blocks, 1536) * 2 - 1
    return Sample(ids, torch.ones_like(ids), patches, grid, None, asked)
