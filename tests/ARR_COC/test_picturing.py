"""Pictures of what was kept: which pixels are bright, and the order of the colours."""

from __future__ import annotations

import numpy as np
import pytest

from ARR_COC.picturing import HEAT, heat_map, heated, kept_bright, sheet


def picture(rows: int, columns: int) -> np.ndarray:
    shape = (32 * rows, 32 * columns, 3)
    return np.random.default_rng(0).integers(100, 256, shape, dtype=np.uint8)


def test_kept_blocks_stay_as_they_are_and_others_get_dim() -> None:
    image = picture(2, 3)
    drawn = kept_bright(image, [1, 5])
    assert drawn.shape == image.shape
    bright = np.zeros((2, 3), dtype=bool)
    bright.flat[[1, 5]] = True
    where = bright.repeat(32, axis=0).repeat(32, axis=1)
    assert (drawn[where] == image[where]).all()
    assert (drawn[~where] < image[~where] / 2).all()


def test_colours_get_lighter_with_the_value() -> None:
    colours = heated(np.linspace(-3, 7, 50))
    assert colours[0].tolist() == list(HEAT[0])
    assert colours[-1].tolist() == list(HEAT[-1])
    lightness = colours @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(lightness) > 0).all()


def test_alike_values_get_one_colour_and_strange_ones_are_refused() -> None:
    assert (heated(np.full((2, 2), 4.0)) == HEAT[0]).all()
    with pytest.raises(ValueError, match="finite"):
        heated([0.0, float("nan")])


def test_each_block_of_the_heat_map_is_one_plain_square() -> None:
    scores = np.array([[0.0, 1.0, 0.5], [0.2, 0.1, 0.7]])
    drawn = heat_map(scores)
    assert drawn.shape == (64, 96, 3)
    assert (drawn[:32, 32:64] == HEAT[-1]).all()
    assert (drawn[32:, 64:] == heated(scores)[1, 2]).all()


@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (3, 40), (60, 45), (150, 1)])
def test_a_sheet_is_of_a_size_to_look_at_and_shows_image_map_and_text(
    grid: tuple[int, int],
) -> None:
    image, scores = picture(*grid), np.arange(grid[0] * grid[1]).reshape(grid)
    bare = sheet(image, [0], scores, [])
    told = sheet(image, [0], scores, ["question: " + "wörd 多 " * 80 + "x" * 300])
    assert 480 <= told.width <= 1000
    assert 10 < bare.height < told.height
    text = np.asarray(told)[bare.height :]
    assert (text < 100).any()
    assert (text[:, -12:] == 255).all()  # long words and lines stay inside
    assert sheet(image, [0], None, []).width <= bare.width


def test_the_sheet_enlarges_by_whole_numbers_and_outlines_what_was_kept() -> None:
    image = picture(3, 3)
    drawn = np.asarray(sheet(image, [4], np.zeros((3, 3)), []))
    times = 5
    view = drawn[12 : 12 + 96 * times, 12 : 12 + 96 * times]
    block = view[32 * times : 64 * times, 32 * times : 64 * times]
    pixel = block[7 * times : 8 * times, 9 * times : 10 * times].reshape(-1, 3)
    assert (pixel == image[32 + 7, 32 + 9]).all()
    edges = (block[0], block[-1], block[:, 0], block[:, -1])
    assert len(np.unique(np.concatenate(edges), axis=0)) == 1


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="whole blocks"):
        kept_bright(np.zeros((33, 32, 3), dtype=np.uint8), [0])
    with pytest.raises(ValueError, match="block 6 is not in a grid of 2 x 3"):
        kept_bright(picture(2, 3), [6])
    with pytest.raises(ValueError, match="scores have the shape"):
        sheet(picture(2, 3), [0], np.zeros((3, 2)), [])
