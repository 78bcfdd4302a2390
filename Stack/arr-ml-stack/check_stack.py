# ruff: noqa: T201
"""Check that the packages of this image import and work together, without a GPU or a network.

A Qwen3-VL of a few thousand weights goes forward and backward: transformers switches its PyTorch
classes off, without an error at import, where it does not take the PyTorch that it finds.
"""

from __future__ import annotations

import accelerate
import datasets
import gcsfs
import google.cloud.storage  # noqa: F401
import huggingface_hub
import matplotlib
import peft
import PIL
import safetensors
import sklearn
import torch
import transformers
import wandb

IMAGE_TOKEN = 5


def tiny_model() -> transformers.Qwen3VLForConditionalGeneration:
    """Return a Qwen3-VL with random weights, small enough for a build step."""
    return transformers.Qwen3VLForConditionalGeneration(
        transformers.Qwen3VLConfig(
            text_config={
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 16,
                "vocab_size": 64,
            },
            vision_config={
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_heads": 2,
                "out_hidden_size": 32,
                "deepstack_visual_indexes": [0],
            },
            image_token_id=IMAGE_TOKEN,
            video_token_id=6,
            vision_start_token_id=7,
            vision_end_token_id=8,
        )
    )


def main() -> int:
    for package in (
        accelerate,
        datasets,
        gcsfs,
        huggingface_hub,
        matplotlib,
        peft,
        PIL,
        safetensors,
        sklearn,
        torch,
        transformers,
        wandb,
    ):
        print("ok  ", package.__name__, package.__version__)

    torch.manual_seed(0)
    # One image of 4 x 4 patches is 2 x 2 tokens after the merge of 2 x 2 patches.
    input_ids = torch.tensor([[1, 7, *[IMAGE_TOKEN] * 4, 8, 2, 3]])
    model = tiny_model()
    out = model(
        input_ids=input_ids,
        mm_token_type_ids=(input_ids == IMAGE_TOKEN).long(),
        pixel_values=torch.randn(16, 3 * 2 * 16 * 16),
        image_grid_thw=torch.tensor([[1, 4, 4]]),
        labels=input_ids,
    )
    out.loss.backward()
    gradient = model.model.visual.patch_embed.proj.weight.grad
    if gradient is None or not torch.isfinite(gradient).all() or not gradient.any():
        print("FAIL a tiny Qwen3-VL passes no gradient back to its pixels")
        return 1
    print(f"ok   a tiny Qwen3-VL learns, loss {out.loss.item():.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
