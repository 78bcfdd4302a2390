"""Where checkpoints lie: a folder of this machine, or anything remote that fsspec knows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from fsspec.core import url_to_fs  # type: ignore[import-untyped]

from ARR_COC.loading import STATE
from ARR_COC.Training import atomic
from ARR_COC.Training.settings import SettingsError


class Storage(Protocol):
    """A place with checkpoints, a folder each. Everything here may raise OSError."""

    place: str
    """The folder or address, as results and messages show it."""

    def names(self) -> list[str]:
        """Return the names of all checkpoints, whole or not, the newest first."""

    def open(self, name: str) -> Any:
        """Give a folder (in a `with`) that holds the checkpoint's files."""

    def draft(self, name: str) -> Path:
        """Return an empty folder to write the checkpoint to; drafts of earlier attempts go."""

    def publish(self, draft: Path, name: str) -> None:
        """Make a draft the checkpoint of that name, whole at once, in place of one of that name."""

    def remove(self, name: str) -> None:
        """Remove a checkpoint, its state.json first."""

    def read(self, file: str) -> Any:
        """Return what a JSON file beside the checkpoints holds; None if it cannot be read."""

    def write(self, file: str, value: Any) -> None:
        """Replace a JSON file beside the checkpoints."""


class Folder:
    """Checkpoints in a folder of this machine: written aside, then renamed."""

    def __init__(self, path: Path, place: str) -> None:
        self.place = place
        self._path = path

    def names(self) -> list[str]:
        return sorted((path.name for path in self._path.glob("step-*")), reverse=True)

    @contextmanager
    def open(self, name: str) -> Iterator[Path]:
        yield self._path / name

    def draft(self, name: str) -> Path:
        self._path.mkdir(parents=True, exist_ok=True)
        return _emptied(self._path, name)

    def publish(self, draft: Path, name: str) -> None:
        if (self._path / name).exists():
            self.remove(name)
        atomic.publish(draft, self._path / name)

    def remove(self, name: str) -> None:
        (self._path / name / STATE).unlink(missing_ok=True)
        shutil.rmtree(self._path / name)

    def read(self, file: str) -> Any:
        try:
            return json.loads((self._path / file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def write(self, file: str, value: Any) -> None:
        atomic.write_json(self._path / file, value)


class Remote:
    """Checkpoints at an address like gs://bucket/runs/7; `local` is where drafts are written.

    An object store renames file by file, so a checkpoint is uploaded with its state.json, which
    lists the others, at the end, and counts as whole only with it.
    """

    def __init__(self, address: str, local: Path) -> None:
        self.place = address.rstrip("/")
        self._local = local
        self._system, root = url_to_fs(self.place)
        self._root = root.rstrip("/")

    def names(self) -> list[str]:
        self._system.invalidate_cache()
        if not self._system.exists(self._root):
            return []
        entries = (str(entry).rstrip("/") for entry in self._system.ls(self._root, detail=False))
        names = (entry.rsplit("/", 1)[-1] for entry in entries)
        return sorted((name for name in names if name.startswith("step-")), reverse=True)

    @contextmanager
    def open(self, name: str) -> Iterator[Path]:
        with TemporaryDirectory(prefix="arr-coc-") as folder:
            prefix = f"{self._root}/{name}/"
            for found in self._system.find(prefix):
                file = Path(folder) / str(found).removeprefix(prefix)
                file.parent.mkdir(parents=True, exist_ok=True)
                self._system.get_file(found, str(file))
            yield Path(folder)

    def draft(self, name: str) -> Path:
        self._local.mkdir(parents=True, exist_ok=True)
        return _emptied(self._local, name)

    def publish(self, draft: Path, name: str) -> None:
        if self._system.exists(f"{self._root}/{name}"):
            self.remove(name)
        files = [file for file in sorted(draft.rglob("*")) if file.is_file()]
        for file in sorted(files, key=lambda file: file.name == STATE):
            there = f"{self._root}/{name}/{file.relative_to(draft).as_posix()}"
            self._system.makedirs(there.rsplit("/", 1)[0], exist_ok=True)
            self._system.put_file(str(file), there)
        shutil.rmtree(draft)

    def remove(self, name: str) -> None:
        if self._system.exists(f"{self._root}/{name}/{STATE}"):
            self._system.rm_file(f"{self._root}/{name}/{STATE}")
        self._system.rm(f"{self._root}/{name}", recursive=True)

    def read(self, file: str) -> Any:
        try:
            return json.loads(self._system.cat_file(f"{self._root}/{file}"))
        except (OSError, ValueError):
            return None

    def write(self, file: str, value: Any) -> None:
        self._system.makedirs(self._root, exist_ok=True)
        self._system.pipe_file(f"{self._root}/{file}", json.dumps(value).encode())

    def probe(self) -> None:
        """Write a small file and remove it again."""
        self.write(".probe.json", {})
        self._system.rm_file(f"{self._root}/.probe.json")


def storage(place: str, run: Path, probe: bool = True) -> Storage:
    """Return the storage at `place` (empty: the run's own folder), with probe after a small write.

    Raises SettingsError if nothing can be written there.
    """
    if "://" not in place:
        path = Path(place).resolve() if place else run / "checkpoints"
        inside = path.is_relative_to(run)
        folder = Folder(path, path.relative_to(run).as_posix() if inside else str(path))
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / ".probe").touch()
            (path / ".probe").unlink(missing_ok=True)
        except OSError as error:
            raise SettingsError(
                f"checkpoint_dir: cannot write to {path} ({error.strerror}); name another folder"
            ) from error
        return folder
    try:
        remote = Remote(place, run / ".drafts")
        if probe:
            remote.probe()
    except ImportError as error:
        raise SettingsError(
            f"checkpoint_dir={place}: a package is missing to write there ({error})"
        ) from error
    except Exception as error:  # every cloud's library raises errors of its own
        raise SettingsError(
            f"checkpoint_dir={place}: cannot write there ({type(error).__name__}: {error}); "
            "log in (for gs:// gcloud auth application-default login), or name another place"
        ) from error
    return remote


def _emptied(folder: Path, name: str) -> Path:
    for earlier in folder.glob(".step-*.tmp"):
        shutil.rmtree(earlier)
    draft = folder / f".{name}.tmp"
    draft.mkdir()
    return draft
