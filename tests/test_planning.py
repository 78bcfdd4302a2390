"""Making a plan against a registry: what is asked of it, and what each answer means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_registry import FakeRegistry, Reply, as_json, digest, manifest_reply, refusal
from repository import Files, Repository, make_repository, stack_files

from arr.config import RegistrySettings, Settings
from arr.errors import ArrError, AuthError, ConfigError, RegistryError
from arr.planning import Plan, make_plan, open_registry
from arr.project import Project, open_project
from arr.registry.client import Registry

OCI = "application/vnd.oci.image.manifest.v1+json"


def image_files(start: str) -> Files:
    return {"Dockerfile": f"{start}\nCOPY Stack/x /\n", ".image-manifest": "Stack/x\n"}


FILES = {
    **stack_files({"child": image_files("FROM parent"), "parent": image_files("FROM scratch")}),
    "Stack/x": "x\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "repository", FILES, checkout=True)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    server = FakeRegistry()
    yield server
    server.close()


def planned(repository: Repository, fake: FakeRegistry, images: tuple[str, ...] = ()) -> Plan:
    project = Project(repository.root, Settings(), {})
    with Registry(fake.url, sleep=lambda seconds: None) as registry:
        return make_plan(project, registry, images)


def tags(repository: Repository) -> dict[str, tuple[str, str]]:
    inputs = Project(repository.root, Settings(), {}).inputs
    return {name: (each.tag, each.fingerprint) for name, each in inputs.items()}


def put(fake: FakeRegistry, repository: str, tag: str, labels: dict[str, str]) -> str:
    """Let the fake have an image with these labels; return its digest."""
    config = as_json({"architecture": "amd64", "os": "linux", "config": {"Labels": labels},
                      "rootfs": {"type": "layers", "diff_ids": []}})  # fmt: skip
    fake.on("GET", f"/v2/{repository}/blobs/{digest(config.body)}", config)
    size = {"digest": digest(config.body), "size": len(config.body)}
    kind = "application/vnd.oci.image.config.v1+json"
    reply = manifest_reply({"schemaVersion": 2, "mediaType": OCI, "layers": [],
                            "config": {"mediaType": kind, **size}})  # fmt: skip
    for method in ("HEAD", "GET"):
        for reference in (tag, digest(reply.body)):
            fake.on(method, f"/v2/{repository}/manifests/{reference}", reply)
    return digest(reply.body)


def absent(fake: FakeRegistry, repository: str, *references: str) -> None:
    for reference in references:
        fake.on("HEAD", f"/v2/{repository}/manifests/{reference}", refusal(404, "MANIFEST_UNKNOWN"))


def test_present_is_reused_and_its_label_is_asked_for_once(
    repository: Repository, fake: FakeRegistry
) -> None:
    tag, fingerprint = tags(repository)["parent"]
    put(fake, "parent", tag, {"org.arr.fingerprint": fingerprint})
    absent(fake, "child", tags(repository)["child"][0], "latest")
    for _ in range(2):
        parent, child = planned(repository, fake).steps
        assert (parent.action.value, parent.reason) == ("reuse", "unchanged")
        assert child.reason == "never built: not in this registry"
    assert len([one for one in fake.requests if "/blobs/" in one.path]) == 1


def test_only_the_images_asked_for_and_their_ancestors_are_looked_up(
    repository: Repository, fake: FakeRegistry
) -> None:
    absent(fake, "parent", tags(repository)["parent"][0], "latest")
    assert [step.image for step in planned(repository, fake, ("parent",)).steps] == ["parent"]
    assert not any("child" in one.path for one in fake.requests)
    with pytest.raises(ConfigError, match="Did you mean child"):
        planned(repository, fake, ("chld",))


@pytest.mark.parametrize("labels", [{}, {"org.arr.fingerprint": "0" * 64}])
def test_a_tag_with_other_content_is_an_error_with_its_fix(
    repository: Repository, fake: FakeRegistry, labels: dict[str, str]
) -> None:
    found = tags(repository)
    put(fake, "parent", found["parent"][0], labels)
    absent(fake, "child", found["child"][0], "latest")
    with pytest.raises(RegistryError, match="is taken") as caught:
        planned(repository, fake)
    assert found["parent"][1] in caught.value.message
    assert "Delete that tag" in caught.value.hint


def test_what_cannot_be_told_is_neither_present_nor_absent(
    repository: Repository, fake: FakeRegistry
) -> None:
    found = tags(repository)
    absent(fake, "child", found["child"][0], "latest")
    fake.on("HEAD", f"/v2/parent/manifests/{found['parent'][0]}", Reply(500))
    with pytest.raises(RegistryError, match="could not tell") as caught:
        planned(repository, fake)
    assert "/v2/parent/manifests/" in caught.value.message
    assert "500" in caught.value.message
    assert "child" not in caught.value.message


def test_refused_credentials_are_no_missing_image(
    repository: Repository, fake: FakeRegistry
) -> None:
    for name, (tag, _) in tags(repository).items():
        fake.on("HEAD", f"/v2/{name}/manifests/{tag}", refusal(401, "UNAUTHORIZED"))
    with pytest.raises(AuthError):
        planned(repository, fake)


def test_a_reason_that_cannot_be_read_is_said_and_stops_nothing(
    repository: Repository, fake: FakeRegistry
) -> None:
    found = tags(repository)
    absent(fake, "parent", found["parent"][0])
    fake.on("HEAD", "/v2/parent/manifests/latest", Reply(500))
    parent = planned(repository, fake, ("parent",)).steps[0]
    assert parent.action.value == "build"
    assert parent.reason.startswith(
        "not in this registry; what it was last built from cannot be read: HEAD http"
    )
    assert "\n" not in parent.reason


def test_a_private_registry_is_asked_with_the_users_credentials(
    repository: Repository, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: object) -> Reply:
        headers = getattr(request, "headers")  # noqa: B009
        if "authorization" not in headers:
            return refusal(401, "UNAUTHORIZED", **{"WWW-Authenticate": 'Basic realm="r"'})
        return Reply(200)

    from arr import doctor

    fake.on("GET", "/v2/", answer)
    settings = Settings(registry=RegistrySettings(url=fake.url))
    environ = {"ARR_REGISTRY_USERNAME": "me", "ARR_REGISTRY_PASSWORD": "secret"}
    checks = {c.name: c for c in doctor.checks(Project(repository.root, settings, environ))}
    assert checks["registry"].ok, checks["registry"].detail
    without = {c.name: c for c in doctor.checks(Project(repository.root, settings, {}))}
    assert not without["registry"].ok
    assert "401" in without["registry"].detail


def test_the_target_gcp_needs_a_registry(repository: Repository) -> None:
    project = Project(repository.root, Settings(target="gcp"), {})
    with pytest.raises(ConfigError, match="has no registry"), open_registry(project, start=False):
        pass


def test_an_embedded_registry_that_holds_nothing_is_not_started(repository: Repository) -> None:
    project = Project(repository.root, Settings(), {})
    with open_registry(project, start=False) as registry:
        assert registry is None
    assert not project.arr_folder.exists()


@pytest.mark.parametrize(("url", "source"), [
    ("https://user:secret@example.org/a/b.git", "https://example.org/a/b.git"),
    ("git@example.org:a/b.git", "git@example.org:a/b.git"),
    ("/home/someone/b", "local"), ("file:///home/someone/b", "local"), (None, "local"),
])  # fmt: skip
def test_the_source_of_an_image_holds_no_secret(
    repository: Repository, url: str | None, source: str
) -> None:
    if url:
        repository.git("remote", "add", "origin", url)
    assert Project(repository.root, Settings(), {}).source_url() == source


def test_opening_a_project_from_below(repository: Repository) -> None:
    assert open_project({}, repository.root / "Stack" / "child").root == repository.root
    with pytest.raises(ArrError, match="not inside a git repository"):
        open_project({}, repository.root.parent)
