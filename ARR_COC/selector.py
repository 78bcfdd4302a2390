"""The selector: pixels and question in, a score for each block out, before the vision tower."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from ARR_COC.balancing import Balancer, balance
from ARR_COC.knowing import perspectival, propositional, standardised
from ARR_COC.participatory import Participation
from ARR_COC.texture import pixels, textures

WAYS = ("propositional", "perspectival", "participatory")
BALANCES = ("learned", "thirds", *WAYS)
_CONFIG, _WEIGHTS = "selector.json", "selector.safetensors"


@dataclass(frozen=True, slots=True)
class SelectorConfig:
    """What a selector is built from.

    embedding: width of the language model's embeddings. width: of a glimpse. balance: how the three
    ways of knowing become one score: "learned" tensions, equal "thirds" of the standardised maps,
    or one way alone. blind: do not look at the question (what a selector learns without it).
    """

    embedding: int
    width: int = 32
    balance: str = "learned"
    blind: bool = False

    def __post_init__(self) -> None:
        if self.balance not in BALANCES:
            raise ValueError(f"balance is one of {', '.join(BALANCES)}, not {self.balance!r}")


@dataclass(frozen=True, slots=True)
class Relevance:
    """What the selector finds for one run of an image and its question.

    scores [h*w], higher is kept first; maps: each way of knowing, [h, w]; tensions [3] in 0..1, by
    the order of balancing.TENSIONS (none unless the balance is learned).
    """

    scores: Tensor
    grid: tuple[int, int]
    maps: Mapping[str, Tensor]
    tensions: Tensor | None


class Selector(nn.Module):
    """Scores the blocks of images by three ways of knowing and their balance."""

    def __init__(self, config: SelectorConfig) -> None:
        super().__init__()
        self.config = config
        self.participation = Participation(config.embedding, config.width)
        self.balancer = Balancer(config.embedding)

    def forward(
        self,
        pixel_values: Tensor,
        image_grid_thw: Tensor,
        images: Tensor,
        rows: Tensor,
        query: Tensor,
        query_mask: Tensor,
    ) -> list[Relevance]:
        """Return the relevance of each of S runs.

        pixel_values [P, 1536] and image_grid_thw [n, 3] as Qwen's processor gives them; images [S]
        and rows [S]: the image and the question (row of `query`) of each run; query [R, T, D]: word
        embeddings, query_mask [R, T]: which of them are the question's own words.
        """
        if self.config.blind:
            query = torch.ones_like(query[:, :1])
            query_mask = torch.ones_like(query_mask[:, :1])
        found: dict[int, Relevance] = {}
        looks = textures(pixel_values, image_grid_thw)
        parts = torch.split(pixel_values, image_grid_thw.prod(-1).tolist())
        for grid, numbers in _alike(image_grid_thw).items():
            seen = torch.stack([pixels(parts[n], (2 * grid[0], 2 * grid[1])) for n in numbers])
            looked = torch.stack([looks[n] for n in numbers])
            places = {number: place for place, number in enumerate(numbers)}
            runs = [run for run, image in enumerate(images.tolist()) if image in places]
            if runs:
                which = torch.tensor([places[int(images[run])] for run in runs])
                asked = rows[runs]
                scored = self._score(
                    seen, looked, which.to(seen.device), query[asked], query_mask[asked]
                )
                found.update(zip(runs, scored, strict=True))
        return [found[run] for run in range(len(images))]

    def _score(
        self, images: Tensor, looks: Tensor, which: Tensor, query: Tensor, query_mask: Tensor
    ) -> list[Relevance]:
        """Return the relevance of S runs; which [S] is the image, of [n, 3, H, W], of each."""
        maps = {
            "propositional": standardised(propositional(looks))[which],
            "perspectival": standardised(perspectival(looks))[which],
        }
        how, tensions = self.config.balance, None
        if how not in maps:
            dtype = self.participation.glimpse.weight.dtype
            glimpses = self.participation.glimpses(images.to(dtype), looks.to(dtype))
            maps["participatory"] = self.participation(glimpses[which], query, query_mask)
        if how == "thirds":
            scores = torch.stack([standardised(maps[way]) for way in WAYS]).mean(0)
        elif how == "learned":
            context = self.balancer.context(maps["propositional"], maps["perspectival"])
            tensions = self.balancer.tensions(query, query_mask, maps["participatory"], context)
            scores = balance(maps["participatory"], context, tensions)
        else:
            scores = maps[how]
        grid = (looks.shape[-2], looks.shape[-1])
        return [
            Relevance(
                scores[run].flatten(),
                grid,
                {way: values[run] for way, values in maps.items()},
                None if tensions is None else tensions[run],
            )
            for run in range(len(which))
        ]

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the configuration and the weights (safetensors) into `folder`, made if missing."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        (path / _CONFIG).write_text(json.dumps(asdict(self.config), indent=2) + "\n")
        save_model(self, str(path / _WEIGHTS), metadata={"format": "pt"})

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> Selector:
        """Return the selector saved in `folder`. Raises ValueError in words where it is not one."""
        path = Path(folder)
        try:
            config = SelectorConfig(**_known(json.loads((path / _CONFIG).read_text())))
            selector = cls(config)
            load_model(selector, path / _WEIGHTS)
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{path} holds no selector that can be read: {error}") from error
        return selector


def _alike(image_grid_thw: Tensor) -> dict[tuple[int, int], list[int]]:
    """Return the numbers of the images by their grid in blocks."""
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, (_, h, w) in enumerate(image_grid_thw.tolist()):
        alike[h // 2, w // 2].append(number)
    return alike


def _known(values: Any) -> dict[str, Any]:
    names = {entry.name for entry in fields(SelectorConfig)}
    if not isinstance(values, dict) or not values.keys() <= names:
        raise ValueError(f"{_CONFIG} must hold {', '.join(sorted(names))} and nothing else")
    return values
