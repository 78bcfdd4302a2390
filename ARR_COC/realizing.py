"""Qwen3-VL that is shown only some blocks of its images; transformers' own model, unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn
from transformers import Qwen3VLForConditionalGeneration

from ARR_COC.attending import Budget, attend
from ARR_COC.encoding import Encoded, block_counts, encode, keep, runs_shown
from ARR_COC.prompt import Prompt, biased_mask, check_attention, find_runs, shorten

TRANSFORMERS = "5.23.0"
"""The one version whose Qwen3-VL takes encoded images and positions the way that is used here."""

SELECTOR = "selector"
"""The folder of the selector, below that of the whole."""

Where = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Answered:
    """What a forward pass gives; L' columns are left of the prompt, and `prompt` says which."""

    loss: Tensor | None
    """Mean cross-entropy over the labels, or their sum / num_items."""
    logits: Tensor
    """[rows, L', vocabulary]"""
    prompt: Prompt
    attentions: tuple[Tensor, ...] | None
    """[rows, heads, L', L'] a layer, where they were asked for."""


class ArrCoc(nn.Module):
    """Qwen3-VL that sees only the blocks that its selector keeps for the question.

    Raises ImportError on another version of transformers than TRANSFORMERS.
    """

    def __init__(
        self, qwen: Qwen3VLForConditionalGeneration, selector: nn.Module | None = None
    ) -> None:
        super().__init__()
        check_transformers()
        self.qwen = qwen
        self.selector = selector

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        image_grid_thw: Tensor,
        images: Tensor | None = None,
        query_mask: Tensor | None = None,
        labels: Tensor | None = None,
        kept: Sequence[Tensor] | None = None,
        budget: Budget | None = None,
        where: Where = "before",
        key_bias: Sequence[Tensor] | None = None,
        num_items: int | Tensor | None = None,
        **kwargs: Any,
    ) -> Answered:
        """Answer over rows [rows, L] that show S runs of image tokens; `images [S]` names them.

        kept: the blocks of each run; else, with a budget, those that the selector chooses; else
        all, which is the stock model. where: drop the others before the vision tower or after it.
        labels [rows, L] as transformers takes them. key_bias: a tensor [K] (or [N]) a run, added
        to the attention logits of its kept tokens in all layers. kwargs go to Qwen3-VL.
        Raises ValueError on what does not fit.
        """
        if kwargs.get("output_attentions"):
            check_attention(self.qwen, "attentions are returned", ("eager",))
        prompt, encoded, kept = self._shown(
            input_ids,
            attention_mask,
            pixel_values,
            image_grid_thw,
            images,
            query_mask,
            kept,
            budget,
            where,
            "right",
        )
        mask = None
        if key_bias is not None:
            sizes = block_counts(self.qwen, image_grid_thw)[runs_shown(image_grid_thw, images)]
            mask = biased_mask(self.qwen, prompt, key_bias, kept, sizes)
        return self.read(prompt, encoded, mask, labels, num_items, **kwargs)

    def read(
        self,
        prompt: Prompt,
        encoded: Encoded,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        num_items: int | Tensor | None = None,
        **kwargs: Any,
    ) -> Answered:
        """Run the language model alone over a shortened prompt and the features of its blocks.

        mask: [rows, L'] or an additive [rows, 1, L', L'], the prompt's own by default; labels
        [rows, L] are those of the whole prompt. The rest as in forward.
        """
        answered = self.qwen(
            input_ids=prompt.input_ids,
            attention_mask=prompt.attention_mask if mask is None else mask,
            position_ids=prompt.position_ids,
            mm_encoder_outputs=encoded.outputs(),
            labels=None if labels is None else prompt.taken(labels, -100),
            num_items_in_batch=num_items,
            **{"use_cache": False, **kwargs},
        )
        return Answered(answered.loss, answered.logits, prompt, answered.attentions)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        image_grid_thw: Tensor,
        images: Tensor | None = None,
        query_mask: Tensor | None = None,
        kept: Sequence[Tensor] | None = None,
        budget: Budget | None = None,
        where: Where = "before",
        max_new_tokens: int = 32,
        **kwargs: Any,
    ) -> Tensor:
        """Return the new tokens [rows, at most max_new_tokens], padded after a row's end token.

        Takes what forward takes; kwargs go to transformers' generate. Every row must end in text.
        """
        prompt, encoded, _ = self._shown(
            input_ids,
            attention_mask,
            pixel_values,
            image_grid_thw,
            images,
            query_mask,
            kept,
            budget,
            where,
            "left",
        )
        if (prompt.input_ids[:, -1] == self.qwen.config.image_token_id).any():
            raise ValueError("a row ends in an image: text must follow it before an answer can")
        stock: Any = self.qwen  # generate's own type is a protocol that mypy finds it not to meet
        written: Tensor = stock.generate(
            input_ids=prompt.input_ids,
            attention_mask=prompt.attention_mask,
            position_ids=prompt.position_ids,
            mm_encoder_outputs=encoded.outputs(),
            max_new_tokens=max_new_tokens,
            **{"pad_token_id": self._pad_id(), **kwargs},
        )
        return written[:, prompt.input_ids.shape[1] :]

    @torch.no_grad()
    def select(
        self,
        input_ids: Tensor,
        query_mask: Tensor | None,
        pixel_values: Tensor,
        image_grid_thw: Tensor,
        images: Tensor | None,
        budget: Budget,
    ) -> tuple[Tensor, ...]:
        """Return the blocks that the selector keeps of each run, for its row's question.

        query_mask [rows, L] is True on the question's own words. Raises ValueError without it, or
        without a selector.
        """
        if self.selector is None or query_mask is None:
            raise ValueError("a budget needs a selector, and a query_mask for it to read")
        tokens = torch.ones_like(input_ids)
        runs = find_runs(self.qwen, input_ids, tokens, image_grid_thw, images)
        query = self.qwen.get_input_embeddings()(input_ids)
        query = query.to(next(self.selector.parameters(), query).dtype)
        shown = runs_shown(image_grid_thw, images)
        relevance = self.selector(pixel_values, image_grid_thw, shown, runs.rows, query, query_mask)
        grids = [(height, width) for height, width in runs.grids.tolist()]
        return tuple(
            attend(run.scores, grid, budget) for run, grid in zip(relevance, grids, strict=True)
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model as transformers does, and the selector into a folder below.

        Raises FileExistsError if there is no selector here but one in the folder.
        """
        below = Path(folder) / SELECTOR
        if self.selector is None and below.exists():
            raise FileExistsError(f"{below} holds a selector, this model has none: remove it first")
        self.qwen.save_pretrained(folder)
        selector: Any = self.selector
        if selector is not None:
            selector.save_pretrained(below)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, selector: str | Path | None = None, **kwargs: Any
    ) -> ArrCoc:
        """Return the model of a folder or of the hub; kwargs go to transformers' from_pretrained.

        selector: the folder to read it from. Without one it is that which save_pretrained wrote
        into the folder, and none if there is none.
        """
        check_transformers()
        below = Path(name) / SELECTOR
        source = selector or (below if below.is_dir() else None)
        qwen = Qwen3VLForConditionalGeneration.from_pretrained(name, **kwargs)
        if source is None:
            return cls(qwen)
        from ARR_COC.selector import Selector

        return cls(qwen, Selector.from_pretrained(source).to(qwen.device))

    def _shown(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        image_grid_thw: Tensor,
        images: Tensor | None,
        query_mask: Tensor | None,
        kept: Sequence[Tensor] | None,
        budget: Budget | None,
        where: Where,
        padding_side: Literal["left", "right"],
    ) -> tuple[Prompt, Encoded, Sequence[Tensor] | None]:
        """Return the shortened rows, the features of the blocks in them, and which these are."""
        if where not in ("before", "after"):
            raise ValueError(f"where must be 'before' or 'after' (the vision tower), not {where!r}")
        if kept is None and budget is not None:
            kept = self.select(input_ids, query_mask, pixel_values, image_grid_thw, images, budget)
        prompt = shorten(
            self.qwen,
            input_ids,
            attention_mask,
            image_grid_thw,
            images,
            kept,
            padding_side=padding_side,
            pad_id=self._pad_id(),
        )
        before = kept if where == "before" else None
        encoded = encode(self.qwen, pixel_values, image_grid_thw, images, before)
        if kept is not None and before is None:
            encoded = keep(encoded, kept)
        return prompt, encoded, kept

    def _pad_id(self) -> int:
        """Return what stands on padding; attention hides it, so that any text token will do."""
        given = self.qwen.generation_config.pad_token_id
        return given if isinstance(given, int) else 0


def check_transformers() -> None:
    """Raise ImportError unless the installed transformers is the version that is supported."""
    if transformers.__version__ != TRANSFORMERS:
        raise ImportError(
            f"ARR_COC works with transformers {TRANSFORMERS} only, {transformers.__version__} is "
            f"installed: pip install transformers=={TRANSFORMERS}"
        )
