"""Information and salience on images whose answer is known."""

from __future__ import annotations

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ARR_COC.knowing import perspectival, propositional, standardised
from ARR_COC.texture import CHANNELS, texture

BLOCK = 32
GRID = (5, 7)


def flat(grey: float = 0.6, grid: tuple[int, int] = GRID) -> Tensor:
    return torch.full((3, grid[0] * BLOCK, grid[1] * BLOCK), grey)


def block(image: Tensor, y: int, x: int) -> Tensor:
    return image[:, y * BLOCK : (y + 1) * BLOCK, x * BLOCK : (x + 1) * BLOCK]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def peak(scores: Tensor) -> tuple[int, ...]:
    return tuple(int(i) for i in torch.unravel_index(scores.argmax(), scores.shape))


@pytest.mark.parametrize("grey", [0.0, 0.3, 0.5, 0.6, 1.0])
def test_a_flat_image_holds_nothing_and_nothing_in_it_stands_out(grey: float) -> None:
    """The place of a block counts for nothing."""
    maps = texture(flat(grey))
    assert (propositional(maps) == 0).all()
    assert (perspectival(maps) == 0).all()


@pytest.mark.parametrize("place", [(0, 0), (2, 3), (4, 6), (1, 6)])
def test_noise_in_a_flat_image_is_where_the_information_is(place: tuple[int, int]) -> None:
    image = flat()
    block(image, *place).copy_(noise(3, BLOCK, BLOCK))
    scores = propositional(texture(image))
    assert peak(scores) == place
    assert int((scores > 0).sum()) == 1


@pytest.mark.parametrize("place", [(0, 0), (2, 3), (4, 6), (1, 6)])
@pytest.mark.parametrize("colour", [(0.9, 0.2, 0.2), (0.2, 0.2, 0.2), (0.6, 0.6, 0.7)])
def test_an_odd_block_among_equal_ones_stands_out(
    place: tuple[int, int], colour: tuple[float, float, float]
) -> None:
    image = flat()
    block(image, *place).copy_(torch.tensor(colour).view(3, 1, 1).expand(3, BLOCK, BLOCK))
    scores = perspectival(texture(image))
    assert peak(scores) == place
    assert scores[place] > 1.5 * scores.flatten().sort().values[-2]


def test_a_plain_block_among_noisy_ones_stands_out_although_it_holds_less() -> None:
    image = noise(3, GRID[0] * BLOCK, GRID[1] * BLOCK)
    block(image, 2, 3).fill_(0.5)
    maps = texture(image)
    assert peak(perspectival(maps)) == (2, 3)
    assert peak(-propositional(maps)) == (2, 3)


def test_a_block_of_text_beats_blank_paper_in_both_ways() -> None:
    paper = Image.new("L", (GRID[1] * BLOCK, GRID[0] * BLOCK), 255)
    ImageDraw.Draw(paper).multiline_text((4 * BLOCK + 2, 1 * BLOCK + 2), "Total\n12.50", fill=0)
    levels = torch.tensor(list(paper.tobytes())).view(1, paper.height, paper.width) / 255
    maps = texture(levels.expand(3, -1, -1))
    assert peak(propositional(maps)) == (1, 4)
    assert peak(perspectival(maps)) == (1, 4)


def test_contrast_is_the_stated_formula_at_a_corner_and_in_the_middle() -> None:
    maps = torch.zeros(len(CHANNELS), *GRID)
    maps[CHANNELS.index("edges")] = noise(*GRID)
    edges = maps[CHANNELS.index("edges")]
    scores = perspectival(maps)
    for y, x in ((0, 0), (2, 3), (4, 5)):
        window = edges[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
        mean = (window.sum() - edges[y, x]) / (window.numel() - 1)
        expected = (edges[y, x] - mean).abs() / edges.std(correction=0) / 5**0.5
        assert scores[y, x].item() == pytest.approx(expected.item(), rel=1e-4)


def test_an_image_scores_the_same_in_a_batch_as_alone() -> None:
    images = torch.stack([noise(3, 96, 128, seed=seed) * (seed + 1) / 3 for seed in range(3)])
    maps = texture(images)
    for score in (propositional, perspectival):
        assert score(maps).shape == (3, 3, 4)
        for number in range(3):
            torch.testing.assert_close(score(maps)[number], score(maps[number]))


def test_the_only_block_of_an_image_does_not_stand_out() -> None:
    assert perspectival(texture(noise(3, BLOCK, BLOCK))).tolist() == [[0.0]]


def test_a_standardised_map_has_mean_zero_and_deviation_one_for_each_image() -> None:
    scores = standardised(noise(3, *GRID) * torch.tensor([1.0, 1e6, 1e-6]).view(3, 1, 1))
    torch.testing.assert_close(scores.mean((-2, -1)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scores.std((-2, -1), correction=0), torch.ones(3))


def test_a_constant_map_is_standardised_to_zero() -> None:
    scores = torch.stack([torch.full(GRID, 0.1), noise(*GRID)]).requires_grad_()
    result = standardised(scores)
    assert (result[0] == 0).all()
    result.square().sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_a_map_that_is_no_texture_is_refused() -> None:
    for score in (propositional, perspectival):
        with pytest.raises(ValueError, match="texture"):
            score(torch.zeros(3, 4, 4))
