"""What selecting blocks costs and saves: one image, one question, vision tower and prefill.

One thread, random weights in Qwen3-VL-2B's shapes, random pixels (the time depends on neither).
Models of 2 + 2 and of 4 + 4 layers are measured, and every part is extrapolated to the real depth
on the straight line through both. Seconds are of the processor, so that time in which something
else has the core does not count. FLOPs are those of matrix products, convolutions and attention.
Peak memory is what a forward pass of the 4 + 4 layers adds to what the process held before.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from forward_costs import counting, faster_dtype, flops, peak, selector_parts, stages
from qwen_shapes import DEPTHS, SHAPES, WORDS, Shape, model, sample

from ARR_COC.attending import Budget
from ARR_COC.realizing import Where
from ARR_COC.texture import BLOCK

__all__ = ["flops", "main"]

SHARE, FASTER = 0.03, 8.0
"""The goals: selection's share of the full model at most, and how many times faster at least."""
OURS = "ours, before the tower"
ARMS: Mapping[str, Literal["all", "before", "after", "fewer"]] = {
    "full": "all",
    OURS: "before",
    "ours, after the tower": "after",
    "downsampled": "fewer",
}
"""What is shown: all blocks, the kept ones (before the tower or after it), or fewer pixels."""

_AGAIN = 5
"""How often a round times the short arms: the fewer layers differ by little more than the noise."""


@dataclass(slots=True)
class Arm:
    """What was measured of an arm: for each depth, seconds and FLOPs a stage."""

    name: str
    tower_tokens: int = 0
    language_tokens: int = 0
    memory_bytes: int = 0
    times: dict[int, dict[str, list[float]]] = field(
        default_factory=lambda: {d: {} for d in DEPTHS}
    )
    flops: dict[int, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """An arm at the real depth; seconds of selection, tower and language model, and their sum."""

    arm: str
    tower_tokens: int
    language_tokens: int
    select_s: float
    tower_s: float
    language_s: float
    seconds: float
    faster: float
    flops: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal and what came of it, in words and as a number."""

    goal: str
    said: str
    value: float
    reached: bool


def deeper(shallow: float, deep: float, layers: int) -> float:
    """Return the cost at `layers`, on the line through the costs at DEPTHS: fixed + each layer's.

    Where noise makes the deeper model the cheaper one, layers count as free and not as a gain.
    """
    layer = max(deep - shallow, 0.0) / (DEPTHS[1] - DEPTHS[0])
    return deep + layer * (layers - DEPTHS[1])


def whole(measured: Mapping[int, Mapping[str, float]], shape: Shape) -> dict[str, float]:
    """Return select, tower and language at the real depth, from the stages at each of DEPTHS."""
    shallow, deep = (measured[depth] for depth in DEPTHS)
    tower = deeper(shallow["tower"], deep["tower"], shape.vision_layers)
    more_taps = (shape.taps - shape.measured_taps) * deep["tap"]
    return {
        "select": (shallow["select"] + deep["select"]) / 2,
        "tower": tower + more_taps,
        "language": deeper(shallow["language"], deep["language"], shape.text_layers),
    }


def measure(
    shape: Shape, dtype: torch.dtype, pixels: int, budget: Budget, rounds: int
) -> tuple[list[Arm], dict[str, float]]:
    """Return the arms, and the seconds of each part of the selector (medians).

    First the memory, while nothing has run in this process; then a round that counts FLOPs and
    warms up; then `rounds` that are timed, in which every arm runs at both depths in turn.
    """
    models = {depth: model(shape, depth, dtype) for depth in DEPTHS}
    shallow, side = models[DEPTHS[0]], pixels // BLOCK
    image = sample(shallow, side, side)
    fewer = sample(shallow, *_near_square(budget.of(side * side)))
    tiny = sample(shallow, 2, 2)

    def run(arm: Arm, depth: int, reading: Callable[[], float]) -> dict[str, float]:
        shown = ARMS[arm.name]
        batch = fewer if shown == "fewer" else image
        chosen = budget if shown in ("before", "after") else None
        where: Where = "after" if shown == "after" else "before"
        taken, *tokens = stages(models[depth], batch, reading, None, chosen, where)
        arm.tower_tokens, arm.language_tokens = tokens
        return taken

    arms, parts = [Arm(name) for name in ARMS], []
    for arm in arms:
        arm.memory_bytes = peak(
            lambda: stages(models[DEPTHS[1]], tiny, time.process_time, budget=budget),
            partial(run, arm, DEPTHS[1], time.process_time),
        )
    for arm, depth in ((arm, depth) for depth in DEPTHS for arm in arms):
        with counting() as counter:
            arm.flops[depth] = run(arm, depth, counter.get_total_flops)
    selector_parts(shallow, image, budget)
    for number in range(rounds):
        for arm, depth in ((arm, depth) for depth in DEPTHS for arm in arms):
            for _ in range(_AGAIN if ARMS[arm.name] in ("before", "fewer") else 1):
                for stage, seconds in run(arm, depth, time.process_time).items():
                    arm.times[depth].setdefault(stage, []).append(seconds)
        parts.append(selector_parts(shallow, image, budget))
        load = os.getloadavg()[0]
        print(f"round {number + 1}/{rounds} done, load {load:.1f}", file=sys.stderr, flush=True)
    return arms, {part: statistics.median(each[part] for each in parts) for part in parts[0]}


def at_real_depth(arms: Sequence[Arm], shape: Shape) -> list[Row]:
    """Return a row an arm: medians and FLOPs extrapolated; the first arm is the full model."""
    rows: list[Row] = []
    for arm in arms:
        medians = {
            depth: {stage: statistics.median(times) for stage, times in stages.items()}
            for depth, stages in arm.times.items()
        }
        seconds = whole(medians, shape)
        total = sum(seconds.values())
        rows.append(
            Row(
                arm=arm.name,
                tower_tokens=arm.tower_tokens,
                language_tokens=arm.language_tokens,
                select_s=seconds["select"],
                tower_s=seconds["tower"],
                language_s=seconds["language"],
                seconds=total,
                faster=(rows[0].seconds if rows else total) / total,
                flops=round(sum(whole(arm.flops, shape).values())),
                memory_bytes=arm.memory_bytes,
            )
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text."""
    lines = [
        tuple("ARM,TOKENS,TOKENS,SECONDS,SECONDS,SECONDS,SECONDS,TIMES,TFLOP,PEAK".split(",")),
        tuple(",tower,language,select,tower,language,all,faster,,memory".split(",")),
    ]
    for row in rows:
        times = (row.select_s, row.tower_s, row.language_s, row.seconds)
        lines.append(
            (
                row.arm,
                str(row.tower_tokens),
                str(row.language_tokens),
                *(f"{seconds:.3f}" for seconds in times),
                f"{row.faster:.2f}",
                f"{row.flops / 1e12:.4g}",
                f"{row.memory_bytes / 2**20:.0f} MiB",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )


def verdicts(rows: Sequence[Row], parts: Mapping[str, float], budget: Budget) -> list[Goal]:
    """Return what was reached of each goal."""
    share = sum(parts.values()) / rows[0].seconds
    faster = next(row.faster for row in rows if row.arm == OURS)
    kept = f"1/{1 / budget.ratio:g}" if (1 / budget.ratio).is_integer() else f"{budget.ratio:g}"
    return [
        Goal(f"selection <= {SHARE:.0%} of full", f"{share:.2%}", share, share <= SHARE),
        Goal(f">= {FASTER:g}x faster at {kept}", f"{faster:.1f}x", faster, faster >= FASTER),
    ]


def _near_square(blocks: int) -> tuple[int, int]:
    """Return the height and width of so many blocks that are nearest to one another."""
    height = next(h for h in range(math.isqrt(blocks), 0, -1) if blocks % h == 0)
    return height, blocks // height


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--pixels", type=int, help="a side of the image [what fits the shape: 1024 for 2b]")
    add("--budget", type=float, default=0.125, help="share of blocks kept [%(default)s]")
    add("--rounds", type=int, default=3, help="measured rounds [%(default)s]")
    add("--json", type=Path, metavar="FILE", help="also write the numbers to FILE")
    add("--shape", choices=SHAPES, default="2b", help="the model's widths [%(default)s]")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    if given.pixels is not None and (given.pixels < BLOCK or given.pixels % BLOCK):
        parser.error(f"--pixels must be a multiple of {BLOCK}")
    if not 0 < given.budget <= 1:
        parser.error("--budget must be in (0, 1]")
    return given


def _about(shape: Shape, parts: Mapping[str, float]) -> str:
    """Return what a reader must know of the table."""
    shallow, deep = (f"{depth} + {depth}" for depth in DEPTHS)
    alone = ", ".join(f"{part} {seconds * 1000:.1f} ms" for part, seconds in parts.items())
    more = shape.taps - shape.measured_taps
    return (
        f"Seconds and FLOPs: {shallow} and {deep} layers (vision + language) measured, extrapolated"
        f" to {shape.vision_layers} + {shape.text_layers}:\na fixed part, and as much for each "
        f"layer; {more} of {shape.taps} DeepStack taps is added as one measured alone.\n"
        f"Peak memory: of the {deep} layers, above weights and inputs.\nThe selector alone: {alone}"
    )


def main() -> int:
    given = _arguments()
    torch.set_num_threads(1)
    shape, budget = SHAPES[given.shape], Budget(given.budget)
    pixels = given.pixels or shape.pixels
    dtype, layer_ms = faster_dtype(shape.vision["hidden_size"])
    facts: dict[str, object] = {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    facts |= {"python": platform.python_version(), "torch": str(torch.__version__)}
    facts |= {"dtype": str(dtype).removeprefix("torch."), "threads": 1}
    facts |= {f"ms_of_a_layer_in_{name}": round(ms, 2) for name, ms in layer_ms.items()}
    arms, parts = measure(shape, dtype, pixels, budget, given.rounds)
    rows = at_real_depth(arms, shape)
    goals = verdicts(rows, parts, budget)
    print(f"relevance_cost: {given.shape}, {pixels} x {pixels} px, question of {WORDS} tokens, "
          f"{given.rounds} rounds; " + ", ".join(f"{key} {value}" for key, value in facts.items()),
          table(rows), _about(shape, parts), sep="\n\n", end="\n\n")  # fmt: skip
    for goal in goals:
        print(f"{goal.goal}: {goal.said} {'reached' if goal.reached else 'missed'}")
    if given.json:
        asked = {"shape": given.shape, "pixels": pixels, "budget": budget.ratio, "words": WORDS}
        layers = {"vision": shape.vision_layers, "text": shape.text_layers, "measured": DEPTHS}
        data = {
            "benchmark": "relevance_cost",
            "machine": facts,
            **asked,
            "layers": layers,
            "rounds": given.rounds,
            "rows": [asdict(row) for row in rows],
            "selector_s": parts,
            "goals": [asdict(goal) for goal in goals],
            "measured": [asdict(arm) for arm in arms],
        }
        given.json.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
