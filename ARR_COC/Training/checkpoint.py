"""Checkpoints: a folder a step, complete or invisible, in RUN/checkpoints.

state.json is written last and lists the size of every other file: where a file system renames a
folder file by file, as object stores do, a part of a checkpoint is still not taken for the whole.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model, save_model

from ARR_COC.Training import atomic
from ARR_COC.Training.model import Reader

FOLDER = "checkpoints"
_WEIGHTS, _PROGRESS, _STATE = "model.safetensors", "progress.pt", "state.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One step of the run in `run`: the loss of that step, and what identifies the run."""

    run: Path
    step: int
    loss: float | None
    identity: dict[str, Any]

    @property
    def name(self) -> str:
        """Return its folder relative to the run's folder, as results and messages show it."""
        return f"{FOLDER}/step-{self.step:08d}"

    @property
    def path(self) -> Path:
        """Return its folder."""
        return self.run / self.name


def save(
    new: Checkpoint,
    reader: Reader,
    optimizer: torch.optim.Optimizer,
    keep: int,
) -> None:
    """Write a checkpoint and remove all but the newest `keep`; one of the same step is replaced.

    Raises OSError when it cannot be written, and then leaves the earlier ones as they are.
    """
    folder = new.path.parent
    folder.mkdir(exist_ok=True)
    for draft in folder.glob(".step-*.tmp"):
        shutil.rmtree(draft)
    draft = folder / f".{new.path.name}.tmp"
    draft.mkdir()
    # What qwen.save_pretrained writes, less its progress bar: from_pretrained reads this folder.
    save_model(reader.qwen, str(draft / _WEIGHTS), metadata={"format": "pt"})
    reader.qwen.config.save_pretrained(draft)
    progress = {"optimizer": optimizer.state_dict(), "random": _random_state()}
    torch.save(progress, draft / _PROGRESS)
    # safetensors writes for the owner only; whoever may read the rest of the run may read this.
    (draft / _WEIGHTS).chmod((draft / _PROGRESS).stat().st_mode)
    sizes = {file.name: file.stat().st_size for file in draft.iterdir()}
    state = {"step": new.step, "loss": new.loss, "identity": new.identity, "files": sizes}
    (draft / _STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    if new.path.exists():
        shutil.rmtree(new.path)
    atomic.publish(draft, new.path)
    for old in _newest_first(folder)[keep:]:
        shutil.rmtree(old)


def latest(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest complete checkpoint, and a line for each newer one that is not complete."""
    passed_over: list[str] = []
    for path in _newest_first(run / FOLDER):
        try:
            state = json.loads((path / _STATE).read_text(encoding="utf-8"))
            for name, size in state["files"].items():
                if (path / name).stat().st_size != size:
                    raise ValueError(f"{name} has {(path / name).stat().st_size} of {size} bytes")
            return Checkpoint(run, state["step"], state["loss"], state["identity"]), passed_over
        except (OSError, ValueError, KeyError) as error:
            passed_over.append(f"{FOLDER}/{path.name} is not complete, passed over ({error})")
    return None, passed_over


def load_weights(checkpoint: Checkpoint, reader: Reader) -> None:
    """Put the checkpoint's weights into the reader; raises RuntimeError if they do not fit."""
    load_model(reader.qwen, checkpoint.path / _WEIGHTS)


def load_progress(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> None:
    """Put the optimizer's moments and the random generators back to where the checkpoint left them.

    Learning rate, betas and weight decay stay as the optimizer has them: they are settings.
    """
    saved = torch.load(checkpoint.path / _PROGRESS, map_location="cpu", weights_only=True)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({**saved["optimizer"], "param_groups": groups})
    _set_random_state(saved["random"])


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def _random_state() -> dict[str, Any]:
    """Return the state of all global generators as values that a weights-only load accepts."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "python": random.getstate(),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])  # another number of GPUs: nothing to put back
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
