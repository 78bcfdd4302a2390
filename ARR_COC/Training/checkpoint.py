"""Checkpoints: a folder a step, complete or invisible, with what it takes to go on.

state.json is written last and lists the size of every other file: where a file system renames a
folder file by file, as object stores do, a part of a checkpoint is still not taken for the whole.
best.json beside them names the one that did best in an examination.
"""

from __future__ import annotations

import json
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ARR_COC.loading import BEST, FORMAT, PROGRESS, STATE, LoadError, complete
from ARR_COC.realizing import TRANSFORMERS
from ARR_COC.Training.storage import Storage


class SaveError(Exception):
    """A checkpoint that could not be written; the message says what is still good."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One step of a run.

    phase: of its last step. loss: of the last reader step, if there was one. answered: questions
    seen. base: see Subject. identity: what a run that goes on from it must share.
    """

    step: int
    phase: str
    loss: float | None
    answered: int
    base: dict[str, str | None] | None
    identity: dict[str, Any]

    @property
    def name(self) -> str:
        """Return the name of its folder."""
        return f"step-{self.step:08d}"


@dataclass(frozen=True, slots=True, order=True)
class Best:
    """An examination's accuracy; one with the selector is better than any without."""

    selecting: bool
    accuracy: float
    step: int
    checkpoint: str


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, storage: Storage, keep: int) -> None:
        self._storage = storage
        self._keep = keep

    def where(self, name: str) -> str:
        """Return how a checkpoint is called in results and messages."""
        return f"{self._storage.place}/{name}"

    def latest(self) -> tuple[Checkpoint | None, list[str]]:
        """Return the newest whole checkpoint, and a line for each newer one that is none."""
        passed_over: list[str] = []
        for name in self._storage.names():
            with self._storage.open(name) as folder:
                try:
                    return _checked(folder), passed_over
                except LoadError as error:
                    words = str(error).removeprefix(f"{folder}: ")
                    passed_over.append(f"{self.where(name)} is not complete, passed over: {words}")
        return None, passed_over

    @contextmanager
    def open(self, name: str) -> Iterator[Path]:
        """Give the folder with a checkpoint's files."""
        with self._storage.open(name) as folder:
            yield folder

    def best(self, until: int) -> Best | None:
        """Return the best checkpoint that is still there, if it is none of a step after `until`."""
        try:
            found = Best(**(self._storage.read(BEST) or {}))
        except TypeError:
            return None
        there = found.checkpoint in self._storage.names()
        return found if there and found.step <= until else None

    def save(
        self, new: Checkpoint, write: Callable[[Path], None], progress: dict[str, Any]
    ) -> None:
        """Write a checkpoint: `write` its weights, and what training goes on with.

        Raises SaveError when it cannot be written, with the draft removed and the earlier ones as
        they were.
        """
        draft = None
        try:
            draft = self._storage.draft(new.name)
            write(draft)
            with (draft / PROGRESS).open("wb") as file:  # so that a full disk is told as one
                torch.save({**progress, "random": _random_state()}, file)
            written = (path for path in sorted(draft.rglob("*")) if path.is_file())
            sizes = {path.relative_to(draft).as_posix(): path.stat().st_size for path in written}
            state = {"format": FORMAT, "transformers": TRANSFORMERS, **asdict(new), "files": sizes}
            (draft / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
            self._storage.publish(draft, new.name)
        except (OSError, RuntimeError, SafetensorError) as error:
            if draft is not None:
                shutil.rmtree(draft, ignore_errors=True)
            raise SaveError(
                f"{self.where(new.name)} could not be written ({_reason(error)})"
            ) from error

    def prune(self, best: Best | None) -> None:
        """Remove all checkpoints but the newest ones and the best."""
        for name in self._storage.names()[self._keep :]:
            if best is None or name != best.checkpoint:
                self._storage.remove(name)

    def crown(self, best: Best) -> None:
        """Say which checkpoint is the best one."""
        try:
            self._storage.write(BEST, asdict(best))
        except OSError as error:
            raise SaveError(f"{self.where(BEST)} could not be written ({error})") from error


def load_progress(folder: Path) -> dict[str, Any]:
    """Put the random generators back to where the checkpoint left them; return the rest."""
    saved: dict[str, Any] = torch.load(folder / PROGRESS, map_location="cpu", weights_only=True)
    _set_random_state(saved.pop("random"))
    return saved


def _reason(error: BaseException) -> BaseException:
    """Return the OSError behind an error of torch's writer, which says only that it failed."""
    while not isinstance(error, OSError) and error.__context__ is not None:
        error = error.__context__
    return error


def _checked(folder: Path) -> Checkpoint:
    """Return the checkpoint of a folder. Raises LoadError unless all of it can be read."""
    state = complete(folder)
    try:
        for file in folder.rglob("*.safetensors"):
            with safe_open(file, framework="pt") as opened:
                opened.keys()
        with zipfile.ZipFile(folder / PROGRESS) as progress:
            if damaged := progress.testzip():
                raise LoadError(f"{folder}: {PROGRESS} is damaged at {damaged}")
        known = {name: state[name] for name in Checkpoint.__dataclass_fields__}
    except (OSError, SafetensorError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise LoadError(f"{folder}: cannot be read ({error})") from error
    except KeyError as error:
        raise LoadError(f"{folder}: its {STATE} says no {error}") from error
    return Checkpoint(**known)


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
