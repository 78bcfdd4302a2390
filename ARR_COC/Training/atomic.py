"""Writes that are either whole or not there, also after a power cut or a kill -9."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Replace `path` by a file with this text; a reader sees the old or the new, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by a JSON file; see write_text."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def publish(draft: Path, final: Path) -> None:
    """Rename a folder to its final name, after everything in it is on the disk.

    `final` must not exist.
    """
    for file in draft.rglob("*"):
        sync(file)
    sync(draft)
    draft.rename(final)
    sync(final.parent)


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
