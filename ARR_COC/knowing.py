"""Two ways of knowing that need no question: how much a block holds, and how much it stands out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from ARR_COC.texture import CHANNELS

SURROUND = 2  # blocks on each side: the surround is the 5 x 5 blocks without the one in the middle

_FEATURES = ("lightness", "green_red", "blue_yellow", "edges", "deviation")
_FLAT = 1e-4  # a feature that spreads less is the same everywhere but for rounding
_ROUNDING = 1e-5  # the same for maps of any scale, as a share of their largest value


def propositional(texture_map: Tensor) -> Tensor:
    """Return the information content of each block, [..., C, h, w] -> [..., h, w], 0..1.

    It is the Shannon entropy of the block's histogram of grey, -sum p log2 p (Shannon 1948), as a
    share of the most there can be: the channel "entropy" of the texture. It depends on the block
    alone: neither on its place nor on the rest of the image.
    """
    _check(texture_map)
    return texture_map[..., CHANNELS.index("entropy"), :, :]


def perspectival(texture_map: Tensor) -> Tensor:
    """Return how much each block stands out from those around it, [..., C, h, w] -> [..., h, w].

    Center-surround contrast after Itti, Koch & Niebur (1998), on one scale: the root mean square,
    over lightness, both colour axes, edges and deviation, of (f - m) / s, where f is the feature of
    the block, m its mean over the surround (5 x 5 blocks without the middle one; only blocks inside
    the image count) and s its standard deviation over the blocks of this image. It is at least 0,
    and 0 everywhere in an image whose blocks are alike; a feature that is the same everywhere
    adds nothing.
    """
    _check(texture_map)
    features = texture_map[..., [CHANNELS.index(name) for name in _FEATURES], :, :]
    spread = features.std(dim=(-2, -1), keepdim=True, correction=0)
    contrast = (features - _surround(features)) / spread.clamp_min(_FLAT)
    contrast = contrast.where(spread > _FLAT, 0.0)
    return contrast.square().mean(dim=-3).sqrt()


def standardised(scores: Tensor) -> Tensor:
    """Return the map [..., h, w] with mean 0 and standard deviation 1 over each grid.

    A constant map, to within rounding, gives 0 everywhere; each grid is taken by itself.
    """
    centred = scores - scores.mean(dim=(-2, -1), keepdim=True)
    spread = centred.std(dim=(-2, -1), keepdim=True, correction=0)
    varied = spread > _ROUNDING * scores.detach().abs().amax(dim=(-2, -1), keepdim=True)
    return (centred / spread.where(varied, 1.0)).where(varied, 0.0)


def _surround(features: Tensor) -> Tensor:
    """Return the mean of the blocks around each block [..., h, w]; its own value if there are none.

    The values are taken relative to the grid's first block, so that a flat grid has no rounding.
    """
    *lead, h, w = features.shape
    first = features[..., :1, :1]
    inside = torch.ones(1, h, w, dtype=features.dtype, device=features.device)
    maps = (features - first).reshape(-1, h, w)
    around = _window_sum(maps) - maps
    count = _window_sum(inside) - 1
    mean = torch.where(count > 0, around / count.clamp_min(1), maps)
    return mean.view(*lead, h, w) + first


def _window_sum(maps: Tensor) -> Tensor:
    """Return the sum of the window around each value, with nothing beyond the borders."""
    size = 2 * SURROUND + 1
    padded = pad(maps, (SURROUND,) * 4)
    sums: Tensor = padded.unfold(-2, size, 1).sum(-1).unfold(-1, size, 1).sum(-1)
    return sums


def _check(texture_map: Tensor) -> None:
    if texture_map.dim() < 3 or texture_map.shape[-3] != len(CHANNELS):
        raise ValueError(
            f"a texture is [..., {len(CHANNELS)}, h, w], not {list(texture_map.shape)}"
        )
