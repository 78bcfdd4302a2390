"""What several rooms' tests share: clones of a small stack, new or with all its images built."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from small_stack import Clone, make_clone

# A shell starts what runs in its background with Ctrl-C ignored, and programs inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A busy machine makes no example wrong.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def engine_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """buildah's images, of all tests: none of them touches those of whoever runs the tests."""
    yield tmp_path_factory.mktemp("store")
    # buildah leaves its store mounted, and what was killed its containers: no one could delete it.
    below = f"{tmp_path_factory.getbasetemp()}/"
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(below)]):
        subprocess.run(["umount", mount], check=False)


@pytest.fixture
def new_clone(tmp_path: Path, engine_store: Path) -> Iterator[Callable[..., Clone]]:
    """Makes clones in which nothing was built; whatever they start is ended."""
    made: list[Clone] = []

    def make(name: str = "clone", **changed: str) -> Clone:
        made.append(make_clone(tmp_path / name, engine_store, tmp_path / "home", **changed))
        return made[-1]

    yield make
    for clone in made:
        clone.close()


@pytest.fixture
def clone(new_clone: Callable[..., Clone]) -> Clone:
    return new_clone()


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory, engine_store: Path) -> Path:
    folder = tmp_path_factory.mktemp("built")
    clone = make_clone(folder / "clone", engine_store, folder / "home")
    try:
        clone.arr("build")
    finally:
        clone.close()
    return clone.root


@pytest.fixture
def built(_built: Path, tmp_path: Path, engine_store: Path) -> Iterator[Clone]:
    """A clone of which every image is in its own embedded registry."""
    shutil.copytree(_built, tmp_path / "built", symlinks=True)
    (tmp_path / "home").mkdir(exist_ok=True)
    clone = Clone(tmp_path / "built", engine_store, tmp_path / "home")
    yield clone
    clone.close()
