"""Real engines and a real registry, started once and ended by their own process ids."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from arr.build import find
from arr.build.buildah import Buildah
from arr.build.docker import Docker
from arr.registry.client import Registry
from arr.registry.embedded import Embedded
from arr.registry.retry import Retry


def client(url: str) -> Registry:
    """A client that gives up at once, so that no test waits."""
    return Registry(url, retry=Retry(attempts=1))


@pytest.fixture(scope="session")
def registry_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    embedded = Embedded(tmp_path_factory.mktemp("registry"))
    yield embedded.start()
    assert embedded.stop()


@pytest.fixture(scope="session")
def session_registry(registry_url: str) -> Iterator[Registry]:
    with client(registry_url) as one:
        yield one


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Embedded]:
    """A registry of the test's own, not started."""
    one = Embedded(tmp_path / "registry")
    yield one
    one.stop()


@pytest.fixture
def registry(embedded: Embedded) -> Iterator[Registry]:
    with client(embedded.start()) as one:
        yield one


def clear(store: Path) -> None:
    """Remove a store: containers of builds that were killed, buildah's own mount, the folder."""
    remove = [*Buildah(store)._command("rm"), "--all"]
    for argv in (remove, ["umount", str(store / "root" / "overlay")]):
        subprocess.run(argv, capture_output=True, check=False)
    shutil.rmtree(store, ignore_errors=True)


@pytest.fixture(scope="session")
def session_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    store = tmp_path_factory.mktemp("store")
    yield store
    clear(store)


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[Buildah]:
    """The engine on an empty store."""
    yield Buildah(tmp_path / "store")
    clear(tmp_path / "store")


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """The engine on a daemon of its own, which touches no network of the machine."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("a docker daemon needs root and the package docker.io")
    folder = tmp_path_factory.mktemp("docker")
    host = f"unix://{folder}/docker.sock"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
        (folder / "log").open("wb") as log,
    ):
        ready.bind(str(folder / "ready"))
        ready.settimeout(60)
        daemon = subprocess.Popen(
            ["dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec",
             "-H", host, "-p", folder / "pid", "--bridge", "none", "--iptables=false",
             "--ip-masq=false"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "NOTIFY_SOCKET": str(folder / "ready")},
        )  # fmt: skip
        try:
            while b"READY=1" not in ready.recv(1000):
                pass
            with mock.patch.dict(os.environ, {"DOCKER_HOST": host}):
                found = find.probe_docker()
            assert not found.problem, found.problem
            yield Docker(found.program, host)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()
