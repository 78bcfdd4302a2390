"""What is learnt from one micro-batch, as one forward call that a distributed wrapper sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ARR_COC.attending import Budget
from ARR_COC.realizing import ArrCoc, Where
from ARR_COC.Training import signals, subsets
from ARR_COC.Training.collate import Batch

Phase = Literal["reader", "selector"]


class Lesson(nn.Module):
    """The loss of one phase: the reader answers, or the selector follows a signal of the reader.

    Making it sets which weights of `arr` take a gradient: those of this phase and no others; of the
    reader only `trained` (names of parameters; all of them for None). signal: a name in
    signals.SIGNALS. where: where blocks are dropped that the reader is not shown.
    """

    def __init__(
        self,
        arr: ArrCoc,
        phase: Phase,
        *,
        budget: Budget,
        where: Where,
        signal: str,
        trained: frozenset[str] | None = None,
    ) -> None:
        super().__init__()
        self.arr = arr
        self.phase = phase
        self._budget, self._where = budget, where
        self._signal = signal
        reading = phase == "reader"
        for name, weight in arr.qwen.named_parameters():
            weight.requires_grad_(reading and (trained is None or name in trained))
        if arr.selector is not None:
            for name, weight in arr.selector.named_parameters():
                weight.requires_grad_(not reading and _learns(arr.selector, name))

    def learning(self) -> list[nn.Parameter]:
        """Return the weights that this phase trains."""
        return [weight for weight in self.parameters() if weight.requires_grad]

    def parts(self, batch: Batch) -> int:
        """Return how many parts this phase's loss of a batch has: answer tokens, or answers."""
        return batch.answer_tokens if self.phase == "reader" else len(batch.answers)

    def forward(
        self, batch: Batch, parts: Tensor, draw: Sequence[int], partial: bool = False
    ) -> Tensor:
        """Return the summed loss of this batch / parts, the number of parts in the whole step.

        All randomness comes from the whole numbers `draw`. partial: show the reader only a random
        subset of the blocks, so that it learns to live with what a selector keeps.
        """
        random = np.random.default_rng(list(draw))
        if self.phase == "selector":
            return self._selected(batch, random).sum() / parts
        kept = subsets.random_subsets(batch, random) if partial else None
        answered = self.arr(
            batch.input_ids,
            batch.attention_mask,
            batch.pixel_values,
            batch.image_grid_thw,
            images=batch.images,
            labels=batch.labels,
            kept=kept,
            where=self._where,
            num_items=parts,
        )
        summed: Tensor = answered.loss
        return summed

    def _selected(self, batch: Batch, random: np.random.Generator) -> Tensor:
        """Return the signal's loss of each row, [rows]."""
        found = signals.relevance(self.arr, batch)
        devices = [batch.input_ids.device] if batch.input_ids.is_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(int(random.integers(2**63)))
            return signals.SIGNALS[self._signal](self.arr, batch, found, self._budget)


def shows_parts(step: int, reader_steps: int) -> bool:
    """Return whether a step of the reader shows parts: every second one after the first third."""
    return step >= reader_steps // 3 and step % 2 == 1


def _learns(selector: nn.Module, name: str) -> bool:
    """Return whether a weight has a part in the scores; a distributed wrapper wants no others."""
    balance = getattr(selector.config, "balance", "learned")
    if balance == "learned":
        return True
    return name.startswith("participation.") and balance in ("thirds", "participatory")
