from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.stage import ROOT, Stage


@pytest.fixture(scope="session")
def launcher_python() -> Path:
    """The Python that has the pins of the launcher's image; `make test` installs it."""
    python = Path(os.environ.get("ARR_LAUNCHER_PYTHON", ROOT / ".venv-launcher" / "bin" / "python"))
    if not python.exists():
        pytest.fail(f"{python} is missing: `make .venv-launcher/.ready` makes it")
    return python


@pytest.fixture
def stage(launcher_python: Path, tmp_path: Path) -> Iterator[Stage]:
    with Stage(launcher_python, tmp_path) as stage:
        yield stage
