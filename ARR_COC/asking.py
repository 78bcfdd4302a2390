"""One question about one picture: the answer, the blocks that were kept for it, and why these."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.utils import logging

from ARR_COC.attending import Budget, attend
from ARR_COC.images import BLOCK, BadInput, Picture, Pixels, patches
from ARR_COC.processing import Processor
from ARR_COC.realizing import ArrCoc, Where
from ARR_COC.selector import Relevance, Selector

MOST_NEW_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered.

    pixels: the picture as the model takes it, [32h, 32w, 3] in 0..255, of grid (h, w) blocks; kept:
    the ascending numbers of the blocks that were shown; relevance: None without a selector.
    """

    answer: str
    pixels: Pixels
    grid: tuple[int, int]
    kept: tuple[int, ...]
    relevance: Relevance | None

    @property
    def blocks(self) -> int:
        """Return how many blocks the picture has."""
        return self.grid[0] * self.grid[1]


def ask(
    arr: ArrCoc,
    processor: Processor,
    question: str,
    picture: Picture,
    budget: Budget,
    where: Where = "before",
    most_new_tokens: int = MOST_NEW_TOKENS,
) -> Reply:
    """Answer by greedy decoding, on the model's own device; a budget of 1 is the stock model.

    Raises BadInput for a picture or a question that cannot be used, and for a budget below 1
    without a selector.
    """
    if arr.selector is None and budget.ratio < 1:
        raise BadInput("this checkpoint has no selector, so nothing can be dropped: use all tokens")
    pixels = processor.pixels(picture)
    grid = pixels.shape[0] // BLOCK, pixels.shape[1] // BLOCK
    blocks = grid[0] * grid[1]
    prompt = processor.prompt(question, blocks)
    room = processor.context - len(prompt)
    if room < 1:
        raise BadInput("the question leaves no room for an answer: shorten it")
    device = arr.qwen.device
    asked: dict[str, Any] = {
        "input_ids": torch.tensor([prompt], device=device),
        "pixel_values": patches(pixels[None]).to(device),
        "image_grid_thw": torch.tensor([[1, 2 * grid[0], 2 * grid[1]]], device=device),
    }
    with answering(arr):
        relevance = _relevance(arr, asked, processor.query(question, blocks))
        kept = None
        if relevance is not None and budget.ratio < 1:
            kept = attend(relevance.scores, grid, budget)
        written = arr.generate(
            **asked,
            attention_mask=torch.ones_like(asked["input_ids"]),
            kept=None if kept is None else [kept],
            where=where,
            max_new_tokens=min(most_new_tokens, room),
            do_sample=False,
            eos_token_id=processor.special.eos,
            pad_token_id=processor.special.pad,
        )
    shown = range(blocks) if kept is None else kept.tolist()
    return Reply(processor.decode(written[0]), pixels, grid, tuple(shown), relevance)


@contextmanager
def answering(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode without gradients, and each of its parts back as it was."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def quiet() -> None:
    """Let transformers say errors only: no bars and no advice beside a command's answer."""
    speaking: Any = logging  # its functions have no types
    speaking.disable_progress_bar()
    speaking.set_verbosity_error()


def chosen_device(name: str | None) -> torch.device:
    """Return the device of that name, or the best there is. Raises BadInput where it cannot be."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadInput(f"--device {name}: there is no such device; use cpu or cuda") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadInput(
            f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices; use cpu"
        )
    if device.type not in ("cpu", "cuda"):
        raise BadInput(f"--device {name}: use cpu or cuda")
    return device


def _relevance(arr: ArrCoc, asked: dict[str, Any], query: range) -> Relevance | None:
    """Return what the selector finds for the one question, whose own words stand at `query`."""
    if not isinstance(arr.selector, Selector):
        return None
    ids = asked["input_ids"]
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[0, query.start : query.stop] = True
    words = arr.qwen.get_input_embeddings()(ids).to(next(arr.selector.parameters()).dtype)
    one = torch.zeros(1, dtype=torch.long, device=ids.device)
    found: list[Relevance] = arr.selector(
        asked["pixel_values"], asked["image_grid_thw"], one, one, words, mask
    )
    return found[0]
