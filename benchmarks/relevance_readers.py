"""The readers and selectors of the relevance benchmark: trained once a task and seed, then kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from ARR_COC.attending import Budget
from ARR_COC.encoding import Encoded, encode
from ARR_COC.processing import Processor
from ARR_COC.prompt import Prompt, shorten
from ARR_COC.realizing import ArrCoc
from ARR_COC.selector import Selector, SelectorConfig
from ARR_COC.Training import signals, subsets, tasks
from ARR_COC.Training.collate import Batch, collate
from ARR_COC.Training.tasks import forms

CONTEXT = 512
SHAPE = Path(__file__).parents[1] / "ARR_COC" / "Training" / "tiny.json"
TRAINED = {"query_blind": ("learned", True), "ours_participatory": ("participatory", False)}
TRAINED |= {"ours": ("learned", False)}
"""Selectors that learn: balance, and whether they are blind to the question."""


_STARTS = 5
_SPELLING = 3.0  # weight of the characters' loss beside the answers'


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a reader of one task is made.

    spelled: its tower is taught the characters as well. given_up: a start whose loss is above this
    after a third of the steps has found no way to read, and is replaced by another.
    """

    steps: int
    images: int
    questions: int
    spelled: bool = False
    given_up: float = math.inf
    rate: float = 1e-3
    selector_steps: int = 300
    selector_rate: float = 3e-3


RECIPES = {
    "frames": Recipe(1200, 8, 6, selector_steps=400),
    "forms": Recipe(3000, 16, 8, spelled=True, given_up=0.5, selector_steps=600),
    "salient": Recipe(500, 16, 2),
    "counting": Recipe(800, 16, 1),
}


def processor() -> Processor:
    """Return the processor that all readers share."""
    return Processor.tiny(tasks.words(), CONTEXT)


def build(seed: int, words: Processor) -> ArrCoc:
    """Return a tiny Qwen3-VL with random weights."""
    shape = json.loads(SHAPE.read_text(encoding="utf-8"))
    torch.manual_seed(seed)
    config = Qwen3VLConfig(
        text_config={**shape["text_config"], "vocab_size": len(words.tokenizer)},
        vision_config=shape["vision_config"],
        image_token_id=words.special.image,
        video_token_id=words.special.video,
        vision_start_token_id=words.special.vision_start,
        vision_end_token_id=words.special.vision_end,
    )
    return ArrCoc(Qwen3VLForConditionalGeneration(config))


def reader(
    task: str, seed: int, recipe: Recipe, words: Processor, say: Callable[[str], None]
) -> ArrCoc:
    """Return a reader trained on all blocks and, in every third step, on random subsets of them.

    A subset is shown to the tower, as a selection before it would be. All arms share the reader.
    """
    for start in range(_STARTS):
        arr = _trained(task, seed + 1000 * start, recipe, words, say)
        if arr is not None:
            return arr.requires_grad_(False).eval()
    raise RuntimeError(f"{task} seed {seed}: none of {_STARTS} starts has learned to read")


def _trained(
    task: str, seed: int, recipe: Recipe, words: Processor, say: Callable[[str], None]
) -> ArrCoc | None:
    """Return a reader, not frozen yet; None if it is given up."""
    arr = build(seed, words)
    spelling = Spelling(arr) if recipe.spelled else None
    learned = [*arr.parameters(), *(spelling.parameters() if spelling else ())]
    optimizer = torch.optim.AdamW(learned, lr=recipe.rate, betas=(0.9, 0.98), fused=True)
    pages = forms.Forms("train", seed, recipe.questions)
    source = pages if spelling else tasks.source(task, "train", seed, recipe.questions)
    random = np.random.default_rng([seed, 1])
    mean = 0.0
    for step in range(recipe.steps):
        if step == recipe.steps // 3 and mean > recipe.given_up:
            say(f"{task} seed {seed}: given up at step {step}, loss {mean:.3f}")
            return None
        _set_rate(optimizer, recipe.rate * schedule(step, recipe.steps))
        numbers = range(step * recipe.images, (step + 1) * recipe.images)
        batch = collate([source.example(number) for number in numbers], words)
        parts = step > recipe.steps // 4 and step % 3 == 1
        kept = subsets.random_subsets(batch, random) if parts else None
        encoded, prompt = _shown(arr, batch, kept)
        loss = signals.losses(arr.read(prompt, encoded), batch).mean()
        mean += 0.0 if parts else (loss.item() - mean) * 0.05
        if spelling and not parts:
            loss = loss + _SPELLING * spelling(
                encoded, batch, [pages.text(number) for number in numbers]
            )
        _step(loss, learned, optimizer)
        if (step + 1) % 100 == 0:
            say(f"{task} seed {seed}: reader step {step + 1}/{recipe.steps}, loss {mean:.3f}")
    return arr


def selector(
    name: str, arr: ArrCoc, task: str, seed: int, recipe: Recipe, words: Processor
) -> Selector:
    """Return the selector `name` of TRAINED, taught by the attention of the frozen reader."""
    balance, blind = TRAINED[name]
    torch.manual_seed(seed)
    width = arr.qwen.config.text_config.hidden_size
    taught = ArrCoc(arr.qwen, Selector(SelectorConfig(width, balance=balance, blind=blind)))
    teach(taught, task, seed, recipe, words, signals.attention)
    assert isinstance(taught.selector, Selector)
    return taught.selector.eval()


def teach(
    arr: ArrCoc, task: str, seed: int, recipe: Recipe, words: Processor, signal: signals.Signal
) -> None:
    """Train the selector of `arr` in place."""
    assert arr.selector is not None
    learned = list(arr.selector.parameters())
    optimizer = torch.optim.AdamW(learned, lr=recipe.selector_rate, betas=(0.9, 0.98), fused=True)
    source = tasks.source(task, "train", seed, recipe.questions)
    first = recipe.steps * recipe.images  # images that the reader has not seen
    for step in range(recipe.selector_steps):
        _set_rate(optimizer, recipe.selector_rate * schedule(step, recipe.selector_steps))
        numbers = range(first + step * recipe.images, first + (step + 1) * recipe.images)
        batch = collate([source.example(number) for number in numbers], words)
        found = signals.relevance(arr, batch)
        _step(signal(arr, batch, found, Budget(1 / 8)).mean(), learned, optimizer)
    arr.selector.requires_grad_(False)


class Spelling(nn.Module):
    """Teaches a tower to read the four characters of each block.

    Real readers are pretrained on text. Without that, ten thousands of forms go by before the loss
    of the answers alone has taught a tower its letters.
    """

    CHARACTERS = " " + forms.LETTERS + "0123456789"

    def __init__(self, arr: ArrCoc) -> None:
        super().__init__()
        width = arr.qwen.config.text_config.hidden_size
        self.head = nn.Linear(width, 4 * len(self.CHARACTERS))

    def forward(self, encoded: Encoded, batch: Batch, pages: list[list[str]]) -> Tensor:
        """Return the mean cross-entropy over characters; pages: the text of each block."""
        first = [batch.images.tolist().index(image) for image in range(len(pages))]
        seen = torch.stack([encoded.main[row] for row in first])
        logits = self.head(seen).view(-1, len(self.CHARACTERS))
        written = torch.stack([self._written(page) for page in pages])
        return functional.cross_entropy(logits, written.flatten())

    def _written(self, page: list[str]) -> Tensor:
        """Return the numbers of the characters [blocks, 4]."""
        return torch.tensor([[self.CHARACTERS.index(one) for one in text] for text in page])


def _shown(arr: ArrCoc, batch: Batch, kept: list[Tensor] | None) -> tuple[Encoded, Prompt]:
    """Return what the language model takes of a batch; the tower sees the kept blocks only."""
    prompt = shorten(
        arr.qwen, batch.input_ids, batch.attention_mask, batch.image_grid_thw, batch.images, kept
    )
    encoded = encode(arr.qwen, batch.pixel_values, batch.image_grid_thw, batch.images, kept)
    return encoded, prompt


def schedule(step: int, steps: int) -> float:
    """Return the share of the peak rate: linear up over 1/15 of the steps, then cosine to zero."""
    rising = max(1, steps // 15)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _step(loss: Tensor, learned: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(learned, 1.0)
    optimizer.step()
    optimizer.zero_grad()
