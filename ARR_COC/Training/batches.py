"""Scenes as the tensors that Qwen3-VL takes: patches, grids, token ids and labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ARR_COC.Training import scenes, tokens
from ARR_COC.Training.scenes import Digits, Scene

IGNORED = -100
PATCH, MERGE, TEMPORAL = 16, 2, 2
GRID = scenes.PIXELS // PATCH
IMAGE_TOKENS = (GRID // MERGE) ** 2


@dataclass(frozen=True, slots=True)
class Batch:
    """n images and n*q questions, the q questions of an image in consecutive rows.

    pixel_values [n*36, 1536], image_grid_thw [n, 3], prompt_ids [n*q, L], answer_ids [n*q]
    """

    pixel_values: torch.Tensor
    image_grid_thw: torch.Tensor
    prompt_ids: torch.Tensor
    answer_ids: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on `device`."""
        return Batch(
            self.pixel_values.to(device),
            self.image_grid_thw.to(device),
            self.prompt_ids.to(device),
            self.answer_ids.to(device),
        )

    def with_answers(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return input ids [n*q, L+1] and labels of that shape: IGNORED except on the answer."""
        answers = self.answer_ids[:, None]
        labels = torch.cat([torch.full_like(self.prompt_ids, IGNORED), answers], dim=1)
        return torch.cat([self.prompt_ids, answers], dim=1), labels


def patches(pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Return images [n, 96, 96, 3] in 0..255 as patch rows [n*36, 1536] scaled to -1..1.

    Row order (2x2 merge blocks) and column order (channel, time, y, x) are those of Qwen's image
    processor, done for all images at once because its loop over images costs more than the model.
    """
    count = len(pixels)
    scaled = torch.from_numpy(pixels).float().div_(127.5).sub_(1.0)
    side = GRID // MERGE
    blocks = scaled.view(count, side, MERGE, PATCH, side, MERGE, PATCH, 3)
    ordered = blocks.permute(
        0, 1, 4, 2, 5, 7, 3, 6
    )  # n, row, column, y, x of the block, channel, y, x
    timed = ordered.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, TEMPORAL, -1, -1)
    return timed.reshape(count * GRID * GRID, 3 * TEMPORAL * PATCH * PATCH)


def collate(made: Sequence[Scene]) -> Batch:
    """Return one batch; every scene must ask equally many questions."""
    asked = [question for scene in made for question in scene.questions()]
    return Batch(
        pixel_values=patches(np.stack([scene.pixels for scene in made])),
        image_grid_thw=torch.tensor([[1, GRID, GRID]] * len(made)),
        prompt_ids=torch.tensor([tokens.prompt(colour, IMAGE_TOKENS) for colour, _ in asked]),
        answer_ids=torch.tensor([tokens.IDS[str(digit)] for _, digit in asked]),
    )


def make(digits: Digits, seed: int, indices: Iterable[int], questions: int) -> Batch:
    """Return the batch of the scenes with these indices in the stream `seed`."""
    return collate([scenes.make(digits, seed, index, questions) for index in indices])
