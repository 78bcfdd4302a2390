"""Random subsets of blocks: a reader that meets them while it learns can live with a selection."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ARR_COC.Training.collate import Batch

FEWEST = 1 / 16  # share of the blocks


def random_subsets(
    batch: Batch, generator: np.random.Generator, evidence: float = 0.5
) -> list[Tensor]:
    """Return the kept blocks of each row: a random share from 1/16 to all, log-uniform.

    With the probability `evidence` a row keeps the blocks of its evidence, where that is known, and
    random others; else it keeps random ones, so that a reader also learns what it cannot know.
    """
    sizes = (batch.image_grid_thw.prod(-1) // 4)[batch.images].tolist()
    kept = []
    for size, known in zip(sizes, batch.evidence, strict=True):
        share = math.exp(generator.uniform(math.log(FEWEST), 0.0))
        count = max(1, round(share * size))
        order = generator.permutation(size)
        if generator.random() < evidence and len(known):
            first = known.numpy()
            order = np.concatenate([first, order[~np.isin(order, first)]])
            count = max(count, len(first))
        kept.append(torch.from_numpy(np.sort(order[:count])))
    return kept
