"""A tiny ARR-COC with its processor, and a few pictures whose answers it has partly learnt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tiny_qwen
import torch
from transformers import Qwen3VLForConditionalGeneration

from ARR_COC.loading import FORMAT, STATE
from ARR_COC.processing import Processor
from ARR_COC.realizing import TRANSFORMERS, ArrCoc
from ARR_COC.selector import Selector, SelectorConfig
from ARR_COC.Training.collate import collate
from ARR_COC.Training.examples import Example, Question

CONTEXT = 96
COLOURS = {"red": (230, 20, 20), "green": (20, 200, 40), "blue": (30, 40, 240)}
WORDS = ("which", "colour", "what", "number", *COLOURS)


@dataclass(frozen=True)
class Listed:
    """A source of the given examples."""

    examples: tuple[Example, ...]

    @property
    def size(self) -> int:
        return len(self.examples)

    def example(self, index: int) -> Example:
        return self.examples[index]


def build(seed: int = 0, *, selector: bool = True) -> tuple[ArrCoc, Processor]:
    """Return an untrained model in eval mode, and its processor."""
    processor = Processor.tiny(WORDS, CONTEXT, max_pixels=128 * 128)
    config: Any = tiny_qwen.build().config
    special = processor.special
    config.text_config.vocab_size = len(processor.tokenizer)
    config.text_config.max_position_embeddings = CONTEXT
    config.image_token_id, config.video_token_id = special.image, special.video
    config.vision_start_token_id = special.vision_start
    config.vision_end_token_id = special.vision_end
    torch.manual_seed(seed)
    qwen = Qwen3VLForConditionalGeneration(config)
    chosen = Selector(SelectorConfig(embedding=64)) if selector else None
    return ArrCoc(qwen, chosen).eval(), processor


def picture(number: int) -> Example:
    """Return picture `number`: 2 x 3 or 3 x 3 blocks, one of them coloured; its two questions."""
    random = np.random.default_rng(number)
    rows, columns = 2 + number % 2, 3
    image = random.integers(0, 60, (32 * rows, 32 * columns, 3), dtype=np.uint8)
    row, column = int(random.integers(rows)), int(random.integers(columns))
    name = list(COLOURS)[int(random.integers(len(COLOURS)))]
    image[32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = COLOURS[name]
    box = (32 * column, 32 * row, 32 * column + 32, 32 * row + 32)
    return Example(
        image,
        (
            Question("which colour", name, (box,)),
            Question("what number", str(int(random.integers(10, 100))), (box,)),
        ),
    )


def pictures(count: int) -> Listed:
    return Listed(tuple(picture(number) for number in range(count)))


@cache
def learnt() -> tuple[ArrCoc, Processor, Listed]:
    """Return a model that has learnt the first half of its pictures by heart, and all of them."""
    arr, processor = build()
    source = pictures(8)
    batch = collate([source.example(number) for number in range(4)], processor)
    optimizer = torch.optim.AdamW(arr.qwen.parameters(), lr=3e-3)
    for _ in range(40):
        loss = arr(
            batch.input_ids,
            batch.attention_mask,
            batch.pixel_values,
            batch.image_grid_thw,
            images=batch.images,
            labels=batch.labels,
        ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return arr, processor, source


def save(arr: ArrCoc, processor: Processor, folder: Path) -> Path:
    """Write the model as a checkpoint that loading.load reads, and return its folder."""
    arr.save_pretrained(folder)
    processor.save_pretrained(folder)
    files = {
        file.relative_to(folder).as_posix(): file.stat().st_size
        for file in folder.rglob("*")
        if file.is_file()
    }
    state = {"format": FORMAT, "transformers": TRANSFORMERS, "base": None, "files": files}
    (folder / STATE).write_text(json.dumps(state))
    return folder
