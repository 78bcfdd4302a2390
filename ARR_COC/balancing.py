"""Opponent processing: three tensions, each set by the question and the image, shape the scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

TENSIONS = ("particularise", "explore", "diversify")
"""Each in 0..1: 0 is compress, exploit, focus; 1 is particularise, explore, diversify."""

_STATISTICS = 4  # peak and spread of the coupling, peaks of the two maps that ignore the question
_AROUND = 5  # blocks a side of the neighbourhood that inhibits


def balance(coupling: Tensor, context: Tensor, tensions: Tensor) -> Tensor:
    """Return scores [n, h, w] from coupling and context [n, h, w] and tensions [n, 3].

    With p, e, d for particularise, explore, diversify:

        m = (1 - e) coupling + e context            trust the question, or what stands out anyway
        m = p m + (1 - p) mean3x3(m)                single blocks, or whole regions
        s = m - d max(0, mean5x5(m) - mean(m))      the best region, or several apart

    Means count only blocks that exist. All scores stay finite, and where all is alike nothing
    changes.
    """
    particularise, explore, diversify = tensions[:, :, None, None].unbind(1)
    mixed = (1 - explore) * coupling + explore * context
    mixed = particularise * mixed + (1 - particularise) * _mean(mixed, 3)
    crowd = _mean(mixed, _AROUND) - mixed.mean((1, 2), keepdim=True)
    return mixed - diversify * crowd.clamp_min(0)


class Balancer(nn.Module):
    """Sets the three tensions by the question's mean embedding and by how the maps look."""

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.asked = nn.Linear(embedding, len(TENSIONS))
        self.shown = nn.Linear(_STATISTICS, len(TENSIONS), bias=False)
        self.mixture = nn.Parameter(torch.zeros(2))
        nn.init.zeros_(self.asked.weight)
        nn.init.zeros_(self.shown.weight)
        with torch.no_grad():  # begin by trusting the question and single blocks
            self.asked.bias.copy_(torch.tensor([2.0, -2.0, -2.0]))

    def context(self, propositional: Tensor, perspectival: Tensor) -> Tensor:
        """Return the learned mixture of the two maps that ignore the question, [n, h, w]."""
        share = self.mixture.softmax(0)
        return share[0] * propositional + share[1] * perspectival

    def tensions(
        self, query: Tensor, query_mask: Tensor, coupling: Tensor, context: Tensor
    ) -> Tensor:
        """Return [n, 3] in 0..1; query [n, T, D] with query_mask [n, T], maps [n, h, w]."""
        words = query_mask.to(query.dtype)[..., None]
        asked = (query * words).sum(1) / words.sum(1).clamp_min(1)
        flat, around = coupling.flatten(1), context.flatten(1)
        shown = torch.stack(
            [
                flat.amax(1) - flat.mean(1),
                flat.std(1, correction=0),
                around.amax(1),
                around.std(1, correction=0),
            ],
            dim=1,
        )
        return torch.sigmoid(self.asked(asked) + self.shown(torch.tanh(shown)))


def _mean(maps: Tensor, side: int) -> Tensor:
    """Return the mean over the side x side neighbourhood of each block, of blocks that exist."""
    pooled: Tensor = nn.functional.avg_pool2d(
        maps[:, None], side, stride=1, padding=side // 2, count_include_pad=False
    )
    return pooled[:, 0]
