"""Which engine is found, with programs that answer as the real ones do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from arr.build import find
from arr.build.buildah import Buildah
from arr.build.docker import Docker
from arr.config import EngineSettings
from arr.errors import MissingTool

OLD = 'test "$1" = version && echo 20.10.24 20.10.24'
NEW = 'case "$1" in version) echo 28.1.0 27.0.0 ;; buildx) exit {buildx} ;; esac'
NO_DAEMON = (
    "echo 20.10.24; echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock. "
    "Is the docker daemon running?' >&2; exit 1"
)
BUILDAH = "echo 'buildah version 1.28.2 (image-spec 1.0.2-dev, runtime-spec 1.0.2-dev)'"

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts programs into a folder that then comes last on the PATH; no others are on it."""
    folders: list[str] = []

    def one(**scripts: str) -> Path:
        folder = tmp_path / f"bin{len(folders)}"
        folder.mkdir()
        for name, script in scripts.items():
            path = folder / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        folders.append(str(folder))
        monkeypatch.setenv("PATH", ":".join(folders))
        return folder

    one()
    return one


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)


def test_nothing_is_installed(install, tmp_path):
    with pytest.raises(MissingTool) as caught:
        find.find(EngineSettings(), tmp_path)
    assert caught.value.message == (
        "no engine that can build images was found: docker: not installed; buildah: not installed"
    )
    assert caught.value.hint == "sudo apt-get install buildah"
    assert caught.value.exit_code == 2


def test_docker_is_taken_before_buildah(install, root, tmp_path):
    folder = install(docker=OLD, buildah=BUILDAH)
    assert find.find(EngineSettings(), tmp_path) == Docker(str(folder / "docker"))
    assert find.probe_docker().detail == "client 20.10.24, daemon 20.10.24"


def test_the_settings_choose_the_engine_and_the_store(install, root, tmp_path):
    install(docker=OLD, buildah=BUILDAH)
    assert find.find(EngineSettings(name="buildah"), tmp_path) == Buildah(None)
    own = find.find(EngineSettings(name="buildah", store=".arr/store"), tmp_path)
    assert own == Buildah(tmp_path / ".arr/store")


def test_a_client_without_buildkit_is_passed_over_for_one_that_has_it(install, root):
    install(docker=NEW.format(buildx=1))
    able = install(docker=OLD)
    assert find.probe_docker().program == str(able / "docker")


def test_a_client_with_the_plugin_is_taken(install, root):
    folder = install(docker=NEW.format(buildx=0))
    found = find.probe_docker()
    assert (found.problem, found.program) == ("", str(folder / "docker"))


def test_no_client_has_buildkit(install, root, tmp_path):
    install(docker=NEW.format(buildx=1), buildah=BUILDAH)
    assert (
        find.probe_docker().problem == "the client 28.1.0 has no buildx, which its BuildKit needs"
    )
    assert find.find(EngineSettings(), tmp_path) == Buildah(None)
    with pytest.raises(MissingTool, match="has no buildx"):
        find.find(EngineSettings(name="docker"), tmp_path)


def test_the_daemon_does_not_answer(install, root, tmp_path):
    install(docker=NO_DAEMON)
    assert "Cannot connect to the Docker daemon" in find.probe_docker().problem
    with pytest.raises(MissingTool, match="Cannot connect") as caught:
        find.find(EngineSettings(name="docker"), tmp_path)
    assert "--engine buildah" in caught.value.hint


@pytest.mark.parametrize("script", ["echo 4.3.1", "true", "echo; exit 1", "kill -9 $$"])
def test_a_program_called_docker_that_is_none(install, root, script):
    install(docker=script)
    assert find.probe_docker().problem == "no daemon"


def test_what_is_no_program_is_passed_over(install, root):
    (install() / "docker").mkdir()
    (install() / "docker").write_text("no script")
    assert find.probe_docker().problem


def test_buildah_without_root_needs_a_map_of_users(install, monkeypatch):
    install(buildah=BUILDAH)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert find.probe_buildah().problem == "without root it needs the package uidmap"
    install(newuidmap="true")
    assert find.probe_buildah().problem == ""
    assert find.probe_buildah().detail == "1.28.2"


def test_buildah_that_does_not_work(install, root):
    install(buildah="echo 'error while loading shared libraries' >&2; exit 127")
    assert "error while loading shared libraries" in find.probe_buildah().problem
