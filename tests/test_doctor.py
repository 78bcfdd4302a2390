"""What a machine lacks is named all at once, with the command that mends it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import Files, Repository, make_repository
from small_stack import CLI

from arr import doctor
from arr.doctor import Check
from arr.errors import MissingTool
from arr.stack import lock as locks
from arr.stack.lock import Lock, Pin
from arr.stack.stackfile import Recipe

STACK = """
[images.one]
folder = "Stack/one"

[bases."python:3.11-slim"]
local = { obtain = "make", recipe = "debian" }

[recipes.debian]
suite = "bookworm"
packages = ["python3"]
"""
PIN = Pin(
    recipe="debian", recipe_hash=locks.recipe_hash(Recipe(suite="bookworm", packages=["python3"]))
)
FILES: Files = {
    "arr.toml": '[run]\nimage = "one"\n',
    "Stack/stack.toml": STACK,
    "Stack/stack.lock": locks.dumps(Lock(local={"python:3.11-slim": PIN})),
    "Stack/one/Dockerfile": "FROM python:3.11-slim\nCOPY Stack/one/a /a\n",
    "Stack/one/.image-manifest": "Stack/one/a\n",
    "Stack/one/a": "a\n",
}
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "repository", FILES, checkout=True)


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """The only folder on PATH: git, and what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    link(folder, "git")
    return folder


@pytest.fixture
def arr(repository: Repository, bin_folder: Path, tmp_path: Path) -> Run:
    def command(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(CLI), *args], cwd=repository.root, capture_output=True, text=True,
            env={"PATH": str(bin_folder), "HOME": str(tmp_path)}, check=False,
        )  # fmt: skip

    return command


def link(folder: Path, name: str) -> None:
    found = shutil.which(name)
    assert found
    (folder / name).symlink_to(found)


def program(folder: Path, name: str, script: str) -> None:
    """Put a small program on the PATH; it writes down how it was called."""
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >>"{folder}/calls"\n{script}\n')
    path.chmod(0o755)


def calls(folder: Path) -> list[str]:
    file = folder / "calls"
    return file.read_text().splitlines() if file.exists() else []


def test_a_launch_names_all_that_is_missing_before_it_starts_anything(
    arr: Run, repository: Repository
) -> None:
    done = arr("launch")
    assert done.returncode == 2
    assert done.stdout == ""
    for name in ("engine", "docker-registry", "mmdebstrap"):
        assert f"\n  {name}: " in done.stderr
    assert "nothing was started" in done.stderr
    assert done.stderr.count("apt-get install") == 1
    assert "sudo apt-get install buildah docker-registry mmdebstrap" in done.stderr
    assert not (repository.root / ".arr" / "registry").exists()
    assert arr("build").stderr == done.stderr


def test_doctor_says_the_same_and_as_json(arr: Run) -> None:
    done = arr("doctor", "--json")
    assert done.returncode == 2
    report = json.loads(done.stdout)
    assert report["target"] == "local"
    checks = {check["name"]: check for check in report["checks"]}
    assert {name for name, check in checks.items() if not check["ok"]} == {
        "engine", "docker-registry", "mmdebstrap",
    }  # fmt: skip
    assert set(checks["git"]) == {"name", "ok", "detail", "mend", "package"}
    assert checks["mmdebstrap"]["mend"] == "sudo apt-get install mmdebstrap"
    text = arr("doctor", "--quiet").stdout
    assert text.count("LACK") == 3
    assert "ok  " not in text


def test_doctor_starts_nothing_and_finds_what_is_there(arr: Run, bin_folder: Path) -> None:
    program(bin_folder, "buildah", "echo buildah version 1.28.2")
    for name in ("docker-registry", "mmdebstrap", "newuidmap"):
        program(bin_folder, name, "exit 1")
    done = arr("doctor")
    assert done.returncode == 0, done.stdout
    assert "engine: buildah 1.28.2" in done.stdout
    assert calls(bin_folder) == ["buildah --version"] * len(calls(bin_folder))


def test_docker_without_a_daemon_is_told_apart_from_no_docker(arr: Run, bin_folder: Path) -> None:
    program(bin_folder, "docker", 'echo "Cannot connect to the Docker daemon" >&2; exit 1')
    report = json.loads(arr("doctor", "--json").stdout)
    detail = next(c["detail"] for c in report["checks"] if c["name"] == "engine")
    assert "docker: Cannot connect to the Docker daemon" in detail
    assert "buildah: not installed" in detail


def test_mend_without_rights_names_the_command_for_an_administrator(
    bin_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(bin_folder, "apt-get", "")
    program(bin_folder, "sudo", "exit 1")
    monkeypatch.setenv("PATH", str(bin_folder))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    lacking = [Check("a", False, "not installed", "", "aaa"), Check("b", True, "", "", "bbb"),
               Check("c", False, "not installed", "", "ccc")]  # fmt: skip
    with pytest.raises(MissingTool) as caught:
        doctor.install_command(lacking)
    assert "you may not install packages" in caught.value.message
    assert caught.value.hint == "Ask an administrator: sudo apt-get install aaa ccc"
    assert calls(bin_folder) == ["sudo --non-interactive true"]

    program(bin_folder, "sudo", "exit 0")
    assert doctor.install_command(lacking) == [
        "sudo", "apt-get", "install", "--yes", "--no-install-recommends", "aaa", "ccc",
    ]  # fmt: skip
    (bin_folder / "apt-get").unlink()
    with pytest.raises(MissingTool, match="has no apt-get"):
        doctor.install_command(lacking)
    assert doctor.install_command([Check("b", True, "", "", "bbb")]) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="as another user it asks sudo")
def test_mend_installs_what_is_missing_and_looks_again(arr: Run, bin_folder: Path) -> None:
    install = "".join(
        f"printf '#!/bin/sh\\necho buildah version 1.28.2\\n' >{bin_folder}/{name}\n"
        f"/bin/chmod +x {bin_folder}/{name}\n"
        for name in ("buildah", "docker-registry", "mmdebstrap")
    )
    program(bin_folder, "apt-get", f'test "$1" = install || exit 0\n{install}')
    done = arr("doctor", "--mend")
    assert done.returncode == 0, done.stdout + done.stderr
    assert calls(bin_folder) == [
        "apt-get update -qq",
        "apt-get install --yes --no-install-recommends buildah docker-registry mmdebstrap",
    ]
    assert "LACK" not in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="as another user it asks sudo")
def test_an_installation_that_fails_is_told(arr: Run, bin_folder: Path) -> None:
    program(bin_folder, "apt-get", "echo 'E: no network' >&2; exit 100")
    done = arr("doctor", "--mend")
    assert done.returncode == 2
    assert "E: no network" in done.stderr
    assert "apt-get update -qq failed" in done.stderr
    assert "Traceback" not in done.stderr


def test_packages_wanted_besides_without_dpkg(arr: Run) -> None:
    done = arr("doctor", "--also", "skopeo")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "LACK  skopeo: " in done.stdout


def test_a_base_that_is_not_pinned(arr: Run, repository: Repository) -> None:
    repository.commit({"Stack/stack.lock": "version = 1\n"}, keep=True)
    done = arr("doctor")
    assert "LACK  lock: not pinned: python:3.11-slim" in done.stdout
    assert "arr lock --update --target local" in done.stdout
    recipe = STACK.replace('"python3"', '"python3", "git"')
    repository.commit({"Stack/stack.toml": recipe, **{k: FILES[k] for k in ["Stack/stack.lock"]}},
                      keep=True)  # fmt: skip
    assert "is not the one that Stack/stack.lock pins" in arr("doctor").stdout
    assert arr("plan").returncode == 2


def test_lock_update_pins_a_base_that_is_made(arr: Run, repository: Repository) -> None:
    lock = repository.root / "Stack" / "stack.lock"
    before = lock.read_text()
    lock.unlink()
    done = arr("lock", "--update")
    assert done.returncode == 0, done.stderr
    assert lock.read_text() == before
    assert "commit it to use it" in done.stderr
    assert "python:3.11-slim: made from Debian's packages, recipe debian" in done.stdout
    report = json.loads(arr("lock", "--json").stdout)
    assert report["bases"]["python:3.11-slim"]["identity"] == PIN.identity()
