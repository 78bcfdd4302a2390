from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.stage import Stage
from launcher.in_image import PYTHON


@pytest.fixture(scope="session")
def launcher_python() -> Path:
    """The Python that has the pins of the launcher's image; `make test` installs it."""
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON} is missing: `make .venv-launcher/.ready` makes it")
    return PYTHON


@pytest.fixture
def stage(launcher_python: Path, tmp_path: Path) -> Iterator[Stage]:
    with Stage(launcher_python, tmp_path) as stage:
        yield stage
