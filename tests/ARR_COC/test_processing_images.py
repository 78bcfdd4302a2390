"""Pictures: read whatever their kind, brought to whole blocks, cut exactly as Qwen cuts them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from ARR_COC import images
from ARR_COC.images import BadInput
from ARR_COC.processing import Processor

LIMITS = {"min_pixels": 64 * 64, "max_pixels": 256 * 256}


@pytest.fixture
def processor() -> Processor:
    return Processor.tiny(["red"], context=512, **LIMITS)


def noise(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width"),
    [(64, 96), (128, 128), (100, 150), (1, 1), (37, 1), (1000, 700), (40, 2000), (33, 200)],
)
def test_rows_and_grid_are_those_of_the_processor_of_qwen(
    processor: Processor, height: int, width: int
) -> None:
    qwen = Qwen2VLImageProcessorPil(
        patch_size=16,
        merge_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size={"shortest_edge": LIMITS["min_pixels"], "longest_edge": LIMITS["max_pixels"]},
    )
    pixels = noise(height, width)
    theirs = qwen(images=[pixels], return_tensors="pt", input_data_format="channels_last")
    rows, grid = processor.image(pixels)
    assert [[1, *grid]] == theirs["image_grid_thw"].tolist()
    torch.testing.assert_close(rows, theirs["pixel_values"], atol=1e-6, rtol=0)


def test_several_images_are_cut_as_each_alone(processor: Processor) -> None:
    pictures = [noise(64, 96, seed) for seed in range(3)]
    together = images.patches(np.stack(pictures))
    assert torch.equal(together, torch.cat([processor.image(one)[0] for one in pictures]))


def test_a_block_is_four_rows_in_reading_order() -> None:
    pixels = np.zeros((64, 96, 3), dtype=np.uint8)
    pixels[32 + 16 : 64, 64 : 64 + 16] = 255  # block 5, its lower left patch
    bright = (images.patches(pixels[None]) > 0).any(dim=1).nonzero().flatten()
    assert bright.tolist() == [4 * 5 + 2]


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 40), st.integers(0, 40))
def test_sizes_are_whole_blocks_within_the_limits(
    height: int, width: int, least: int, more: int
) -> None:
    lowest = 1024 + least * 5000
    highest = lowest + more * 5000
    try:
        size = images.fitted(height, width, lowest, highest)
    except BadInput:
        assert max(height, width) / min(height, width) > min(200, highest / 2048)
        return
    assert size[0] % 32 == size[1] % 32 == 0
    assert 1024 <= size[0] * size[1] <= highest


def test_an_image_that_fits_is_not_resampled(processor: Processor) -> None:
    pixels = noise(96, 160)
    assert processor.pixels(pixels) is pixels


def test_small_and_huge_images_are_brought_into_the_limits(processor: Processor) -> None:
    dot = processor.pixels(np.full((1, 1, 3), 77, dtype=np.uint8))
    assert dot.shape == (64, 64, 3)
    assert (dot == 77).all()
    assert processor.pixels(np.zeros((8000, 8000, 3), dtype=np.uint8)).shape == (256, 256, 3)


def test_strips_are_refused_with_what_to_do(processor: Processor) -> None:
    with pytest.raises(BadInput, match="differ by more than 200 times"):
        processor.image(np.zeros((4, 900, 3), dtype=np.uint8))
    with pytest.raises(BadInput, match="cut it up, or raise max_pixels"):
        processor.image(np.zeros((17, 3300, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (200, 100, 50), (200, 100, 50)),
        ("L", 90, (90, 90, 90)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (200, 100, 50, 255), (200, 100, 50)),
        ("RGBA", (200, 100, 50, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("LA", (0, 0), (255, 255, 255)),
        ("I;16", 257 * 90, (90, 90, 90)),
        ("I;16", 65535, (255, 255, 255)),
        ("I", 257 * 90, (90, 90, 90)),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(
    tmp_path: Path, mode: str, colour: tuple[int, ...] | int, expected: tuple[int, ...]
) -> None:
    image = Image.new(mode, (5, 4), colour)
    file = tmp_path / ("a.tiff" if mode == "I" else "a.png")
    image.save(file)
    for picture in (image, file, file.read_bytes()):
        assert images.read(picture).shape == (4, 5, 3)
        assert (images.read(picture) == expected).all()


def test_palettes_and_cmyk_become_rgb(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    palette.save(tmp_path / "solid.png")
    palette.save(tmp_path / "clear.png", transparency=1)
    assert (images.read(tmp_path / "solid.png") == (10, 200, 30)).all()
    assert (images.read(tmp_path / "clear.png") == 255).all()
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "print.jpg")
    red = images.read(tmp_path / "print.jpg")[8, 8].astype(int)
    assert red[0] > 200
    assert red[1:].max() < 60


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:, :20] = 255  # lying on its side: the left half is the top
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    turned = images.read(tmp_path / "a.png")
    assert turned.shape == (40, 20, 3)
    assert (turned[:20] == 255).all()
    assert (turned[20:] == 0).all()


def test_arrays_of_other_kinds_become_rgb() -> None:
    grey = np.full((3, 2), 9, dtype=np.uint8)
    assert (images.read(grey) == 9).all()
    assert images.read(grey[:, :, None]).shape == (3, 2, 3)
    assert (images.read(np.full((3, 2), 65535, dtype=np.uint16)) == 255).all()
    assert (images.read(np.ones((3, 2), dtype=np.bool_)) == 255).all()
    assert (images.read(np.zeros((3, 2, 4), dtype=np.uint8)) == 255).all()  # fully transparent


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4, 3)), "as uint8"),
        (np.zeros((3, 40, 40), dtype=np.uint8), "channels last"),
        (np.zeros((4, 4, 2), dtype=np.uint8), "must be"),
        (np.zeros(7, dtype=np.uint8), "must be"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "no pixels"),
    ],
)
def test_arrays_that_are_no_images(array: npt.NDArray[np.generic], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        images.read(array)


def png_header(width: int, height: int) -> bytes:
    """Return the start of a PNG file that claims a size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    check = struct.pack(">I", zlib.crc32(header))
    size = struct.pack(">I", 13)
    return b"\x89PNG\r\n\x1a\n" + size + header + check + b"\0\0\xff\xffIDAT"


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(noise(64, 64)).save(whole)
    written = {
        "cut.png": (whole.read_bytes()[:3000], "damaged or cut off"),
        "text.png": (b"hello", "not an image that can be read"),
        "empty.png": (b"", "is empty"),
        "big.png": (png_header(10_000, 10_000), "has more than .* pixels"),
        "bomb.png": (png_header(60_000, 60_000), "has more than .* pixels"),
    }
    for name, (content, words) in written.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match=f"{name}: .*{words}"):
            images.read(tmp_path / name)
    with pytest.raises(BadInput, match=r"absent.png: there is no such file"):
        images.read(tmp_path / "absent.png")
    with pytest.raises(BadInput, match="cannot be read"):
        images.read(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own words on damage
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tiff"])
def test_a_damaged_file_gives_an_image_or_a_bad_input(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(48, 48)).save(file)
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        broken = bytearray(whole[: int(rng.integers(1, len(whole) + 1))])
        for place in rng.integers(len(broken), size=4):
            broken[place] = int(rng.integers(256))
        try:
            assert images.read(bytes(broken)).ndim == 3
        except BadInput:
            refused += 1
    assert refused
