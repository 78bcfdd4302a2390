"""The project's fault table and its judge: the very files that the launcher's image runs with.

They lie in the stack and not in this package, so that image and tool cannot disagree.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from arr.errors import ConfigError

FOLDER = "Stack/arr-vertex-launcher"


class Kind(Protocol):
    """A class of the table."""

    name: str
    meaning: str
    advice: str
    retry: bool
    block: str
    block_seconds: int
    exit_code: int
    links: Mapping[str, str]


class Fault(Protocol):
    """A classified failure; if it is not fatal, the log only speaks of one."""

    kind: Kind
    fatal: bool
    evidence: tuple[str, ...]
    line: int
    advice: str


@dataclass(frozen=True, slots=True)
class FaultTable:
    """The table, and the judge that goes with it."""

    kinds: Mapping[str, Kind]
    _judge: Any
    _table: Any

    def in_log(self, lines: Iterable[str]) -> Sequence[Fault]:
        """Return every fault of a whole log, in its order."""
        found: Sequence[Fault] = self._judge.judge(self._table, lines)
        return found

    def in_line(self, line: str) -> Fault | None:
        """Judge one line by itself."""
        found: Fault | None = self._judge.judge_line(self._table, line)
        return found


def load(root: Path) -> FaultTable:
    """Load the table of the clone at `root`. Raises ConfigError if it is missing or wrong."""
    if not (root / FOLDER / "faults.py").is_file():
        raise ConfigError(
            f"there is no {FOLDER}/faults.py in {root}",
            "Run it in a clone whose stack has the launcher's image.",
        )
    return load_from(root / FOLDER)


def load_from(folder: Path) -> FaultTable:
    """Load the table in a launcher's folder, with its judge. Raises ConfigError if it is wrong."""
    try:
        judge = _module(folder)
        table = judge.Table.load(folder / "faults.toml")
    except (ImportError, SyntaxError) as error:
        raise ConfigError(f"{folder}/faults.py cannot be used: {error}", "Correct it.") from error
    except ValueError as error:
        raise ConfigError(str(error), "Correct it there; `arr faults list` checks it.") from error
    return FaultTable(table.kinds, judge, table)


def _module(folder: Path) -> Any:
    """Import faults.py and what lies beside it, without a trace: another clone has its own."""
    before = dict(sys.modules)
    wrote = sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # nothing of ours belongs into the stack
    try:
        for name in _names(folder):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("faults")
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = wrote
        for name in _names(folder):
            sys.modules.pop(name, None)
            if name in before:
                sys.modules[name] = before[name]


def _names(folder: Path) -> list[str]:
    return [path.stem for path in folder.glob("faults*.py")]
