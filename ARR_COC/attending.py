"""From scores to kept blocks: how many the budget allows, and which ones these are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996 in floating point and means 29


@dataclass(frozen=True, slots=True)
class Budget:
    """How many blocks of an image are kept, and how.

    ratio: share of the blocks, in (0, 1]. floor: at least so many (or all, where an image has
    fewer). ceiling: at most so many, for every ratio: it is there to bound memory, so ratio 1 keeps
    all blocks only where the ceiling allows it. gestalt: share of the kept blocks that is spread
    evenly whatever the scores are, in [0, 1). cumulative: keep no more blocks than it takes for
    their softmax to add up to this, in (0, 1]; ratio then only bounds their number from above.

    Raises ValueError for any value outside of these.
    """

    ratio: float
    floor: int = 1
    ceiling: int | None = None
    gestalt: float = 0.0
    cumulative: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1:
            raise ValueError(f"a budget keeps a share in (0, 1] of the blocks, not {self.ratio}")
        if self.floor < 1:
            raise ValueError(f"at least one block is kept: floor is {self.floor}")
        if self.ceiling is not None and self.ceiling < self.floor:
            raise ValueError(f"the ceiling {self.ceiling} is below the floor {self.floor}")
        if not 0 <= self.gestalt < 1:
            raise ValueError(f"the gestalt share is in [0, 1), not {self.gestalt}")
        if self.cumulative is not None and not 0 < self.cumulative <= 1:
            raise ValueError(f"the cumulative share is in (0, 1], not {self.cumulative}")

    def of(self, n_blocks: int) -> int:
        """Return how many of n_blocks are kept: ratio * n_blocks, halves up, within the bounds.

        With `cumulative` it is the most that can be kept. Raises ValueError for no blocks.
        """
        if n_blocks < 1:
            raise ValueError(f"an image has at least one block, not {n_blocks}")
        most = n_blocks if self.ceiling is None else min(self.ceiling, n_blocks)
        wanted = math.floor(self.ratio * n_blocks + 0.5 + _ROUNDING)
        return min(max(wanted, self.floor), most)


def attend(scores: Tensor, grid: tuple[int, int], budget: Budget) -> Tensor:
    """Return the numbers of the kept blocks [K], int64, ascending, on the device of the scores.

    scores: [N], higher is kept first; grid: (h, w) in blocks, N = h * w. Of the K blocks
    floor(gestalt * K) are those of `uniform`, the others have the highest scores of the rest. Of
    equal scores the earlier block in raster order wins, on every device. Raises ValueError for
    scores of another shape and for NaN.
    """
    n = grid[0] * grid[1]
    if scores.shape != (n,):
        raise ValueError(f"{n} scores are needed for the grid {grid}, not {tuple(scores.shape)}")
    ranked, order = _ranked(scores)
    k = budget.of(n)
    if budget.cumulative is not None:
        k = max(min(_reaching(ranked, budget.cumulative), k), min(budget.floor, n))
    spread = math.floor(budget.gestalt * k + _ROUNDING)
    chosen = torch.zeros(n, dtype=torch.bool, device=scores.device)
    chosen[uniform(n, spread, grid).to(scores.device)] = True
    chosen[order[~chosen[order]][: k - spread]] = True
    return chosen.nonzero().flatten()


def uniform(n: int, k: int, grid: tuple[int, int]) -> Tensor:
    """Return k of the n = h * w block numbers, spread evenly over the grid [k], int64, ascending.

    The blocks lie on r rows, where r is as near to sqrt(k * h / w) as it can be, so that their
    distances along and across are alike; k is shared out evenly among the rows, and rows and the
    blocks within a row stand in the middle of equal parts. Always the same for the same arguments.
    Raises ValueError for a grid of another size and for k outside of 0..n.
    """
    height, width = grid
    if n != height * width or n < 1:
        raise ValueError(f"the grid {grid} has not {n} blocks")
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} blocks cannot be chosen")
    if k == 0:
        return torch.zeros(0, dtype=torch.int64)
    nearest = math.floor(math.sqrt(k * height / width) + 0.5)
    rows = min(max(nearest, math.ceil(k / width), 1), height, k)
    numbers = []
    for row in range(rows):
        y = (2 * row + 1) * height // (2 * rows)
        columns = (row + 1) * k // rows - row * k // rows
        numbers += [y * width + (2 * c + 1) * width // (2 * columns) for c in range(columns)]
    return torch.tensor(numbers)


def _ranked(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores from high to low, and their block numbers. Raises ValueError for NaN."""
    # Adding 0.0 makes -0.0 equal to 0.0 for sorts that compare bits.
    ranked, order = torch.sort(scores.detach() + 0.0, descending=True, stable=True)
    if ranked.isnan().any():
        raise ValueError("scores hold NaN: blocks cannot be ranked")
    return ranked, order


def _reaching(ranked: Tensor, share: float) -> int:
    """Return how many of the highest scores it takes for their softmax to add up to the share."""
    masses = ranked.double().softmax(dim=0)
    if masses.isnan().any():
        raise ValueError("scores hold infinities: they have no softmax")
    return int((masses.cumsum(dim=0) < share).sum()) + 1
