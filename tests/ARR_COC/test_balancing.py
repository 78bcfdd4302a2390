"""Each tension moves the scores in the direction that its name says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ARR_COC.attending import Budget, attend
from ARR_COC.balancing import TENSIONS, Balancer, balance

GRID = (8, 8)


def scored(coupling: Tensor, context: Tensor, **tensions: float) -> Tensor:
    """Scores [h, w] of one image; a tension that is not named is in its first state."""
    usual = {"particularise": 1.0, "explore": 0.0, "diversify": 0.0}
    values = torch.tensor([[{**usual, **tensions}[name] for name in TENSIONS]])
    return balance(coupling[None], context[None], values)[0]


def peak(row: int, column: int, height: float = 4.0) -> Tensor:
    found = torch.zeros(GRID)
    found[row, column] = height
    return found


def roughness(scores: Tensor) -> float:
    """Mean squared difference of neighbours."""
    return float(scores.diff(dim=0).square().mean() + scores.diff(dim=1).square().mean())


def spread(scores: Tensor) -> float:
    """Mean distance of the four kept blocks to one another."""
    kept = attend(scores.flatten(), GRID, Budget(4 / 64))
    places = torch.stack([kept // GRID[1], kept % GRID[1]], dim=1).float()
    return float(torch.cdist(places, places).sum() / 12)


def test_compressing_smooths_and_particularising_keeps_single_blocks() -> None:
    coupling = torch.randn(GRID, generator=torch.Generator().manual_seed(0))
    rough = [
        roughness(scored(coupling, torch.zeros(GRID), particularise=p)) for p in (0.0, 0.5, 1.0)
    ]
    assert rough == sorted(rough)
    assert rough[0] < 0.2 * rough[-1]


def test_exploiting_follows_the_question_and_exploring_what_stands_out() -> None:
    asked, outstanding = peak(1, 1), peak(6, 6)
    trusting = scored(asked, outstanding, explore=0.0)
    wandering = scored(asked, outstanding, explore=1.0)
    assert int(trusting.argmax()) == 1 * 8 + 1
    assert int(wandering.argmax()) == 6 * 8 + 6
    share = [
        float(scored(asked, outstanding, explore=e)[6, 6]) for e in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert share == sorted(share)


def test_focusing_keeps_one_region_and_diversifying_several() -> None:
    coupling = torch.zeros(GRID)
    coupling[2:5, 2:5] = 4.0  # a large region, and two lone blocks that are nearly as good
    coupling[7, 7], coupling[0, 7] = 3.5, 3.5
    distances = [spread(scored(coupling, torch.zeros(GRID), diversify=d)) for d in (0.0, 0.5, 1.0)]
    assert distances == sorted(distances)
    assert distances[-1] > 1.5 * distances[0]


@pytest.mark.parametrize("tension", TENSIONS)
def test_nothing_changes_where_all_blocks_are_alike(tension: str) -> None:
    alike = torch.full(GRID, 2.0)
    for value in (0.0, 1.0):
        scores = scored(alike, alike, **{tension: value})
        assert torch.allclose(scores, alike, atol=1e-6)


@pytest.mark.parametrize("grid", [(1, 1), (1, 9), (2, 3)])
def test_a_grid_smaller_than_a_neighbourhood_is_scored_too(grid: tuple[int, int]) -> None:
    scores = balance(torch.randn(2, *grid), torch.randn(2, *grid), torch.rand(2, 3))
    assert scores.shape == (2, *grid)
    assert scores.isfinite().all()


def test_an_untrained_balancer_trusts_the_question_and_single_blocks() -> None:
    balancer = Balancer(8)
    words, mask = torch.randn(1, 3, 8), torch.ones(1, 3, dtype=torch.bool)
    maps = torch.randn(1, *GRID)
    particularise, explore, diversify = balancer.tensions(words, mask, maps, maps)[0].tolist()
    assert particularise > 0.8
    assert explore < 0.2
    assert diversify < 0.2


def test_tensions_depend_on_the_question_and_not_on_what_is_beside_it() -> None:
    torch.manual_seed(0)
    balancer = Balancer(8)
    torch.nn.init.normal_(balancer.asked.weight)
    maps = torch.zeros(1, *GRID)
    words = torch.randn(1, 3, 8)
    mask = torch.tensor([[True, True, False]])
    one = balancer.tensions(words, mask, maps, maps)
    other = balancer.tensions(-words, mask, maps, maps)
    assert not torch.allclose(one, other)
    changed = words.clone()
    changed[:, 2] += 100.0  # not a word of the question
    assert torch.equal(one, balancer.tensions(changed, mask, maps, maps))
