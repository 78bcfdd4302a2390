"""Bases: found by docker's own rules, or made once and kept. A fake mmdebstrap packs a folder."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from arr.build import base
from arr.build.engine import Remote, Source, Work
from arr.errors import BuildError, MissingTool, RegistryError
from arr.process import Children
from arr.registry.client import Registry
from arr.stack import lock
from arr.stack.lock import Pin
from arr.stack.stackfile import Recipe

RECIPE = Recipe(
    suite="bookworm", packages=["python3"], env={"LANG": "C.UTF-8"}, command=["python3"]
)
PIN = Pin(recipe="debian", recipe_hash=lock.recipe_hash(RECIPE))
REFERENCE = "python:3.11-slim"

# The archive is the argument that ends in .tar; the names are sorted and the times are fixed.
MMDEBSTRAP = """
for word; do case $word in *.tar) archive=$word ;; esac; done
echo "I: making $archive"
tar --create --file "$archive" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 \\
    --numeric-owner --directory {folder} .
"""


@pytest.mark.parametrize(
    ("reference", "place"),
    [
        ("python:3.11-slim", ("https://registry-1.docker.io", "library/python", "3.11-slim")),
        ("python", ("https://registry-1.docker.io", "library/python", "latest")),
        ("nvidia/cuda:12.6.3", ("https://registry-1.docker.io", "nvidia/cuda", "12.6.3")),
        ("a/b", ("https://registry-1.docker.io", "a/b", "latest")),
        ("docker.io/python:3", ("https://registry-1.docker.io", "library/python", "3")),
        ("docker.io/nvidia/cuda", ("https://registry-1.docker.io", "nvidia/cuda", "latest")),
        ("ghcr.io/a/b:c", ("https://ghcr.io", "a/b", "c")),
        ("ghcr.io/a/b", ("https://ghcr.io", "a/b", "latest")),
        ("quay.io/x", ("https://quay.io", "x", "latest")),
        ("host:5000/x:y", ("https://host:5000", "x", "y")),
        ("host:5000/x", ("https://host:5000", "x", "latest")),
        ("localhost/x", ("http://localhost", "x", "latest")),
        ("localhost:5000/x", ("http://localhost:5000", "x", "latest")),
        ("127.0.0.1:5000/x/y:z", ("http://127.0.0.1:5000", "x/y", "z")),
    ],
)
def test_a_reference_is_where_docker_looks_for_it(reference, place):
    assert base.locate(reference) == place


@pytest.mark.parametrize(
    ("reference", "kept"),
    [
        ("python:3.11-slim", ("bases/python", "3.11-slim-")),
        ("python", ("bases/python", "latest-")),
        ("ghcr.io/a/b:c", ("bases/ghcr.io/a/b", "c-")),
    ],
)
def test_where_a_made_base_is_kept(reference, kept):
    repository, tag = base.repository_and_tag(reference, PIN)
    assert (repository, tag[:-7]) == kept
    assert str(PIN.recipe_hash).endswith(tag[-7:])


@pytest.fixture
def work(tmp_path: Path) -> Work:
    (tmp_path / "scratch").mkdir()
    return Work(Children(), tmp_path / "log", lambda line: None, tmp_path / "scratch")


@pytest.fixture
def mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the fake packs."""
    folder = tmp_path / "system"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc" / "hostname").write_text("localhost\n")
    program(tmp_path, monkeypatch, MMDEBSTRAP.format(folder=folder))
    return folder


def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = tmp_path / "bin" / "mmdebstrap"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")


def obtain(registry: Registry, work: Work, pin: Pin = PIN) -> Source:
    remote = Remote(registry.prefix, registry.insecure)
    return base.obtain(REFERENCE, pin, RECIPE, registry, remote, work)


def test_a_base_is_made_and_kept_as_an_image(registry, work, mmdebstrap):
    source = obtain(registry, work)
    repository, tag = base.repository_and_tag(REFERENCE, PIN)
    digest = registry.head(repository, tag)
    config = registry.config(repository, digest)
    assert source == Source(
        f"{registry.prefix}/{repository}@{digest}",
        f"localhost/{repository}:{tag}",
        config.digest,
        Remote(registry.prefix, True),
    )
    assert config.labels == {base.RECIPE_LABEL: PIN.recipe_hash}
    assert "LANG=C.UTF-8" in config.raw["config"]["Env"]
    assert any(line.startswith("PATH=/usr/local/sbin:") for line in config.raw["config"]["Env"])
    assert config.raw["config"]["Cmd"] == ["python3"]
    (layer,) = config.layers
    with tarfile.open(
        fileobj=io.BytesIO(gzip.decompress(registry.blob(repository, layer.digest)))
    ) as tar:
        assert sorted(tar.getnames()) == [".", "./etc", "./etc/hostname"]
    assert list(work.scratch.glob("base*")) == [], "nothing big is left lying about"


def test_the_programs_arguments_are_the_recipes(registry, work, mmdebstrap):
    obtain(registry, work)
    (command, *_) = work.log.read_text().splitlines()
    assert "--include=usr-is-merged,python3" in command
    assert " bookworm " in command


def test_a_base_that_is_there_is_not_made_again(registry, work, mmdebstrap):
    first = obtain(registry, work)
    log = work.log.read_text()
    assert obtain(registry, work) == first
    assert work.log.read_text() == log


def test_a_base_of_another_recipe_is_not_used(registry, work, mmdebstrap):
    first = obtain(registry, work)
    repository, tag = base.repository_and_tag(REFERENCE, PIN)
    other = Pin(recipe="debian", recipe_hash=f"{'0' * 57}{str(PIN.recipe_hash)[-7:]}")
    with pytest.raises(BuildError, match="another recipe than the lock pins") as caught:
        obtain(registry, work, other)
    assert f"{repository}:{tag}" in caught.value.message
    assert "Remove that tag" in caught.value.hint
    assert registry.head(repository, tag) == first.reference.partition("@")[2]


def test_a_base_is_the_same_to_the_byte_in_another_registry(
    registry, work, mmdebstrap, session_registry
):
    one, other = obtain(registry, work), obtain(session_registry, work)
    assert one.reference.partition("@")[2] == other.reference.partition("@")[2]
    assert one.local_name == other.local_name


def test_a_base_that_cannot_be_made(registry, work, tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, "echo 'E: apt-get update failed' >&2; exit 25")
    with pytest.raises(BuildError, match=r"exit code 25.*E: apt-get update failed"):
        obtain(registry, work)
    repository, tag = base.repository_and_tag(REFERENCE, PIN)
    assert registry.head(repository, tag) is None


def test_mmdebstrap_is_not_installed(registry, work, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="mmdebstrap") as caught:
        obtain(registry, work)
    assert caught.value.hint == "sudo apt-get install mmdebstrap"


def test_a_base_is_pulled_by_its_digest(registry, work, mmdebstrap):
    """Here from a registry of this machine, as from any other."""
    made = obtain(registry, work)
    digest = made.reference.partition("@")[2]
    repository, tag = base.repository_and_tag(REFERENCE, PIN)
    reference = f"{registry.prefix}/{repository}:{tag}"
    assert base.pull_digest(reference) == digest
    source = base.obtain(
        reference, Pin(digest=digest), None, registry, Remote("elsewhere.invalid", False), work
    )
    assert source.reference == made.reference
    assert source.config_digest == made.config_digest
    assert source.remote == Remote(registry.prefix, True)


def test_a_base_that_its_registry_does_not_have(registry, work):
    gone = Pin(digest="sha256:" + "0" * 64)
    with pytest.raises(RegistryError):
        base.obtain(f"{registry.prefix}/x:1", gone, None, registry, Remote("r", True), work)
