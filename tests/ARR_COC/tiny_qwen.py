"""A small random Qwen3-VL and batches for it; token 5 is an image, 3 and 4 stand round it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

PAD, START, END, IMAGE, VIDEO, VOCABULARY = 0, 3, 4, 5, 6, 64


def build(seed: int = 0, attention: str = "sdpa") -> Qwen3VLForConditionalGeneration:
    """Return a model of 3 language and 3 vision layers with 2 DeepStack taps, in eval mode."""
    torch.manual_seed(seed)
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "initializer_range": 0.1,
            "max_position_embeddings": 512,
            "pad_token_id": PAD,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 3,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_heads": 4,
            "out_hidden_size": 64,
            "initializer_range": 0.1,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 36,
            "deepstack_visual_indexes": [0, 1],
        },
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=END,
        attn_implementation=attention,
    )
    return Qwen3VLForConditionalGeneration(config).eval()


@dataclass(frozen=True, slots=True)
class Batch:
    """What ArrCoc takes of a batch; `sizes` are the numbers of blocks of its S runs."""

    input_ids: Tensor
    attention_mask: Tensor
    pixel_values: Tensor
    image_grid_thw: Tensor
    images: Tensor
    sizes: tuple[int, ...]

    def arguments(self) -> dict[str, Tensor]:
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "pixel_values": self.pixel_values,
            "image_grid_thw": self.image_grid_thw,
            "images": self.images,
        }

    def stock(self) -> dict[str, Tensor]:
        """Return the same batch for the unmodified model: an image for each run."""
        counts = self.image_grid_thw.prod(-1).tolist()
        patches = self.pixel_values.split(counts)
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "mm_token_type_ids": (self.input_ids == IMAGE).int(),
            "pixel_values": torch.cat([patches[image] for image in self.images.tolist()]),
            "image_grid_thw": self.image_grid_thw[self.images],
        }

    def every(self) -> list[Tensor]:
        return [torch.arange(size) for size in self.sizes]


def batch(
    grids: Sequence[tuple[int, int]],
    rows: Sequence[Sequence[int]],
    seed: int = 0,
    left: bool = False,
) -> Batch:
    """Return a batch: grids (h, w) of its images in blocks, and for each row the images it shows.

    Each row has a few random words before, between and after its images; no two rows as many.
    """
    random = torch.Generator().manual_seed(seed)

    def words(count: int) -> list[int]:
        return torch.randint(7, VOCABULARY, (count,), generator=random).tolist()

    lines = []
    for row, shown in enumerate(rows):
        line = words(2 + row)
        for image in shown:
            height, width = grids[image]
            line += [START, *[IMAGE] * (height * width), END, *words(3)]
        lines.append(line)
    longest = max(map(len, lines))
    padding = [[PAD] * (longest - len(line)) for line in lines]
    full = [p + line if left else line + p for p, line in zip(padding, lines, strict=True)]
    marks = [[0] * len(p) for p in padding]
    ones = [[1] * len(line) for line in lines]
    mask = [m + one if left else one + m for m, one in zip(marks, ones, strict=True)]
    patches = sum(4 * height * width for height, width in grids)
    images = [image for shown in rows for image in shown]
    return Batch(
        torch.tensor(full),
        torch.tensor(mask),
        torch.rand((patches, 1536), generator=random) * 2 - 1,
        torch.tensor([[1, 2 * height, 2 * width] for height, width in grids]),
        torch.tensor(images),
        tuple(grids[image][0] * grids[image][1] for image in images),
    )


def some(sizes: Sequence[int], seed: int = 0) -> list[Tensor]:
    """Return a random ascending choice for each run; runs of one size differ in their number."""
    random = torch.Generator().manual_seed(seed)
    return [
        torch.randperm(size, generator=random)[: max(1, size // 2 - run % 3)].sort().values
        for run, size in enumerate(sizes)
    ]
