"""The launcher's watch around the local agent: the stack's own wrapper, as it is committed."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from arr.errors import ConfigError
from arr.jobs import fault_table
from arr.jobs.fault_table import FOLDER
from arr.stack.context import IgnoreFile, context_files, write_context
from arr.stack.git import Commit

WRAPPER = "entrypoint-wrapper.sh"
TIMES = {
    "ARR_IDLE_TIMEOUT": "0",  # the local agent ends by itself when the queue is empty,
    "ARR_SILENCE_TIMEOUT": "0",  # says nothing while a run goes on,
    "ARR_TIMEOUT": "0",
    "ARR_HEARTBEAT": "300",
    "ARR_GRACE": "45",  # and gives a run half a minute to write a checkpoint
}
"""The watch's settings for it."""


def launcher(commit: Commit, folder: Path) -> Path | None:
    """Return a folder below `folder` with the commit's launcher; None if its stack has none.

    What is there already is not written again. Raises ConfigError if its fault table is wrong.
    """
    if f"{FOLDER}/{WRAPPER}" not in commit.tree:
        return None
    files = context_files(commit, FOLDER, IgnoreFile())
    content = repr([(path, entry.mode, entry.blob) for path, entry in sorted(files.items())])
    found = folder / hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()[:12]
    if found.exists():
        return found
    folder.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder, prefix=".new-"))
    try:
        write_context(commit, files, made)
        try:
            fault_table.load_from(made)
        except ConfigError as error:
            words = error.message.replace(str(made), f"{commit.id[:12]}:{FOLDER}")
            raise ConfigError(words, "Correct it and commit it.") from error
        made.rename(found)
    except OSError as error:
        if not found.exists():  # another launch was quicker
            raise ConfigError(
                f"the launcher's watch cannot be put into {folder}: {error}", "Make room there."
            ) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return found


def command(launcher: Path, agent: Sequence[str]) -> list[str]:
    """Return the command line that runs `agent` under the watch."""
    return ["/bin/sh", str(launcher / WRAPPER), *agent]


def environ(launcher: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the watch's environment: its times, its table, and a `python3` that can run it."""
    path = [str(Path(sys.executable).parent), inherited.get("PATH") or os.defpath]
    table = {"ARR_FAULTS": str(launcher / "faults.toml")}
    return {**inherited, **TIMES, **table, "PATH": os.pathsep.join(path)}
