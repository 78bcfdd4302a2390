"""Textures: known images give known values, no line is too thin, no image changes another's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from ARR_COC.texture import CHANNELS, pixels, texture, textures


def channel(image: Tensor, name: str) -> Tensor:
    return texture(image)[CHANNELS.index(name)]


def flat(red: float, green: float, blue: float, height: int = 64, width: int = 96) -> Tensor:
    return torch.tensor([red, green, blue]).view(3, 1, 1).expand(3, height, width).clone()


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def processed(images: list[Tensor]) -> tuple[Tensor, Tensor]:
    """pixel_values and image_grid_thw of images with levels n/255, by Qwen's own processor."""
    processor = Qwen2VLImageProcessorPil(
        patch_size=16, merge_size=2, do_resize=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    arrays = [(image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy() for image in images]
    made = processor(images=arrays, return_tensors="pt")
    return made["pixel_values"], made["image_grid_thw"]


def test_pixels_are_those_that_went_into_the_processor_of_qwen() -> None:
    image = (noise(64, 96) * 255).round() / 255
    rows, grid = processed([image])
    before = rows.clone()
    torch.testing.assert_close(pixels(rows, (int(grid[0, 1]), int(grid[0, 2]))), image)
    assert torch.equal(rows, before)


def test_textures_are_those_of_the_images_one_by_one_in_their_order() -> None:
    sizes = [(64, 96), (32, 32), (64, 96), (96, 64), (32, 32)]
    images = [(noise(*size, seed) * 255).round() / 255 for seed, size in enumerate(sizes)]
    maps = textures(*processed(images))
    for found, image in zip(maps, images, strict=True):
        torch.testing.assert_close(found, texture(image), atol=1e-5, rtol=0)


def test_another_image_in_the_batch_changes_nothing() -> None:
    images = [noise(64, 64, seed) for seed in range(3)]
    images[2] *= 0.01
    alone, together = textures(*processed(images[:1])), textures(*processed(images))
    assert torch.equal(alone[0], together[0])
    assert torch.equal(texture(images[0]), texture(torch.stack(images))[0])


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("offset", range(32))
def test_a_line_of_one_pixel_is_seen_wherever_it_is(axis: int, offset: int) -> None:
    image = flat(1.0, 1.0, 1.0, 96, 96)
    blank = texture(image)
    image.select(axis, 32 + offset).fill_(0.0)
    change = (texture(image) - blank).abs().select(axis, 1)
    for name in ("red", "green", "blue", "lightness", "edges", "deviation", "entropy"):
        assert (change[CHANNELS.index(name)] > 0.01).all(), name


@pytest.mark.parametrize("grey", [0.0, 0.3, 0.5, 128 / 255, 1.0])
def test_a_flat_image_has_no_edges_no_deviation_and_no_entropy(grey: float) -> None:
    for name in ("edges", "edges_cos", "edges_sin", "deviation", "entropy"):
        assert (channel(flat(grey, grey, grey), name) == 0).all(), name


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (53.24, 80.09, 67.20)),
        ((0.0, 1.0, 0.0), (87.73, -86.18, 83.18)),
        ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86)),
        ((128 / 255, 128 / 255, 128 / 255), (53.59, 0.0, 0.0)),
    ],
)
def test_lab_has_the_published_values(
    rgb: tuple[float, float, float], lab: tuple[float, float, float]
) -> None:
    image = flat(*rgb)
    for name, scale, expected in zip(
        ("lightness", "green_red", "blue_yellow"), (100, 128, 128), lab, strict=True
    ):
        found = channel(image, name) * scale
        torch.testing.assert_close(found, torch.full_like(found, expected), atol=0.03, rtol=0)


def test_edges_have_the_strength_and_the_direction_of_a_ramp() -> None:
    ramp = torch.linspace(0, 1, 96).view(1, 1, 96).expand(3, 96, 96)
    strength = 2 / 95  # the Sobel kernel over 4 spans two pixels
    for image, cos in ((ramp, 1), (ramp.flip(2), 1), (ramp.transpose(1, 2), -1)):
        middle = texture(image)[:, 1, 1]
        values = [float(middle[CHANNELS.index(f"edges{part}")]) for part in ("", "_cos", "_sin")]
        assert values == pytest.approx([strength, cos * strength, 0], abs=1e-5)
    diagonal = (ramp + ramp.transpose(1, 2)) / 2
    middle = texture(diagonal)[:, 1, 1]
    sin = float(middle[CHANNELS.index("edges_sin")])
    assert sin == pytest.approx(float(middle[CHANNELS.index("edges")]), abs=1e-5)


def test_two_halves_of_black_and_white_have_deviation_one_and_one_bit() -> None:
    image = flat(0.0, 0.0, 0.0, 32, 32)
    image[:, :, ::2] = 1.0
    assert channel(image, "deviation").item() == pytest.approx(1.0)
    assert channel(image, "entropy").item() == pytest.approx(1 / 4)  # of at most log2 16 bits


def test_the_deviation_of_noise_is_that_of_numpy() -> None:
    image = noise(32, 64)
    grey = np.einsum("c,chw->hw", [0.299, 0.587, 0.114], image.numpy().astype(np.float64))
    expected = [2 * float(grey[:, :32].std()), 2 * float(grey[:, 32:].std())]
    assert channel(image, "deviation").flatten().tolist() == pytest.approx(expected, rel=1e-4)


def test_even_levels_of_grey_have_entropy_one() -> None:
    levels = (torch.arange(1024) % 256 / 255).view(1, 32, 32).expand(3, 32, 32)
    assert channel(levels, "entropy").item() == pytest.approx(1.0, abs=1e-3)


def test_places_are_the_centres_of_the_blocks() -> None:
    maps = dict(zip(CHANNELS, texture(noise(64, 128)), strict=True))
    assert maps["y"][:, 0].tolist() == [0.25, 0.75]
    assert maps["x"][0].tolist() == [0.125, 0.375, 0.625, 0.875]
    corner = math.hypot(0.5, 1.5) / math.hypot(1, 2)
    assert maps["eccentricity"][0, 0].item() == pytest.approx(corner)
    assert channel(noise(32, 32), "eccentricity").item() == 0


def test_channels_are_of_about_unit_range() -> None:
    for image in (noise(64, 64), (noise(64, 64) > 0.5).float(), flat(1.0, 0.0, 1.0)):
        maps = texture(image)
        assert maps.shape[0] == len(CHANNELS)
        assert maps.dtype == torch.float32
        assert maps.abs().max() <= 1.1


def test_the_layout_of_an_image_in_memory_does_not_matter() -> None:
    image = noise(64, 96)
    for view in (image.permute(1, 2, 0).contiguous().permute(2, 0, 1), image.mT.contiguous().mT):
        assert torch.equal(texture(view), texture(image))


@pytest.mark.parametrize("shape", [(3, 33, 64), (3, 0, 32), (1, 32, 32), (32, 32)])
def test_images_without_whole_blocks_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="image"):
        texture(torch.zeros(shape))


def test_rows_that_do_not_fit_their_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="patches"):
        pixels(torch.zeros(12, 1536), (3, 4))
    with pytest.raises(ValueError, match="patches"):
        textures(torch.zeros(12, 1536), torch.tensor([[1, 4, 4]]))
    with pytest.raises(ValueError, match="1536"):
        pixels(torch.zeros(4, 768), (2, 2))
    with pytest.raises(ValueError, match="still"):
        textures(torch.zeros(8, 1536), torch.tensor([[2, 2, 2]]))


def test_rows_of_bfloat16_give_textures_of_float32() -> None:
    rows, grid = processed([noise(64, 64)])
    (found,) = textures(rows.to(torch.bfloat16), grid)
    assert found.dtype == torch.float32
    assert (found - textures(rows, grid)[0]).abs().max() < 0.02
