"""Pictures as Qwen3-VL takes them: read, brought to whole blocks of 32 px, cut into patch rows."""

from __future__ import annotations

import struct
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

PATCH, MERGE, TEMPORAL = 16, 2, 2
BLOCK = PATCH * MERGE
ROW = 3 * TEMPORAL * PATCH * PATCH
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

MOST_PIXELS = 89_478_485
"""More are taken for a decompression bomb; it is where Pillow begins to warn."""

Pixels = npt.NDArray[np.uint8]
Picture = npt.NDArray[Any] | Image.Image | str | PathLike[str] | bytes


class BadInput(ValueError):
    """An image, question or answer that cannot be used; the message says why and what to do."""


def read(picture: Picture) -> Pixels:
    """Return any picture as RGB [H, W, 3] in 0..255, upright, transparency laid over white.

    Takes a file, a file's bytes, a PIL image (palette, grey, 16 bit, CMYK, ...) or an array [H, W],
    [H, W, 1], [H, W, 3] or [H, W, 4] of uint8, uint16 or bool. Of several frames the first counts.
    Raises BadInput for anything else, and for files that are missing, damaged or too big to open.
    """
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    if isinstance(picture, Image.Image):
        return _decoded(picture, "the image")
    name = "the image" if isinstance(picture, bytes) else str(Path(picture))
    too_big = BadInput(f"{name}: has more than {MOST_PIXELS:,} pixels; make it smaller first")
    try:
        file = BytesIO(picture) if isinstance(picture, bytes) else picture
        with Image.open(file, formats=FORMATS) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise too_big
            return _decoded(opened, name)
    except FileNotFoundError as error:
        raise BadInput(f"{name}: there is no such file") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise too_big from error
    except UnidentifiedImageError as error:
        raise BadInput(
            f"{name}: is empty, or not an image that can be read; use one of {', '.join(FORMATS)}"
        ) from error
    except OSError as error:
        raise BadInput(f"{name}: cannot be read ({error.strerror or error})") from error


def _decoded(image: Image.Image, name: str) -> Pixels:
    """Decode, turn and convert a PIL image; `name` is for the message of BadInput."""
    try:
        image.load()
        turned = _upright(image)
        if turned.mode.startswith("I"):  # 16 bits a pixel; PIL's own conversion would clip
            return _from_array(np.asarray(turned).astype(np.int64).clip(0, 65535).astype(np.uint16))
        if turned.mode == "F":
            raise BadInput(f"{name}: holds floating-point pixels; save it with 8 or 16 bits")
        if turned.has_transparency_data:
            seen = turned.convert("RGBA")
            turned = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
        return np.asarray(turned.convert("RGB"))
    except BadInput:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise BadInput(f"{name}: is damaged or cut off ({error}); get a whole copy") from error


def _upright(image: Image.Image) -> Image.Image:
    """Return the image turned as its EXIF data says; EXIF data that cannot be read is ignored."""
    try:
        return ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error):
        return image


def _from_array(array: npt.NDArray[Any]) -> Pixels:
    if array.ndim == 3 and array.shape[2] > 4 and array.shape[0] in (1, 3, 4):
        raise BadInput(f"image of shape {array.shape}: put the channels last, [H, W, 3]")
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        raise BadInput(f"image of shape {array.shape}: it must be [H, W] or [H, W, 3]")
    if 0 in array.shape:
        raise BadInput(f"image of shape {array.shape}: it has no pixels")
    if array.dtype == np.uint16:
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype != np.uint8:
        raise BadInput(f"image of {array.dtype}: give whole numbers 0..255 as uint8")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.shape[2] == 4:
        return _decoded(Image.fromarray(np.ascontiguousarray(array)), "the image")
    return array if array.shape[2] == 3 else array.repeat(3, axis=2)


def fitted(height: int, width: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Return the size in whole blocks, within the limits, nearest to the given aspect.

    Qwen's smart_resize; where that oversteps max_pixels (it may, just after enlarging) the size is
    rounded down again. Raises BadInput beyond 1 : 200, and for a strip that no limit fits.
    """
    try:
        size: tuple[int, int] = smart_resize(height, width, BLOCK, min_pixels, max_pixels)
    except ValueError as error:
        raise BadInput(
            f"image of {width} x {height} px: its sides differ by more than 200 times; cut it up"
        ) from error
    if size[0] * size[1] > max_pixels:
        shrink = (max_pixels / (height * width)) ** 0.5
        size = (
            max(BLOCK, int(height * shrink / BLOCK) * BLOCK),
            max(BLOCK, int(width * shrink / BLOCK) * BLOCK),
        )
    if size[0] * size[1] > max_pixels:
        raise BadInput(
            f"image of {width} x {height} px: too long and thin for {max_pixels:,} pixels; "
            "cut it up, or raise max_pixels"
        )
    return size


def fit(pixels: Pixels, min_pixels: int, max_pixels: int) -> Pixels:
    """Return the image in whole blocks and within the limits; one that fits comes back as it is."""
    height, width = fitted(pixels.shape[0], pixels.shape[1], min_pixels, max_pixels)
    if pixels.shape[:2] == (height, width):
        return pixels
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def patches(pixels: Pixels) -> torch.Tensor:
    """Return images [n, H, W, 3] in 0..255 as patch rows [n*H/16*W/16, 1536] scaled to -1..1.

    Row order (2x2 merge blocks) and column order (channel, time, y, x) are those of Qwen's image
    processor, done for all images at once because a loop over images costs more than a tiny model.
    """
    count, height, width, _ = pixels.shape
    blocks = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).view(
        count, height // BLOCK, MERGE, PATCH, width // BLOCK, MERGE, PATCH, 3
    )
    # image, row and column of the block, row and column in the block, channel, y, x
    ordered = blocks.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(-1, 3, 1, PATCH * PATCH)
    scaled = ordered.float().sub_(127.5).div_(127.5)
    return scaled.expand(-1, -1, TEMPORAL, -1).reshape(-1, ROW)
