"""Fixtures of the trainer's tests. Without torch and transformers they fail: nothing is skipped."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read on import: a name that is nowhere is told at once

with warnings.catch_warnings():
    warnings.simplefilter("default")  # what other packages deprecate while being imported
    import torch
    import transformers  # noqa: F401
    from training_runs import assignments, forget_accelerate

torch.set_num_threads(1)  # more threads make models this small slower

from ARR_COC.Training import train  # noqa: E402


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its state in the process; each test starts without any."""
    yield
    forget_accelerate()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A run's environment: its folder is tmp_path/run, and W&B is off."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ARR_")}
    return {
        **kept,
        "ARR_RUN_DIR": str(tmp_path / "run"),
        "WANDB_MODE": "disabled",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def run_here(environment: dict[str, str]) -> Callable[..., Path]:
    """Carry out a small run in this process and return its folder; fails unless it exits with 0."""

    def run(*more: str, folder: Path | None = None) -> Path:
        target = folder or Path(environment["ARR_RUN_DIR"])
        code = train.main(assignments(*more), {**environment, "ARR_RUN_DIR": str(target)})
        assert code == 0
        forget_accelerate()
        return target

    return run
