"""The reader: transformers' own Qwen3-VL, with each image encoded once for all its questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.modeling_outputs import CausalLMOutputWithPast

from ARR_COC.Training import tokens


class Reader(nn.Module):
    """Answers questions about images; `qwen` is the stock model, saved by its own methods.

    A module of its own (not a function) so that a distributed wrapper sees one forward call.
    """

    def __init__(self, qwen: Qwen3VLForConditionalGeneration) -> None:
        super().__init__()
        self.qwen = qwen

    def forward(
        self,
        pixel_values: torch.Tensor,
        image_grid_thw: torch.Tensor,
        input_ids: torch.Tensor,
        labels: torch.Tensor | None = None,
        answer_tokens: torch.Tensor | None = None,
    ) -> CausalLMOutputWithPast:
        """Return logits [rows, L, vocabulary], and with labels the summed loss / answer_tokens.

        n images, rows = n*q, the q rows of an image consecutive and all rows laid out alike.
        Without answer_tokens the loss is the mean over this call's answer tokens.
        """
        core = self.qwen.model
        seen = core.get_image_features(pixel_values, image_grid_thw, return_dict=True)
        questions = len(input_ids) // len(image_grid_thw)
        seen.pooler_output = _repeated(seen.pooler_output, questions)
        seen.deepstack_features = [_repeated(tap, questions) for tap in seen.deepstack_features]
        answered: CausalLMOutputWithPast = self.qwen(
            input_ids=input_ids,
            position_ids=self._positions(input_ids, image_grid_thw),
            mm_encoder_outputs={"image": seen},
            labels=labels,
            num_items_in_batch=answer_tokens,
            use_cache=False,
        )
        return answered

    def _positions(self, input_ids: torch.Tensor, image_grid_thw: torch.Tensor) -> torch.Tensor:
        """Return M-RoPE positions [3, rows, L]: those of one row, since all are laid out alike."""
        first = input_ids[:1]
        kinds = (first == self.qwen.config.image_token_id).int()
        positions, _ = self.qwen.model.get_rope_index(
            first, mm_token_type_ids=kinds, image_grid_thw=image_grid_thw[:1]
        )
        expanded: torch.Tensor = positions.expand(-1, len(input_ids), -1)
        return expanded


def _repeated(features: tuple[torch.Tensor, ...], times: int) -> tuple[torch.Tensor, ...]:
    return tuple(feature for feature in features for _ in range(times))


def build(shape: Mapping[str, Any]) -> Reader:
    """Return a reader with random weights from torch's generator.

    `shape` has a text_config and a vision_config; vocabulary and token ids come from tokens.py.
    """
    config = Qwen3VLConfig(
        text_config={**shape["text_config"], "vocab_size": len(tokens.VOCABULARY)},
        vision_config=dict(shape["vision_config"]),
        image_token_id=tokens.IDS[tokens.IMAGE],
        video_token_id=tokens.IDS[tokens.VIDEO],
        vision_start_token_id=tokens.IDS[tokens.VISION_START],
        vision_end_token_id=tokens.IDS[tokens.VISION_END],
    )
    return Reader(Qwen3VLForConditionalGeneration(config))
