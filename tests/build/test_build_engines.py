"""Both engines make the same image of a commit, and nothing of the host gets into it."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import repository
import tiny_stack
from tiny_stack import WHEEL, Bench

from arr.build.buildah import Buildah
from arr.build.docker import Docker
from arr.build.engine import Engine, Remote, auth_file
from arr.registry.auth import Credentials
from arr.registry.client import Registry
from arr.registry.labels import FINGERPRINT_LABEL

CANARY = "canary-of-this-host"
HOST_SETTINGS = {
    "HTTP_PROXY": f"http://{CANARY}.invalid:1",
    "https_proxy": f"http://{CANARY}.invalid:1",
    "ALL_PROXY": f"http://{CANARY}.invalid:1",
    "PIP_INDEX_URL": f"http://user:{CANARY}@index.invalid/",
    "PIP_EXTRA_INDEX_URL": f"http://{CANARY}.invalid/",
    "SSL_CERT_FILE": f"/{CANARY}/ca.crt",
    "REQUESTS_CA_BUNDLE": f"/{CANARY}/ca.crt",
    "WANDB_API_KEY": CANARY,
}


@dataclass
class Built:
    """The small stack in a registry, as one engine made it."""

    bench: Bench
    registry: Registry
    digests: dict[str, str]

    def contents(self, image: str) -> tiny_stack.Contents:
        return tiny_stack.contents(self.registry, image, self.digests[image])


Build = Callable[[Engine, Registry, str], Built]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    """Builds the small stack from a work tree full of other things, on a host full of settings."""
    made = repository.make_repository(tmp_path_factory.mktemp("clone"), tiny_stack.whole_stack())
    tiny_stack.changed_work_tree(made)

    def one(engine: Engine, registry: Registry, name: str) -> Built:
        folder = tmp_path_factory.mktemp(name)
        bench = tiny_stack.bench(repository.git.commit_at(made.root), engine, registry, folder)
        tiny_stack.put_wheels(bench)
        return Built(bench, registry, bench.make_all())

    with pytest.MonkeyPatch.context() as patch:
        for name, value in HOST_SETTINGS.items():
            patch.setenv(name, value)
        yield one


@pytest.fixture(scope="module")
def by_buildah(build: Build, session_store: Path, session_registry: Registry) -> Built:
    return build(Buildah(session_store), session_registry, "by-buildah")


@pytest.fixture(scope="module")
def by_docker(
    build: Build, docker: Docker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Built]:
    from arr.registry.embedded import Embedded

    embedded = Embedded(tmp_path_factory.mktemp("docker-registry"))
    try:
        with Registry(embedded.start()) as registry:
            yield build(docker, registry, "by-docker")
    finally:
        embedded.stop()


@pytest.fixture(params=["by_buildah", "by_docker"])
def built(request: pytest.FixtureRequest) -> Built:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Built)
    return found


@pytest.mark.parametrize("image", tiny_stack.IMAGES)
def test_both_engines_put_the_same_files_into_an_image(by_buildah, by_docker, image):
    assert by_buildah.contents(image).files == by_docker.contents(image).files


@pytest.mark.parametrize("image", tiny_stack.IMAGES)
def test_both_engines_give_an_image_the_same_settings(by_buildah, by_docker, image):
    def settings(built: Built) -> dict[str, object]:
        config = built.contents(image).config
        config.pop("ArgsEscaped", None)  # docker's own note, of no meaning outside Windows
        assert config.pop("WorkingDir", "/") == ("/app" if "child" in image else "/")
        return {name: value for name, value in config.items() if value}

    assert settings(by_buildah) == settings(by_docker)


def test_the_files_are_those_of_the_commit_that_the_ignore_file_lets_through(built):
    files = built.contents("child").files
    base = built.contents("base").files
    own = {path: entry[:4] for path, entry in files.items() if path not in base}
    assert own == {
        "app": ("folder", 0o755, 0, 0),
        "app/code": ("folder", 0o755, 0, 0),
        "app/code/run.sh": ("file", 0o755, 0, 0),
        "app/code/plain.txt": ("file", 0o644, 0, 0),
        "app/code/keep.log": ("file", 0o644, 0, 0),
        "app/code/deep": ("folder", 0o755, 0, 0),
        "app/code/deep/down": ("folder", 0o755, 0, 0),
        "app/code/deep/down/é name.txt": ("file", 0o644, 0, 0),
        "app/code/link": ("link", 0o777, 0, 0),
        "app/shared": ("folder", 0o755, 1000, 1000),
        "app/shared/one.txt": ("file", 0o644, 1000, 1000),
        "app/shared/two.txt": ("file", 0o644, 1000, 1000),
        "app/made": ("folder", 0o700, 1000, 1000),
        "app/made/flavour": ("file", 0o644, 0, 0),
        "app/start": ("link", 0o777, 0, 0),
    }
    committed = built.bench.shop.commit.read(["Stack/child/code/plain.txt"])
    (content,) = committed.values()
    assert content == b"committed\n"
    assert files["app/code/plain.txt"][4] == tiny_stack.hashlib.sha256(content).hexdigest()
    assert set(built.contents("alone").files) == {"kept.txt"}


def test_the_settings_are_those_of_the_dockerfile_and_the_commit(built):
    config = built.contents("child").config
    step = built.bench.step("child")
    assert config["platform"] == "linux/amd64"
    assert config["User"] == "1000:1000"
    assert config["Entrypoint"] == ["/app/start", "--flag"]
    assert config["Cmd"] == ["argument"]
    assert set(config["Env"]) == {"PATH=/bin", "GREETING=hello there", "TASTE=vanilla"}
    assert config["Labels"] == {
        "kind": "child of base",
        "flavour": "vanilla",
        "org.opencontainers.image.title": "child",
        "org.opencontainers.image.source": "local",
        "org.opencontainers.image.revision": built.bench.shop.commit.id,
        "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
        FINGERPRINT_LABEL: step.fingerprint,
    }


def test_nothing_of_the_host_is_in_a_layer_or_in_the_history(built):
    forbidden = {CANARY, str(built.bench.shop.wheels), WHEEL, "tiny.py"}
    for image, digest in built.digests.items():
        raw = json.dumps(built.registry.config(image, digest).raw)
        raw += built.registry.manifest(image, digest).body.decode()
        blobs = [gzip.decompress(b) for b in tiny_stack.layers(built.registry, image, digest)]
        for word in forbidden - ({WHEEL} if image == "grandchild" else set()):
            assert word not in raw, (image, word)
            assert not any(word.encode() in blob for blob in blobs), (image, word)


def test_the_wheels_leave_no_trace_in_the_image(built):
    """Its Dockerfile has seen them: see GRANDCHILD. Its own text names one of them."""
    assert built.contents("grandchild").files == built.contents("child").files
    (blob, *_rest) = reversed(
        tiny_stack.layers(built.registry, "grandchild", built.digests["grandchild"])
    )
    with tarfile.open(fileobj=io.BytesIO(blob)) as layer:
        assert not any(member.isfile() for member in layer)


def test_where_the_registry_is_does_not_enter_an_image_of_buildah(by_buildah):
    for image, digest in by_buildah.digests.items():
        told = by_buildah.registry.manifest(image, digest).body
        told += json.dumps(by_buildah.registry.config(image, digest).raw).encode()
        assert by_buildah.registry.prefix.encode() not in told


def test_another_clone_store_registry_and_umask_give_the_same_digests_by_buildah(
    by_buildah, build, tmp_path, buildah, registry
):
    made = repository.make_repository(tmp_path / "other clone", tiny_stack.whole_stack())
    bench = tiny_stack.bench(
        repository.git.commit_at(made.root), buildah, registry, tmp_path / "bench"
    )
    tiny_stack.put_wheels(bench)
    before = os.umask(0o077)
    try:
        digests = bench.make_all()
    finally:
        os.umask(before)
    assert digests == by_buildah.digests


def test_credentials_are_in_a_file_of_this_user_and_on_no_command_line(tmp_path):
    remote = Remote("host.invalid/team", False, Credentials("me", "secret-word"))
    path = auth_file(remote, tmp_path / "deep" / "auth.json")
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text()) == {
        "auths": {"host.invalid": {"auth": "bWU6c2VjcmV0LXdvcmQ="}}
    }


def test_buildah_leaves_no_container_and_no_mount_behind(by_buildah, session_store):
    engine = by_buildah.bench.shop.engine
    assert isinstance(engine, Buildah)
    assert containers(engine) == []


def containers(engine: Buildah) -> list[str]:
    argv = engine._command("containers", "--all", "--quiet")
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
