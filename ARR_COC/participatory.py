"""The participatory way of knowing: how strongly a block and the question belong together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ARR_COC.texture import CHANNELS

FINE = 4  # glimpses along each side of a block: one for 8 x 8 pixels
REACH = 5  # blocks a side of the neighbourhood over which evidence spreads


class Participation(nn.Module):
    """Coupling of block i and question: r_i = spread(sum_j a_j log s(max_{p in i} q_j . v_p)).

    v_p [width] is a glimpse: what a small convolutional network sees at one of the 4 x 4 places of
    a block, together with the block's texture. q_j [width] and a_j >= 0 are the meaning and the
    weight of the j-th word of the question, from the language model's own (frozen) embedding. So a
    block scores for each word that it holds somewhere: the late interaction of ColBERT (Khattab
    and Zaharia, 2020), here in front of the vision tower. log s, with s the sigmoid, is the
    logarithm of the chance that the word is there: it makes the sum an AND, as no word that is
    found makes up for one that is missing. `spread` is one 5 x 5 kernel over the grid: what is
    asked for need not lie where its name is written.
    """

    def __init__(self, embedding: int, width: int = 32) -> None:
        super().__init__()
        self.eye = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(48, 48, 1),  # 1: a glimpse has 17 x 17 pixels, which is one character
            nn.GELU(),
        )
        self.glimpse = nn.Conv2d(48 + len(CHANNELS), width, 1)
        self.meaning = nn.Linear(embedding, width)
        self.weight = nn.Linear(embedding, 1)
        self.spread = nn.Conv2d(1, 1, REACH, padding=REACH // 2, bias=False)
        with torch.no_grad():
            self.spread.weight.zero_()
            self.spread.weight[..., REACH // 2, REACH // 2] = 1.0

    def glimpses(self, images: Tensor, textures: Tensor) -> Tensor:
        """Return v [n, width, 4h, 4w] of images [n, 3, H, W] in 0..1 with textures [n, C, h, w]."""
        seen = self.eye(images * 2 - 1)
        fine = textures.repeat_interleave(FINE, dim=2).repeat_interleave(FINE, dim=3)
        glimpse: Tensor = self.glimpse(torch.cat([seen, fine], dim=1))
        return glimpse

    def forward(self, glimpses: Tensor, query: Tensor, query_mask: Tensor) -> Tensor:
        """Return the coupling [n, h, w] of n images, each with its own question.

        glimpses: [n, width, 4h, 4w]; query: [n, T, D], embeddings of the question's words;
        query_mask: [n, T], which of them are words. A question without words gives zeros.
        """
        words = nn.functional.layer_norm(query, query.shape[-1:])
        meaning = self.meaning(words)
        scale = meaning.shape[-1] ** -0.5
        weight = nn.functional.softplus(self.weight(words)[..., 0]) * query_mask
        match = torch.einsum("ntd,ndyx->ntyx", meaning, glimpses) * scale
        best = nn.functional.logsigmoid(nn.functional.max_pool2d(match, FINE))
        coupled = torch.einsum("nt,nthw->nhw", weight, best)
        spread: Tensor = self.spread(coupled[:, None])[:, 0]
        return spread
