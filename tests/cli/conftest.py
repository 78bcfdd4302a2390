"""Commands in this process: quick, where neither the terminal nor a signal plays a part."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from repository import Repository, make_repository
from scratch_stack import SCRATCH, Done

from arr.cli.main import run
from arr.registry.retry import Retry


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A command takes the signals of its process for itself."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A stack of one image that needs no base."""
    return make_repository(tmp_path / "repository", SCRATCH, checkout=True)


@pytest.fixture
def arr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Done]:
    """Runs a command in a folder; a registry's pauses are left out."""
    monkeypatch.setattr(Retry, "wait", lambda self, failures, chance: 0.0)
    (tmp_path / "home").mkdir(exist_ok=True)
    for name in [n for n in os.environ if n.startswith(("ARR_", "DOCKER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def command(folder: Path | Repository, *args: str, **environ: str) -> Done:
        capsys.readouterr()
        monkeypatch.chdir(folder.root if isinstance(folder, Repository) else folder)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        code = run(args)
        out, err = capsys.readouterr()
        assert "Traceback" not in err, err
        assert "bug of arr" not in err, err
        return Done(code, out, err)

    return command
