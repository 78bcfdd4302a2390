"""What a texture costs: against reading its pixels once, and against putting the image together.

One thread, random pixels (the time does not depend on them), everything already in memory.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import bench
import torch

sys.path.insert(0, str(bench.TOP))
from ARR_COC.texture import BLOCK, PATCH, pixels, texture, textures

SIZES = (256, 512, 1024)
SMALL, SMALL_SIDE = 64, 128


@dataclass(frozen=True, slots=True)
class Cost:
    """Median milliseconds of `work`, and how often one reading of the pixels fits in."""

    images: str
    work: str
    median_ms: float
    min_ms: float
    max_ms: float
    readings: float


def costs(rounds: int) -> list[Cost]:
    """Measure every size, and many small images in one batch."""
    rows: list[Cost] = []
    for side in SIZES:
        image, patches = torch.rand(3, side, side), _patches(1, side)
        grid = torch.tensor([[1, side // PATCH, side // PATCH]])
        rows += _compared(
            f"1 x {side} px",
            {
                "image.sum()": lambda image=image: image.sum(),
                "pixels()": lambda p=patches, s=side: pixels(p, (s // PATCH, s // PATCH)),
                "texture()": lambda image=image: texture(image),
                "textures(), from patches": lambda p=patches, g=grid: textures(p, g),
            },
            rounds,
        )
    patches = _patches(SMALL, SMALL_SIDE)
    stack = torch.rand(SMALL, 3, SMALL_SIDE, SMALL_SIDE)
    grids = torch.tensor([[1, SMALL_SIDE // PATCH, SMALL_SIDE // PATCH]] * SMALL)
    rows += _compared(
        f"{SMALL} x {SMALL_SIDE} px",
        {
            "image.sum()": lambda: stack.sum(),
            "texture(), one by one": lambda: [texture(image) for image in stack],
            "textures(), from patches": lambda: textures(patches, grids),
        },
        rounds,
    )
    return rows


def _patches(images: int, side: int) -> torch.Tensor:
    return torch.rand(images * (side // PATCH) ** 2, 6 * PATCH**2) * 2 - 1


def _compared(images: str, works: dict[str, Callable[[], object]], rounds: int) -> list[Cost]:
    """Time the works in turn, `rounds` times after one that is not counted; the first reads."""
    times: dict[str, list[float]] = {work: [] for work in works}
    for number in range(rounds + 1):
        for work, run in works.items():
            start = time.perf_counter()
            run()
            if number:
                times[work].append((time.perf_counter() - start) * 1000)
    reading = statistics.median(times["image.sum()"])
    return [
        Cost(images, work, median, min(t), max(t), median / reading)
        for work, t in times.items()
        for median in [statistics.median(t)]
    ]


def table(rows: list[Cost]) -> str:
    """Return the costs as text."""
    lines = [f"{'IMAGES':12}  {'WORK':26}  {'MEDIAN':>9}  {'MIN..MAX':>16}  {'READINGS':>8}"]
    lines += [
        f"{row.images:12}  {row.work:26}  {row.median_ms:6.2f} ms"
        f"  {f'{row.min_ms:.2f}..{row.max_ms:.2f}':>16}  {row.readings:8.1f}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    given = bench.arguments(__doc__ or "")
    torch.set_num_threads(1)
    facts = {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    facts |= {"python": platform.python_version(), "torch": torch.__version__}
    rows = costs(given.rounds)
    print(f"texture: {given.rounds} rounds, one thread, blocks of {BLOCK} px; "
          + ", ".join(f"{key} {value}" for key, value in facts.items()), end="\n\n")  # fmt: skip
    print(table(rows))
    if given.json:
        data = {
            "benchmark": "texture_cost",
            "machine": facts,
            "rounds": given.rounds,
            "rows": [asdict(row) for row in rows],
        }
        given.json.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
