"""Bad input at the command line: what is wrong, where, what to do, the right exit code."""

from __future__ import annotations

import gc
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_registry import FakeRegistry, Reply, manifest_reply, refusal
from repository import Repository, make_repository
from scratch_stack import SCRATCH, Done
from small_stack import CLI, Clone

Arr = Callable[..., Done]


def refused(done: Done, code: int, *words: str) -> None:
    """It ended with that code, said all of the words as an error, and nothing as an answer."""
    assert done.code == code, done
    assert done.out == ""
    for text in words:
        assert text in done.err
    assert done.err.startswith(("error: ", "Usage: "))


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    server = FakeRegistry()
    yield server
    server.close()


def tag_of(arr: Arr, repository: Repository) -> str:
    tag: str = json.loads(arr(repository, "plan", "--json").out)["images"][0]["tag"]
    return tag


@pytest.mark.parametrize("args", [("plan",), ("launch",), ("runs",), ("doctor",), ("lock",),
    ("logs", "last"), ("cancel", "last"), ("registry", "stop"), ("images",),
], ids=" ".join)  # fmt: skip
def test_not_a_repository(arr: Arr, tmp_path: Path, args: tuple[str, ...]) -> None:
    refused(arr(tmp_path, *args), 2, "is not inside a git repository", "git init")


@pytest.mark.parametrize("args", [("plan",), ("launch",), ("manifest", "check"), ("lock",)],
                         ids=" ".join)  # fmt: skip
def test_no_commit_and_no_stack(arr: Arr, tmp_path: Path, args: tuple[str, ...]) -> None:
    empty = make_repository(tmp_path / "empty")
    refused(arr(empty, *args), 2, "has no commit yet", "git commit")
    other = make_repository(tmp_path / "other", {"file": "x"}, checkout=True)
    refused(arr(other, *args), 2, "there is no committed file Stack/stack.toml")


@pytest.mark.parametrize(("toml", "words"), [
    ("[engin]\nname = 'docker'\n", ["unknown key engin", "Did you mean engine.name?"]),
    ("[engine]\nnme = 'docker'\n", ["unknown key engine.nme", "Did you mean engine.name?"]),
    ("[engine]\nname = 'podman'\n", ["engine.name", "podman"]),
    ("[build]\njobs = 0\n", ["build.jobs", ">= 1"]),
    ("target = 3\n", ["target", "str"]),
    ("target = \n", ["is not valid TOML", "line 1"]),
    ("engine = 'docker'\n", ["in engine"]),
])  # fmt: skip
def test_arr_toml(arr: Arr, repository: Repository, toml: str, words: list[str]) -> None:
    (repository.root / "arr.toml").write_text(toml)
    refused(arr(repository, "plan"), 2, "arr.toml", *words)


@pytest.mark.parametrize(("name", "value"), [
    ("ARR_BUILD_JOBS", "many"), ("ARR_BUILD_JOBS", "0"), ("ARR_ENGINE_NAME", "podman"),
    ("ARR_RUN_GPUS", "-1"), ("ARR_TARGET", "moon"),
])  # fmt: skip
def test_variables(arr: Arr, repository: Repository, name: str, value: str) -> None:
    refused(arr(repository, "plan", **{name: value}), 2, f"{name}={value}")


@pytest.mark.parametrize(("args", "words"), [
    (("pln",), "there is no command 'pln'. Did you mean plan?"),
    (("why",), "Missing argument 'IMAGE'"),
    (("plan", "--jsn"), "No such option '--jsn'"),
    (("launch", "--set", "steps"), "--set steps: this is not key=value"),
    (("launch", "--set", "=3"), "--set =3: this is not key=value"),
    (("build", "--jobs", "none"), "--build.jobs=none"),
    (("build", "--jobs", "0"), "--build.jobs=0"),
    (("plan", "--target", "moon"), "moon"),
    (("logs", "nothing"), "there is no run nothing"),
    (("logs", "last", "-f"), "there is no run last"),
    (("cancel", "last"), "there is no run last"),
    (("why", "one", "--against", "../x"), "neither a tag nor a sha256 digest"),
    (("launch", "--target", "gcp"), "launches on the target local only"),
])  # fmt: skip
def test_arguments(arr: Arr, repository: Repository, args: tuple[str, ...], words: str) -> None:
    if "--against" in args:
        arr(repository, "registry", "start")
    try:
        refused(arr(repository, *args), 2, words)
    finally:
        arr(repository, "registry", "stop")


def test_the_history_is_damaged_newer_or_in_the_way(arr: Arr, repository: Repository) -> None:
    folder = repository.root / ".arr"
    assert arr(repository, "runs").code == 0
    gc.collect()  # a command's process ends, and its connection with it; here it is this process
    (folder / "state.db").write_bytes(b"this is no database, " * 100)
    for name in ("state.db-wal", "state.db-shm"):
        (folder / name).unlink(missing_ok=True)
    for args in (("plan",), ("runs",), ("logs", "last"), ("images", "history", "one")):
        refused(arr(repository, *args), 1, "state.db cannot be used", "only history is lost")
    (folder / "state.db").unlink()
    with sqlite3.connect(folder / "state.db") as db:
        db.execute("pragma user_version = 99")
    db.close()
    refused(arr(repository, "runs"), 1, "written by a newer arr (version 99)", "Upgrade arr")


@pytest.mark.parametrize("where", [".arr", ".arr/launch.lock", ".arr/logs", ".arr/runs"])
def test_a_folder_that_cannot_be_used(clone: Clone, where: str) -> None:
    path = clone.root / where
    path.parent.mkdir(exist_ok=True)
    if where.endswith("lock"):
        path.mkdir()
    else:
        path.write_text("in the way")
    done = clone.arr("launch", expect=None)
    assert done.returncode in (1, 2, 7)
    assert "error: " in done.stderr
    assert where in done.stderr
    assert "succeeded" not in done.stdout


@pytest.mark.parametrize(("reply", "code", "words"), [
    (refusal(401, "UNAUTHORIZED", "who are you"), 3, ["401", "docker login"]),
    (refusal(403, "DENIED"), 3, ["403"]),
    (Reply(429, headers={"Retry-After": "3600"}), 6, ["429", "wait a while"]),
    (Reply(500), 6, ["500", "the registry is in trouble", "Nothing was built"]),
    (Reply(503, b"<html>", {"Content-Type": "text/html"}), 6, ["503", "a proxy or a login page"]),
    (Reply(200, b"<html>", {"Content-Type": "text/html"}), 6, ["text/html"]),
    (manifest_reply({"schemaVersion": 2}), 6, ["Nothing was built"]),
])  # fmt: skip
def test_a_registry_that_refuses(
    arr: Arr, repository: Repository, fake: FakeRegistry, reply: Reply, code: int, words: list[str]
) -> None:
    tag = tag_of(arr, repository)
    for method in ("HEAD", "GET"):
        fake.on(method, f"/v2/one/manifests/{tag}", reply)
    for args in (("plan",), ("plan", "--json"), ("build",), ("launch", "--dry-run")):
        done = arr(repository, *args, ARR_REGISTRY_URL=fake.url, ARR_RUN_IMAGE="one")
        refused(done, code, f"{fake.url}/v2/one/manifests/", *words)


def test_a_registry_that_is_down(arr: Arr, repository: Repository) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        refused(arr(repository, "plan", ARR_REGISTRY_URL=url), 6, url, "Nothing was built")
        refused(arr(repository, "images"), 6, url)
        refused(arr(repository, "why", "one"), 6, url)
        refused(arr(repository, "launch", ARR_RUN_IMAGE="one"), 6, url, "Nothing was built")
    refused(arr(repository, "plan", ARR_REGISTRY_URL="localhost:5000"), 2, "localhost:5000")


def test_a_record_that_cannot_be_read_stops_no_plan(
    arr: Arr, repository: Repository, fake: FakeRegistry
) -> None:
    tag = tag_of(arr, repository)
    fake.on("HEAD", f"/v2/one/manifests/{tag}", refusal(404, "MANIFEST_UNKNOWN"))
    for method in ("HEAD", "GET"):
        fake.on(method, "/v2/one/manifests/latest", manifest_reply({"schemaVersion": 2}))
    done = arr(repository, "plan", "--json", ARR_REGISTRY_URL=fake.url)
    assert done.code == 10
    (row,) = json.loads(done.out)["images"]
    assert "what it was last built from cannot be read" in row["reason"]


def test_history_with_a_foreign_record(
    arr: Arr, repository: Repository, fake: FakeRegistry
) -> None:
    body = json.dumps({"tags": ["1234567", "1234567.inputs"]}).encode()
    fake.on("GET", "/v2/one/tags/list", Reply(200, body, {"Content-Type": "application/json"}))
    kind = "application/vnd.oci.image.manifest.v1+json"
    foreign = manifest_reply({"schemaVersion": 2, "artifactType": "text/plain", "mediaType": kind})
    fake.on("GET", "/v2/one/manifests/1234567.inputs", foreign)
    refused(arr(repository, "images", "history", "one", ARR_REGISTRY_URL=fake.url), 6,
            "not a record of inputs")  # fmt: skip


def closed_pipe(root: Path, home: Path, *args: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose reader is gone before it prints."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            [sys.executable, str(CLI), *args], cwd=root, stdout=writing, stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": str(home)}, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)


@pytest.mark.parametrize("args", [("plan",), ("plan", "--json"), ("images",), ("doctor",),
    ("launch", "--dry-run"), ("launch", "--dry-run", "--progress", "json"),
], ids=" ".join)  # fmt: skip
def test_a_reader_that_is_gone_is_no_error(
    repository: Repository, tmp_path: Path, args: tuple[str, ...]
) -> None:
    (repository.root / "arr.toml").write_text("[run]\nimage = 'one'\n")
    done = closed_pipe(repository.root, tmp_path, *args)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_launch_goes_on_when_its_reader_is_gone(built: Clone) -> None:
    process = built.start("launch", "--set", "mode=fail")
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (3, "")
    assert built.json("runs")["runs"][0]["exit_code"] == 3


def test_names_that_are_not_utf8_in_the_manifest(arr: Arr, tmp_path: Path) -> None:
    name = b"caf\xe9 \n.txt".decode("utf-8", "surrogateescape")
    files = {**SCRATCH, f"Stack/one/{name}": "x", "Stack/one/.image-manifest": "Stack/one/*\n",
             "Stack/one/Dockerfile": "FROM scratch\nCOPY Stack/one /\n"}  # fmt: skip
    odd = make_repository(tmp_path / "odd", files, checkout=True)
    shown = arr(odd, "manifest", "show", "one")
    assert (shown.code, "caf\\xe9 \\n.txt" in shown.out) == (0, True)
    json.loads(arr(odd, "manifest", "show", "one", "--json").out)
    (odd.root / "Stack" / "one" / name).write_text("edited")
    assert "caf\\xe9 \\n.txt (uncommitted)" in arr(odd, "plan").out
    done = subprocess.run(
        [sys.executable, str(CLI), "plan"], cwd=odd.root, capture_output=True, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (10, b"")


def test_from_a_subfolder_with_a_space(arr: Arr, tmp_path: Path) -> None:
    spaced = make_repository(tmp_path / "a folder", SCRATCH, checkout=True)
    (spaced.root / "sub folder").mkdir()
    done = arr(spaced.root / "sub folder", "plan", "--json")
    assert (done.code, len(json.loads(done.out)["images"])) == (10, 1)
    assert not (spaced.root / "sub folder" / ".arr").exists()
