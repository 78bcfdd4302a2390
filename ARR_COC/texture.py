"""What each block of an image looks like, from its pixels alone: a map of 14 channels a block."""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor

PATCH = 16  # pixels a side
BLOCK = 32  # pixels a side: 2x2 patches, one token of the language model
BINS = 16  # grey levels that the entropy tells apart

CHANNELS: tuple[str, ...] = (
    "red",
    "green",
    "blue",
    "lightness",
    "green_red",
    "blue_yellow",
    "edges",
    "edges_cos",
    "edges_sin",
    "deviation",
    "entropy",
    "y",
    "x",
    "eccentricity",
)

_LEVELS = 255 * 16  # steps of the table of light: each of the 256 levels of a pixel is one of them
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601
_XYZ_OF_RGB = (  # IEC 61966-2-1, linear sRGB to CIE XYZ
    (0.4124, 0.3576, 0.1805),
    (0.2126, 0.7152, 0.0722),
    (0.0193, 0.1192, 0.9505),
)
_LAB_OF_F = (  # CIE 15: from f(X/Xn), f(Y/Yn), f(Z/Zn) to L*/100 (+ 0.16), a*/128, b*/128
    (0.0, 1.16, 0.0),
    (500 / 128, -500 / 128, 0.0),
    (0.0, 200 / 128, -200 / 128),
)


def pixels(rows: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Put an image together from its rows of Qwen's `pixel_values`.

    rows: [P, 1536] in -1..1, block by block; grid_hw: (h, w) in patches, h * w = P, both even.
    Returns [3, H, W] in 0..1. Raises ValueError where rows and grid do not fit.
    """
    return _images(rows, grid_hw)[0]


def texture(image: Tensor) -> Tensor:
    """Return the texture [C, h, w], float32, of an image [3, H, W] in 0..1, one value a block.

    Channels are CHANNELS; all depend on this image alone and are scaled by constants:

    - red, green, blue: means over the block, 0..1.
    - lightness, green_red, blue_yellow: CIELAB L*/100, a*/128, b*/128 (CIE 15, D65; the sRGB curve
      of IEC 61966-2-1) of the block's mean light. The average is taken of linear light, as an eye
      from afar takes it, so that the cube roots are needed once a block and not once a pixel.
    - edges: mean magnitude of the Sobel gradient of grey; 1 is black against white everywhere.
      edges_cos, edges_sin: mean of magnitude * cos 2t and sin 2t, where t is the direction of the
      gradient; opposite directions add up, crossing ones cancel. Border pixels are repeated.
    - deviation: standard deviation of grey, doubled: 0..1.
    - entropy: -sum p log2 p (Shannon 1948) over the histogram of grey in BINS equal bins, divided
      by log2 BINS: 0..1.
    - y, x: the block's centre, 0..1 of height and width; eccentricity: the distance of that centre
      to the image's, in half diagonals.

    Grey is that of ITU-R BT.601. Each pixel of a block weighs the same in all channels of its
    block, so that no line is too thin to be seen. Images of one size may come as [n, 3, H, W],
    which gives [n, C, h, w]. Raises ValueError unless H and W are multiples of 32.
    """
    if image.dim() not in (3, 4) or image.shape[-3] != 3:
        raise ValueError(f"an image is [3, H, W], not {list(image.shape)}")
    height, width = image.shape[-2:]
    if height % BLOCK or width % BLOCK or not height or not width:
        raise ValueError(f"an image of {height} x {width} pixels has no whole number of blocks")
    images = image.detach().to(torch.float32).reshape(-1, 3, height, width)
    maps = _of_images(images.contiguous())
    return maps[0] if image.dim() == 3 else maps


def textures(pixel_values: Tensor, image_grid_thw: Tensor) -> list[Tensor]:
    """Return the texture [C, h, w] of each image of a batch, given as Qwen's processor gives it.

    pixel_values: [P, 1536], the rows of all images; image_grid_thw: [images, 3] in patches, t = 1.
    Images of one size are computed together. Raises ValueError where the two do not fit.
    """
    grids = [(int(t), int(h), int(w)) for t, h, w in image_grid_thw.tolist()]
    if any(t != 1 for t, _, _ in grids):
        raise ValueError("textures are of still images: t is 1 in image_grid_thw")
    sizes = [h * w for _, h, w in grids]
    if sum(sizes) != len(pixel_values):
        raise ValueError(f"the grids have {sum(sizes)} patches, pixel_values {len(pixel_values)}")
    parts: tuple[Tensor, ...] = torch.split(pixel_values, sizes)
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, (_, h, w) in enumerate(grids):
        alike[h, w].append(number)
    maps: dict[int, Tensor] = {}
    for grid_hw, numbers in alike.items():
        whole = len(numbers) == len(parts)
        rows = pixel_values if whole else torch.cat([parts[number] for number in numbers])
        maps.update(zip(numbers, _of_images(_images(rows, grid_hw)).unbind(), strict=True))
    return [maps[number] for number in range(len(grids))]


def _images(rows: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Return the images [n, 3, H, W] in 0..1 whose rows follow one another in `rows`."""
    h, w = grid_hw
    whole_blocks = h > 0 and w > 0 and h % 2 == 0 and w % 2 == 0
    if not whole_blocks or rows.dim() != 2 or not len(rows) or len(rows) % (h * w):
        raise ValueError(f"{list(rows.shape)} rows are not those of images of {h} x {w} patches")
    if rows.shape[1] != 2 * 3 * PATCH * PATCH:
        raise ValueError(f"a row holds 1536 values, not {rows.shape[1]}")
    # Copying whole lines of a patch is twice as fast as permuting their pixels.
    lines = torch.arange(len(rows) * 6 * PATCH, device=rows.device)
    lines = lines.view(-1, h // 2, w // 2, 2, 2, 3, 2, PATCH)
    first = lines[:, :, :, :, :, :, 0]  # both time slices of a still image are alike
    order = first.permute(0, 5, 1, 3, 6, 2, 4).reshape(-1)
    image = rows.detach().reshape(-1, PATCH).index_select(0, order).to(torch.float32)
    return image.mul_(0.5).add_(0.5).view(-1, 3, h * PATCH, w * PATCH)


def _of_images(images: Tensor) -> Tensor:
    """Return the textures [n, C, h, w] of images [n, 3, H, W] in 0..1."""
    red, green, blue = images.unbind(1)
    grey = (red * _GREY[0]).add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2])
    colours = _block_means(images)
    parts = [colours, _lab(_block_means(_light(images))), _edges(grey), _spread(grey)]
    parts += [_entropy(grey)[:, None], _place(colours)]
    return torch.cat(parts, dim=1)


def _block_means(maps: Tensor) -> Tensor:
    """Return the mean over each block, [..., H, W] -> [..., h, w]. Columns first: it is faster."""
    *lead, height, width = maps.shape
    sums = maps.view(*lead, height // BLOCK, BLOCK, width).sum(-2)
    return sums.view(*lead, height // BLOCK, width // BLOCK, BLOCK).sum(-1) / BLOCK**2


def _light(images: Tensor) -> Tensor:
    """Return the linear light of sRGB values in 0..1, by a table of _LEVELS steps (exact at n/255).

    A table is ten times as fast as the power, and a value between its steps is off by < 0.0003.
    """
    value = torch.linspace(0, 1, _LEVELS + 1, dtype=torch.float64, device=images.device)
    curve = torch.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    step = (images * _LEVELS).add_(0.5).to(torch.int32).clamp_(0, _LEVELS)
    return curve.to(torch.float32).index_select(0, step.view(-1)).view(images.shape)


def _lab(light: Tensor) -> Tensor:
    """Return L*/100, a*/128, b*/128 of linear sRGB [n, 3, h, w]; white is that of the matrix."""
    matrix = light.new_tensor(_XYZ_OF_RGB)
    xyz = torch.einsum("ij,njhw->nihw", matrix / matrix.sum(1, keepdim=True), light)
    knee = 6 / 29
    roots = torch.where(
        xyz > knee**3, xyz.clamp_min(knee**3) ** (1 / 3), xyz / (3 * knee**2) + 4 / 29
    )
    lab = torch.einsum("ij,njhw->nihw", light.new_tensor(_LAB_OF_F), roots)
    return lab - light.new_tensor((0.16, 0.0, 0.0)).view(3, 1, 1)


def _edges(grey: Tensor) -> Tensor:
    """Return the three channels of the Sobel gradient of grey [n, H, W]; its kernels over 4."""
    padded = torch.nn.functional.pad(grey[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    above, here, below = padded[:, :-2], padded[:, 1:-1], padded[:, 2:]
    smooth = (above + below).add_(here, alpha=2)
    across = (smooth[:, :, 2:] - smooth[:, :, :-2]).mul_(0.25)
    rise = below - above
    along = (rise[:, :, 2:] + rise[:, :, :-2]).add_(rise[:, :, 1:-1], alpha=2).mul_(0.25)
    product = across * along
    across_2, along_2 = across.square_(), along.square_()
    square = across_2 + along_2
    inverse = (square + 1e-12).rsqrt_()  # 1 / magnitude, and no division by zero
    cos = (across_2 - along_2).mul_(inverse)
    sin = product.mul_(inverse)
    magnitude = square.mul_(inverse)
    means = [_block_means(magnitude), _block_means(cos), _block_means(sin).mul_(2)]
    return torch.stack(means, dim=1)


def _spread(grey: Tensor) -> Tensor:
    """Return twice the standard deviation of grey in each block [n, 1, h, w], 0 where it is flat.

    Taken of the differences to one pixel of the block, which changes nothing but the rounding.
    """
    n, height, width = grey.shape
    blocks = grey.view(n, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    shifted = (blocks - blocks[:, :, :1, :, :1]).view(grey.shape)
    mean = _block_means(shifted)
    variance = _block_means(shifted.square_()) - mean.square()
    return variance.clamp_min_(0).sqrt_().mul_(2)[:, None]


def _entropy(grey: Tensor) -> Tensor:
    """Return the entropy of the histogram of grey in each block [n, h, w], 0..1."""
    n, height, width = grey.shape
    h, w = height // BLOCK, width // BLOCK
    # A little below BINS: 1.0 falls into the last bin, and no level n/255 near an edge of a bin.
    bins = (grey * (BINS - 0.001)).to(torch.int32).clamp_(0, BINS - 1)
    first = torch.arange(n * h * w, dtype=torch.int32, device=grey.device) * BINS
    bins.view(n, h, BLOCK, w, BLOCK).add_(first.view(n, h, 1, w, 1))
    counts = torch.bincount(bins.view(-1), minlength=n * h * w * BINS).view(n, h, w, BINS)
    entropy: Tensor = torch.special.entr(counts / BLOCK**2).sum(-1)
    return entropy / math.log(BINS)


def _place(like: Tensor) -> Tensor:
    """Return y, x and eccentricity [n, 3, h, w] for maps [n, any, h, w]."""
    n, _, h, w = like.shape
    y = ((torch.arange(h, device=like.device) + 0.5) / h).view(h, 1).expand(h, w)
    x = ((torch.arange(w, device=like.device) + 0.5) / w).view(1, w).expand(h, w)
    distance = torch.hypot((y - 0.5) * h, (x - 0.5) * w)
    maps = torch.stack([y, x, distance / (math.hypot(h, w) / 2)])
    return maps.expand(n, 3, h, w)
