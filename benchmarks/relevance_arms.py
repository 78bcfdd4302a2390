"""Ways of choosing visual tokens under one budget, in front of the same frozen reader.

An arm gets K = Budget(budget).of(N) tokens for an image of N blocks, and with budget 1 each is the
stock model. The published ones follow their papers as far as Qwen3-VL lets them; what is different
is said where they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from relevance_choosing import conditionally_diverse, diverse, fastv
from relevance_merging import Shown, downsampled, tome, visionzip
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration

from ARR_COC.attending import Budget, attend, uniform
from ARR_COC.encoding import Encoded, encode, keep
from ARR_COC.prompt import find_runs, shorten
from ARR_COC.realizing import Answered, ArrCoc
from ARR_COC.selector import Relevance, Selector, SelectorConfig
from ARR_COC.texture import CHANNELS, textures
from ARR_COC.Training.collate import IGNORED, Batch

_BOTH = ("before", "after")

ARMS: dict[str, tuple[str, ...]] = {
    "full": ("after",),
    "downsample": ("before",),
    "uniform": _BOTH,
    "random": _BOTH,
    "centre": _BOTH,
    "salience": _BOTH,
    "query_blind": _BOTH,
    "tome": _BOTH,
    "fastv": ("layer1", "layer2"),
    "visionzip": ("after",),
    "divprune": _BOTH,
    "cdprune": ("after",),
    "ours_propositional": _BOTH,
    "ours_perspectival": _BOTH,
    "ours_participatory": _BOTH,
    "ours_thirds": _BOTH,
    "ours": _BOTH,
    "oracle": _BOTH,
}
"""The arms, and where each can choose.

before: the vision tower sees only what was chosen; after: it sees all, and of its outputs some are
chosen; layer1, layer2: the language model's first or first two layers see all.
"""

_UNTRAINED = {"ours_propositional": "propositional", "ours_perspectival": "perspectival"}


@dataclass(frozen=True, slots=True)
class Models:
    """The frozen reader, whose own selector is not used, and selectors by the name of their arm.

    ours_propositional and ours_perspectival read no weights and need not be there.
    """

    arr: ArrCoc
    selectors: Mapping[str, Selector]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the reader answered, and what it was given for it."""

    answered: Answered
    """Logits over the shortened prompt."""
    kept: tuple[Tensor, ...] | None
    """The blocks of each row, ascending; None where tokens are mixtures or the image was scaled.

    Of visionzip the contextual ones, which are mixtures too, count as the blocks where they stand.
    """
    tokens: float
    """Visual tokens in the language model: the mean over rows, and for fastv over layers too."""


@dataclass(frozen=True, slots=True)
class _Case:
    """What a choice of blocks may depend on; grids [rows] are those of each row's image."""

    arm: str
    models: Models
    batch: Batch
    budget: Budget
    rng: np.random.Generator
    grids: tuple[tuple[int, int], ...]
    seen: Encoded | None
    """The tower's outputs of all blocks, a row each, where the choice follows the tower."""

    def counts(self) -> list[tuple[int, int]]:
        """Return N and K of each row."""
        return [(h * w, self.budget.of(h * w)) for h, w in self.grids]


@torch.no_grad()
def answered(
    arm: str, where: str, models: Models, batch: Batch, budget: float, rng: np.random.Generator
) -> Outcome:
    """Answer a batch with the tokens that an arm leaves of its images.

    Raises ValueError for what ARMS does not list, and for budgets outside (0, 1]. Only random draws
    from rng.
    """
    if where not in ARMS.get(arm, ()):
        raise ValueError(f"there is no arm {arm!r} with the choice {where!r}")
    share, qwen = Budget(budget), models.arr.qwen
    if arm == "fastv":
        return _fastv(models.arr, batch, share, int(where.removeprefix("layer")))
    if arm in _MIXTURES:
        shown = _MIXTURES[arm](qwen, batch, share, where)
        return _outcome(models.arr.read(shown.prompt, shown.encoded), shown.encoded, shown.kept)
    arguments = batch.input_ids, batch.attention_mask, batch.image_grid_thw, batch.images
    looked = batch.pixel_values, batch.image_grid_thw, batch.images
    grids = tuple((h, w) for h, w in find_runs(qwen, *arguments).grids.tolist())
    seen = encode(qwen, *looked) if where == "after" else None
    chosen = _CHOICES[arm](_Case(arm, models, batch, share, rng, grids, seen))
    kept = tuple(blocks.to(batch.input_ids.device) for blocks in chosen)
    encoded = encode(qwen, *looked, kept) if seen is None else keep(seen, kept)
    return _outcome(models.arr.read(shorten(qwen, *arguments, kept), encoded), encoded, kept)


def exact(outcome: Outcome, batch: Batch) -> Tensor:
    """Return [rows], True where every token of the answer, its end included, is the likeliest."""
    labels = outcome.answered.prompt.taken(batch.labels, IGNORED)[:, 1:]
    said = outcome.answered.logits[:, :-1].argmax(-1)
    return ((said == labels) | (labels == IGNORED)).all(1)


def recall(outcome: Outcome, batch: Batch) -> Tensor:
    """Return [rows] the share of the evidence's blocks that was kept; NaN where unknown."""
    shares = torch.full((len(batch.evidence),), torch.nan)
    for row, evidence in enumerate(batch.evidence):
        if outcome.kept is not None and len(evidence):
            shares[row] = torch.isin(evidence, outcome.kept[row].cpu()).float().mean()
    return shares


def _outcome(answers: Answered, encoded: Encoded, kept: tuple[Tensor, ...] | None) -> Outcome:
    return Outcome(answers, kept, sum(map(len, encoded.main)) / len(encoded.main))


def _fastv(arr: ArrCoc, batch: Batch, budget: Budget, layer: int) -> Outcome:
    answers, kept = fastv(arr, batch, budget, layer)
    layers = len(arr.qwen.model.language_model.layers)
    every = (answers.prompt.input_ids == arr.qwen.config.image_token_id).sum(1).float().mean()
    left = sum(map(len, kept)) / len(kept)
    return Outcome(answers, kept, (layer * float(every) + (layers - layer) * left) / layers)


def _full(case: _Case) -> list[Tensor]:
    return [torch.arange(n) for n, _ in case.counts()]


def _uniform(case: _Case) -> list[Tensor]:
    return [uniform(n, k, grid) for (n, k), grid in zip(case.counts(), case.grids, strict=True)]


def _random(case: _Case) -> list[Tensor]:
    return [torch.from_numpy(case.rng.permutation(n)[:k]).sort().values for n, k in case.counts()]


def _centre(case: _Case) -> list[Tensor]:
    """Return the blocks whose centres are nearest to the image's; of equal ones the earlier."""
    nearness = []
    for h, w in case.grids:
        y, x = torch.arange(h)[:, None] - (h - 1) / 2, torch.arange(w) - (w - 1) / 2
        nearness.append(-(y.square() + x.square()).flatten())
    return _attended(case, nearness)


def _salience(case: _Case) -> list[Tensor]:
    """Return the blocks with the densest edges: the texture's channel of that name."""
    maps = textures(case.batch.pixel_values, case.batch.image_grid_thw)
    edges = [image[CHANNELS.index("edges")].flatten() for image in maps]
    return _attended(case, [edges[image] for image in case.batch.images.tolist()])


def _selected(case: _Case) -> list[Tensor]:
    """Return the blocks that the arm's selector keeps. Raises KeyError if it has none."""
    qwen, batch = case.models.arr.qwen, case.batch
    words = qwen.get_input_embeddings()(batch.input_ids)
    if case.arm in case.models.selectors or case.arm not in _UNTRAINED:
        selector = case.models.selectors[case.arm]
    else:
        with torch.device("meta"):  # it has weights, but reads none: so they need no memory
            config = SelectorConfig(words.shape[-1], balance=_UNTRAINED[case.arm])
            selector = Selector(config)
    found: list[Relevance] = selector(
        batch.pixel_values,
        batch.image_grid_thw,
        batch.images,
        torch.arange(len(batch.images), device=batch.images.device),
        words.to(next(selector.parameters()).dtype),
        batch.query_mask,
    )
    return _attended(case, [run.scores for run in found])


def _oracle(case: _Case) -> list[Tensor]:
    """Return the evidence, or its first K blocks; where there is room, others evenly spaced."""
    kept = []
    for evidence, (n, k) in zip(case.batch.evidence, case.counts(), strict=True):
        first = evidence[:k]
        others = torch.ones(n, dtype=torch.bool).index_fill(0, first, False).nonzero().flatten()
        room = k - len(first)
        places = (2 * torch.arange(room) + 1) * len(others) // max(1, 2 * room)
        kept.append(torch.cat((first, others[places])).sort().values)
    return kept


def _divprune(case: _Case) -> list[Tensor]:
    """Return diverse blocks: by the tower's outputs, or before the tower by their pixels."""
    order = case.batch.images.tolist()
    if case.seen is not None:
        features = dict(zip(order, case.seen.main, strict=True))
    else:
        sizes = case.batch.image_grid_thw.prod(-1).tolist()
        patches = torch.split(case.batch.pixel_values, sizes)
        features = {image: rows.view(-1, 4 * rows.shape[1]) for image, rows in enumerate(patches)}
    kept = {image: diverse(of, case.budget.of(len(of))) for image, of in features.items()}
    return [kept[image] for image in order]


def _cdprune(case: _Case) -> list[Tensor]:
    """Return diverse blocks that are like the mean embedding of the question's own words."""
    assert case.seen is not None
    words = case.models.arr.qwen.get_input_embeddings()(case.batch.input_ids).float()
    said = case.batch.query_mask[..., None].float()
    questions = (words * said).sum(1) / said.sum(1).clamp(min=1)
    return [
        conditionally_diverse(features, question, k)
        for features, question, (_, k) in zip(case.seen.main, questions, case.counts(), strict=True)
    ]


def _attended(case: _Case, scores: list[Tensor]) -> list[Tensor]:
    pairs = zip(scores, case.grids, strict=True)
    return [attend(blocks, grid, case.budget) for blocks, grid in pairs]


_MIXTURES: dict[str, Callable[[Qwen3VLForConditionalGeneration, Batch, Budget, str], Shown]] = {
    "downsample": lambda qwen, batch, budget, _: downsampled(qwen, batch, budget),
    "tome": tome,
    "visionzip": lambda qwen, batch, budget, _: visionzip(qwen, batch, budget),
}

_CHOICES: dict[str, Callable[[_Case], list[Tensor]]] = {
    "full": _full,
    "uniform": _uniform,
    "random": _random,
    "centre": _centre,
    "salience": _salience,
    "divprune": _divprune,
    "cdprune": _cdprune,
    "oracle": _oracle,
    "query_blind": _selected,
    "ours_propositional": _selected,
    "ours_perspectival": _selected,
    "ours_participatory": _selected,
    "ours_thirds": _selected,
    "ours": _selected,
}
