"""An untrained reader with a selector that knows the words of the tasks."""

from __future__ import annotations

from typing import Any

import tiny_qwen
import torch
from transformers import Qwen3VLForConditionalGeneration

from ARR_COC.processing import Processor
from ARR_COC.realizing import ArrCoc
from ARR_COC.selector import Selector, SelectorConfig
from ARR_COC.Training import tasks


def tiny() -> tuple[ArrCoc, Processor]:
    """Return the model, in eval mode, and its processor."""
    words = Processor.tiny(tasks.words(), 128)
    config: Any = tiny_qwen.build().config
    config.text_config.vocab_size = len(words.tokenizer)
    config.image_token_id, config.video_token_id = words.special.image, words.special.video
    config.vision_start_token_id = words.special.vision_start
    config.vision_end_token_id = words.special.vision_end
    torch.manual_seed(0)
    qwen = Qwen3VLForConditionalGeneration(config)
    return ArrCoc(qwen, Selector(SelectorConfig(embedding=64))).eval(), words
