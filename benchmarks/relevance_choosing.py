"""Published ways to choose visual tokens: by diversity, and by attention in the language model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ARR_COC.attending import Budget, attend
from ARR_COC.encoding import encode
from ARR_COC.prompt import Prompt, find_runs, shorten
from ARR_COC.realizing import Answered, ArrCoc
from ARR_COC.Training.collate import IGNORED, Batch

_LEAST = 1e-6  # CDPruner's: the least relevant token stays choosable


def diverse(features: Tensor, k: int) -> Tensor:
    """Return the k tokens, ascending, of N [N, D] that DivPrune keeps (Alvar et al., CVPR 2025).

    Greedy max-min of cosine distance: first the token farthest from its nearest neighbour, then
    always the one farthest from those already chosen.
    """
    unit = functional.normalize(features.double(), dim=-1)
    distances = (1 - unit @ unit.T).fill_diagonal_(torch.inf)
    nearest = distances.min(dim=0).values
    chosen: list[int] = []
    for _ in range(k):
        chosen.append(int(nearest.argmax()))
        nearest = distances[chosen].min(dim=0).values
        nearest[chosen] = -torch.inf
    return torch.tensor(sorted(chosen), device=features.device)


def conditionally_diverse(features: Tensor, question: Tensor, k: int) -> Tensor:
    """Return the k tokens, ascending, of N [N, D] that CDPruner keeps (Zhang et al., NeurIPS 2025).

    A determinantal point process with the kernel r_i S_ij r_j, its most likely set found greedily
    (Chen et al., 2018): S is the cosine of the tokens, r that of token and question [D], brought to
    0..1 over the image. The paper's r is that of CLIP's two encoders, which Qwen3-VL has not.
    """
    unit = functional.normalize(features.double(), dim=-1)
    relevance = unit @ functional.normalize(question.double(), dim=-1)
    relevance = relevance - relevance.min()
    relevance = (relevance + _LEAST) / (relevance.max() + _LEAST)
    kernel = relevance[:, None] * (unit @ unit.T) * relevance
    gains = kernel.diagonal().clone()
    factors = kernel.new_zeros(k, len(kernel))
    chosen: list[int] = []
    for step in range(k):
        best = int(gains.argmax())
        root = gains[best].clamp(min=1e-18).sqrt()
        factors[step] = (kernel[best] - factors[:step, best] @ factors[:step]) / root
        # Below 0 by rounding only; the chosen ones must stay below all of them.
        gains = (gains - factors[step].square()).clamp(min=0)
        chosen.append(best)
        gains[chosen] = -1
    return torch.tensor(sorted(chosen), device=features.device)


def fastv(
    arr: ArrCoc, batch: Batch, budget: Budget, layer: int
) -> tuple[Answered, tuple[Tensor, ...]]:
    """Return the answers of FastV (Chen et al., ECCV 2024) and the blocks kept of each row.

    All tokens go through the first `layer` layers of the language model; of the visual ones only
    the K to which the last token of the prompt attends most in the last of these (mean over heads)
    are seen in later layers. The others are hidden by the attention mask, which is the same as
    dropping them. So the first layers see more than K. Raises ValueError unless a layer follows.
    """
    layers = len(arr.qwen.model.language_model.layers)
    if not 0 < layer < layers:
        raise ValueError(f"tokens are dropped after layer 1 to {layers - 1}, not {layer}")
    arguments = batch.input_ids, batch.attention_mask, batch.image_grid_thw, batch.images
    prompt = shorten(arr.qwen, *arguments)
    encoded = encode(arr.qwen, batch.pixel_values, batch.image_grid_thw, batch.images)
    grids = [(height, width) for height, width in find_runs(arr.qwen, *arguments).grids.tolist()]
    kept: list[Tensor] = []
    with _eager(arr), _dropping(arr, batch, prompt, grids, budget, layer, kept):
        answered = arr.read(prompt, encoded)
    return answered, tuple(kept)


def last_of_prompt(prompt: Prompt, labels: Tensor) -> Tensor:
    """Return the column [rows] of each row's token from which the first answer token is read.

    labels [rows, L] are those of the whole prompt; without any it is the row's last token.
    """
    labelled = prompt.taken(labels, IGNORED) != IGNORED
    last = prompt.attention_mask.sum(1) - 1
    return torch.where(labelled.any(1), labelled.int().argmax(1) - 1, last)


@contextmanager
def _dropping(
    arr: ArrCoc,
    batch: Batch,
    prompt: Prompt,
    grids: list[tuple[int, int]],
    budget: Budget,
    layer: int,
    kept: list[Tensor],
) -> Iterator[None]:
    """Hide, while this lasts, all but K visual tokens from the layers after `layer`; fill kept."""
    layers: Any = arr.qwen.model.language_model.layers
    visual = prompt.input_ids == arr.qwen.config.image_token_id
    asks = last_of_prompt(prompt, batch.labels)
    rows = torch.arange(len(asks), device=asks.device)
    hidden = torch.zeros_like(visual)
    own = torch.eye(visual.shape[1], dtype=torch.bool, device=visual.device)

    def rank(_: Any, args: Any, output: tuple[Tensor, Tensor]) -> None:
        paid = output[1][rows, :, asks].float().mean(1)
        for row, grid in enumerate(grids):
            columns = visual[row].nonzero().flatten()
            kept.append(attend(paid[row, columns], grid, budget))
            hidden[row, columns] = True
            hidden[row, columns[kept[row]]] = False

    def hide(_: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask = kwargs["attention_mask"]
        away = hidden[:, None, None] & ~own  # no token is hidden from itself: no row without a key
        return args, {
            **kwargs,
            "attention_mask": mask.masked_fill(away, torch.finfo(mask.dtype).min),
        }

    hooks = [layers[layer - 1].self_attn.register_forward_hook(rank)]
    hooks += [later.register_forward_pre_hook(hide, with_kwargs=True) for later in layers[layer:]]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _eager(arr: ArrCoc) -> Iterator[None]:
    """Let the language model compute its attention openly, so that it can be read and masked."""
    model = arr.qwen.model.language_model
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
