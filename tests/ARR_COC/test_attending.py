"""Kept blocks: as many as the budget says, the best first, and always the same ones."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ARR_COC.attending import Budget, attend, uniform

_SIDES = st.integers(1, 12)
_RATIOS = st.floats(0.01, 1.0)
_SHARES = st.floats(0.0, 0.99)


@st.composite
def scored_grids(draw: st.DrawFn) -> tuple[Tensor, tuple[int, int]]:
    """Few different scores, so that ties are common."""
    grid = draw(_SIDES), draw(_SIDES)
    n = grid[0] * grid[1]
    values = draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n))
    return torch.tensor(values, dtype=torch.float32) / 2, grid


@given(scored_grids(), _RATIOS, _SHARES)
@settings(deadline=None)
def test_kept_blocks_are_as_many_as_the_budget_says_ascending_and_in_the_image(
    scored: tuple[Tensor, tuple[int, int]], ratio: float, gestalt: float
) -> None:
    scores, grid = scored
    budget = Budget(ratio, gestalt=gestalt)
    kept = attend(scores, grid, budget)
    assert kept.dtype == torch.int64
    assert len(kept) == budget.of(len(scores))
    assert (kept.diff() > 0).all()
    assert int(kept[0]) >= 0
    assert int(kept[-1]) < len(scores)


@given(scored_grids(), _RATIOS, _SHARES)
@settings(deadline=None)
def test_the_even_share_is_kept_and_of_the_rest_the_best_with_ties_in_raster_order(
    scored: tuple[Tensor, tuple[int, int]], ratio: float, gestalt: float
) -> None:
    scores, grid = scored
    budget = Budget(ratio, gestalt=gestalt)
    k = budget.of(len(scores))
    even = uniform(len(scores), math.floor(gestalt * k + 1e-9), grid).tolist()
    rest = sorted(
        set(range(len(scores))) - set(even), key=lambda block: (-float(scores[block]), block)
    )
    expected = sorted(even + rest[: k - len(even)])
    assert attend(scores, grid, budget).tolist() == expected


@given(scored_grids(), _RATIOS, _RATIOS)
@settings(deadline=None)
def test_a_bigger_budget_keeps_what_a_smaller_one_kept(
    scored: tuple[Tensor, tuple[int, int]], one: float, other: float
) -> None:
    scores, grid = scored
    less, more = (set(attend(scores, grid, Budget(r)).tolist()) for r in sorted((one, other)))
    assert less <= more


@given(scored_grids(), _SHARES)
@settings(deadline=None)
def test_ratio_one_keeps_every_block(
    scored: tuple[Tensor, tuple[int, int]], gestalt: float
) -> None:
    scores, grid = scored
    kept = attend(scores, grid, Budget(1, gestalt=gestalt))
    assert kept.tolist() == list(range(len(scores)))


@given(scored_grids(), st.floats(0.05, 0.99), st.integers(1, 4))
@settings(deadline=None)
def test_cumulative_keeps_the_fewest_blocks_that_reach_the_share(
    scored: tuple[Tensor, tuple[int, int]], share: float, floor: int
) -> None:
    scores, grid = scored
    kept = attend(scores, grid, Budget(1, floor=floor, cumulative=share))
    masses = scores.double().softmax(0)[kept].sort(descending=True).values
    assert masses.sum() >= share - 1e-9
    if len(kept) > floor:
        assert masses[:-1].sum() < share + 1e-9


def test_cumulative_keeps_one_clear_block_but_never_fewer_than_the_floor_nor_more_than_ratio() -> (
    None
):
    clear = torch.zeros(16)
    clear[5] = 20.0
    assert attend(clear, (4, 4), Budget(0.5, cumulative=0.9)).tolist() == [5]
    assert len(attend(clear, (4, 4), Budget(0.5, floor=3, cumulative=0.9))) == 3
    assert len(attend(torch.zeros(16), (4, 4), Budget(0.5, cumulative=0.9))) == 8


@pytest.mark.parametrize(
    ("ratio", "n", "kept"), [(0.1, 5, 1), (0.5, 3, 2), (0.145, 100, 15), (0.01, 9, 1), (1, 7, 7)]
)
def test_halves_are_rounded_up_and_one_block_is_always_kept(
    ratio: float, n: int, kept: int
) -> None:
    assert Budget(ratio).of(n) == kept


def test_floor_and_ceiling_bound_every_ratio_and_the_image_bounds_the_floor() -> None:
    assert Budget(0.1, floor=4).of(16) == 4
    assert Budget(0.1, floor=4).of(3) == 3
    assert Budget(1, ceiling=8).of(16) == 8
    assert Budget(1, ceiling=8).of(4) == 4


@pytest.mark.parametrize(
    ("settings_", "said"),
    [
        ({"ratio": 0}, "share in"),
        ({"ratio": 1.01}, "share in"),
        ({"ratio": math.nan}, "share in"),
        ({"ratio": 0.5, "floor": 0}, "at least one"),
        ({"ratio": 0.5, "floor": 3, "ceiling": 2}, "below the floor"),
        ({"ratio": 0.5, "gestalt": 1.0}, "gestalt"),
        ({"ratio": 0.5, "gestalt": -0.1}, "gestalt"),
        ({"ratio": 0.5, "cumulative": 0.0}, "cumulative"),
        ({"ratio": 0.5, "cumulative": 1.1}, "cumulative"),
    ],
)
def test_an_impossible_budget_is_refused_in_words(settings_: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Budget(**settings_)  # type: ignore[arg-type]


def test_scores_that_cannot_be_ranked_are_refused() -> None:
    scores = torch.zeros(4)
    scores[2] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        attend(scores, (2, 2), Budget(0.5))
    with pytest.raises(ValueError, match="6 scores are needed"):
        attend(torch.zeros(4), (2, 3), Budget(0.5))
    with pytest.raises(ValueError, match="infinities"):
        attend(torch.tensor([math.inf, 0.0]), (1, 2), Budget(1, cumulative=0.5))


def test_zero_and_minus_zero_are_a_tie() -> None:
    assert attend(torch.tensor([-0.0, 0.0, -0.0]), (1, 3), Budget(1 / 3)).tolist() == [0]


@pytest.mark.parametrize("grid", [(1, 1), (1, 9), (9, 1), (3, 3), (8, 8), (5, 13)])
def test_evenly_spread_blocks_are_distinct_and_in_the_grid_for_every_number(
    grid: tuple[int, int],
) -> None:
    n = grid[0] * grid[1]
    for k in range(n + 1):
        numbers = uniform(n, k, grid).tolist()
        assert len(set(numbers)) == k
        assert numbers == sorted(numbers)
        assert all(0 <= number < n for number in numbers)


@pytest.mark.parametrize("k", [4, 7, 12, 16, 20, 31])
def test_evenly_spread_blocks_leave_no_part_of_the_image_out(k: int) -> None:
    """Every block has a chosen one within about the spacing of a square lattice of k blocks."""
    side = 16
    chosen = [divmod(number, side) for number in uniform(side * side, k, (side, side)).tolist()]
    farthest = max(
        min(max(abs(y - cy), abs(x - cx)) for cy, cx in chosen)
        for y, x in itertools.product(range(side), repeat=2)
    )
    assert farthest <= side / math.sqrt(k)


def test_evenly_spread_blocks_refuse_a_number_or_grid_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="cannot be chosen"):
        uniform(4, 5, (2, 2))
    with pytest.raises(ValueError, match="has not"):
        uniform(5, 2, (2, 2))
