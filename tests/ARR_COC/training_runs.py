"""Runs of the trainer as tests use them: how small one is, and what it left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, GradientState

ROOT = Path(__file__).resolve().parents[2]

SMALL = (
    "steps=6",
    "selector_steps=2",
    "batch=2",
    "questions=3",
    "eval_examples=1",
    "log_every=1",
    "save_every=3",
)
"""A run of a second: both phases, and a model that has learnt nothing."""


def assignments(*more: str) -> list[str]:
    """Return the arguments of a small run, with more `key=value` settings after them."""
    return [word for pair in (*SMALL, *more) for word in ("--set", pair)]


def forget_accelerate() -> None:
    """Drop the state that Accelerate keeps in the process."""
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


def result(folder: Path) -> dict[str, Any]:
    """Return a run's result."""
    read: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return read


def points(folder: Path) -> list[dict[str, Any]]:
    """Return the points of a run's steps, less the speed, which no two runs share."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if key != "steps_per_second"}
        for line in lines
        if "loss" in json.loads(line)
    ]


def weights(folder: Path, step: int) -> dict[str, bytes]:
    """Return the bytes of the weights in a checkpoint of a run, by file."""
    checkpoint = folder / f"checkpoints/step-{step:08d}"
    return {
        file.relative_to(checkpoint).as_posix(): file.read_bytes()
        for file in checkpoint.rglob("*.safetensors")
    }
