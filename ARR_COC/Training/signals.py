"""What a selector learns from: five signals of a frozen reader, of which attention is the default.

Top-K alone has no gradient. Each signal takes the relevance of every block and the reader's
answers, and returns a loss for the selector; benchmarks/signals.py compares them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ARR_COC.attending import Budget, attend
from ARR_COC.encoding import Encoded, encode
from ARR_COC.prompt import shorten
from ARR_COC.realizing import Answered, ArrCoc
from ARR_COC.selector import Relevance
from ARR_COC.Training.collate import IGNORED, Batch

_WORST = 20.0  # nats: a choice is not worse than that

Signal = Callable[[ArrCoc, Batch, Sequence[Relevance], Budget], Tensor]


def relevance(arr: ArrCoc, batch: Batch) -> list[Relevance]:
    """Return what the selector finds for each row, differentiable; ValueError without one."""
    if arr.selector is None:
        raise ValueError("this model has no selector to train")
    rows = torch.arange(len(batch.images), device=batch.images.device)
    query = arr.qwen.get_input_embeddings()(batch.input_ids).detach()
    found: list[Relevance] = arr.selector(
        batch.pixel_values,
        batch.image_grid_thw,
        batch.images,
        rows,
        query.float(),
        batch.query_mask,
    )
    return found


def attention(arr: ArrCoc, batch: Batch, found: Sequence[Relevance], budget: Budget) -> Tensor:
    """Return [rows] the cross-entropy of the selector's softmax to the reader's own attention.

    The target is how the reader, with all blocks before it, attends to each of them while it gives
    the answer: the mean over layers, heads and answer positions, as a distribution over blocks.
    """
    with torch.no_grad(), _eager(arr):
        seen = answer(arr, batch, output_attentions=True)
        targets = _attended(arr, batch, seen)
    return torch.stack(
        [
            -(target * run.scores.log_softmax(0)).sum()
            for target, run in zip(targets, found, strict=True)
        ]
    )


def log_gate(arr: ArrCoc, batch: Batch, found: Sequence[Relevance], budget: Budget) -> Tensor:
    """Return [rows] the answers' loss when log(N softmax(scores)) is added to the attention logits.

    The mean gate is 1, so that blocks compete and no penalty on the number of open gates is needed.
    """
    bias = [run.scores.log_softmax(0) + math.log(len(run.scores)) for run in found]
    return losses(answer(arr, batch, key_bias=bias), batch)


def straight_through(
    arr: ArrCoc, batch: Batch, found: Sequence[Relevance], budget: Budget
) -> Tensor:
    """Return [rows] the loss with only the top K attended to, and the gradient of a soft gate.

    Forward: the hard choice, by an attention mask. Backward: the gate's (Bengio et al., 2013).
    """
    bias = []
    for run in found:
        soft = torch.sigmoid(run.scores - run.scores.mean())
        hard = torch.zeros_like(soft)
        hard[attend(run.scores, run.grid, budget)] = 1.0
        bias.append(torch.log((hard - soft).detach() + soft + 1e-4))
    return losses(answer(arr, batch, key_bias=bias), batch)


def multiply(arr: ArrCoc, batch: Batch, found: Sequence[Relevance], budget: Budget) -> Tensor:
    """Return [rows] the loss with each visual token multiplied by its gate N softmax(scores).

    The gate that one thinks of first. The pre-norm of each layer cancels most of it.
    """
    encoded = encode(arr.qwen, batch.pixel_values, batch.image_grid_thw, batch.images)
    gates = [run.scores.softmax(0)[:, None] * len(run.scores) for run in found]
    gated = Encoded(
        tuple(run * gate for run, gate in zip(encoded.main, gates, strict=True)), encoded.taps
    )
    prompt = shorten(
        arr.qwen, batch.input_ids, batch.attention_mask, batch.image_grid_thw, batch.images
    )
    return losses(arr.read(prompt, gated), batch)


def policy(
    arr: ArrCoc,
    batch: Batch,
    found: Sequence[Relevance],
    budget: Budget,
    samples: int = 4,
) -> Tensor:
    """Return [rows] the policy-gradient loss of sampled choices, each tried before the tower.

    K blocks are drawn without replacement by Gumbel top-K (Kool et al., 2019); the reward is the
    answer's log-probability, the baseline the mean reward of the row's other samples.
    """
    chances, rewards = [], []
    for _ in range(samples):
        kept, chance = [], []
        for run in found:
            noise = -torch.log(-torch.log(torch.rand_like(run.scores).clamp(1e-9, 1 - 1e-7)))
            order = (run.scores.detach() + noise).argsort(descending=True)
            count = budget.of(len(order))
            ranked = run.scores[order]
            left = ranked.flip(0).logcumsumexp(0).flip(0)
            chance.append((ranked - left)[:count].sum())
            kept.append(order[:count].sort().values)
        with torch.no_grad():
            rewards.append(-losses(answer(arr, batch, kept=kept), batch).clamp(max=_WORST))
        chances.append(torch.stack(chance))
    reward = torch.stack(rewards)
    advantage = (reward - reward.mean(0)) * samples / (samples - 1)
    return -(advantage * torch.stack(chances)).mean(0)


SIGNALS: dict[str, Signal] = {
    "attention": attention,
    "log_gate": log_gate,
    "straight_through": straight_through,
    "multiply": multiply,
    "policy": policy,
}


@contextmanager
def _eager(arr: ArrCoc) -> Iterator[None]:
    """Let the language model compute its attention openly, so that it can be returned."""
    text: Any = arr.qwen.config.text_config
    usual = text._attn_implementation
    arr.qwen.set_attn_implementation({"text_config": "eager"})
    try:
        yield
    finally:
        arr.qwen.set_attn_implementation({"text_config": usual})


def answer(arr: ArrCoc, batch: Batch, **kwargs: object) -> Answered:
    """Return the reader's answers to a batch; kwargs go to ArrCoc.forward."""
    answered: Answered = arr(
        batch.input_ids,
        batch.attention_mask,
        batch.pixel_values,
        batch.image_grid_thw,
        images=batch.images,
        **kwargs,
    )
    return answered


def losses(answered: Answered, batch: Batch) -> Tensor:
    """Return [rows] the summed cross-entropy of each row's answer."""
    labels = answered.prompt.taken(batch.labels, IGNORED)[:, 1:]
    logits = answered.logits[:, :-1].float()
    each = functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return each.view(labels.shape).sum(1)


def _attended(arr: ArrCoc, batch: Batch, seen: Answered) -> list[Tensor]:
    """Return for each row how attention from the answer is shared out over its blocks [N]."""
    assert seen.attentions is not None
    mean = torch.stack([layer.mean(1) for layer in seen.attentions]).mean(0)
    labels = seen.prompt.taken(batch.labels, IGNORED)
    asks = torch.zeros_like(labels, dtype=mean.dtype)
    asks[:, :-1] = (labels[:, 1:] != IGNORED).to(mean.dtype)
    towards = torch.einsum("rq,rqk->rk", asks, mean)
    visual = seen.prompt.input_ids == arr.qwen.config.image_token_id
    shares = []
    for row, blocks in zip(towards, visual, strict=True):
        share = row[blocks].float()
        shares.append(share / share.sum())
    return shares
