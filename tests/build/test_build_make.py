"""Making one image, with a real buildah and a real registry: the order, and what failures leave."""

from __future__ import annotations

import os
import select
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import repository
import tiny_stack
from tiny_stack import Bench

from arr.build import cascade
from arr.build.buildah import Buildah
from arr.build.docker import Docker
from arr.build.engine import Engine
from arr.errors import BuildError, Interrupted, MissingTool, RegistryError
from arr.events import Event, ImageDone, ImageFailed, ImageLog, ImageStep
from arr.registry import records
from arr.registry.client import Registry
from arr.registry.embedded import Embedded
from arr.registry.labels import BUILT_AT, COMMIT, FINGERPRINT_LABEL, REASON, SECONDS

WAITS = 'RUN echo "waiting as $$"; exec busybox sleep 1000\n'
"""Says the id of its process, which is the host's: chroot isolation shares the process ids."""

NewBench = Callable[..., Bench]


@pytest.fixture
def engine(session_store: Path) -> Buildah:
    return Buildah(session_store)


@pytest.fixture
def new_bench(tmp_path: Path, engine: Buildah, registry: Registry) -> NewBench:
    """Makes a workshop for a stack of one image, whose content no other test has."""

    def make(
        dockerfile: str = "",
        toml: str = "",
        on_event: Callable[[Event], None] = lambda event: None,
        by: Engine = engine,
    ) -> Bench:
        text = f"COPY marker /marker\n{dockerfile}"
        files = tiny_stack.one_image(text, toml, marker=str(tmp_path))
        commit = tiny_stack.commit_of(tmp_path / "clone", files)
        return tiny_stack.bench(commit, by, registry, tmp_path / "bench", on_event)

    return make


def tags(bench: Bench) -> list[str]:
    return bench.shop.registry.tags("solo")


def steps_said(bench: Bench) -> list[str]:
    return [event.step for event in bench.said(ImageStep)]


def outcomes(bench: Bench) -> list[str]:
    return [build.outcome for build in bench.shop.state.builds("solo")]


def failed(bench: Bench) -> ImageFailed:
    (event,) = bench.said(ImageFailed)
    assert isinstance(event, ImageFailed)
    return event


def containers(engine: Buildah) -> list[str]:
    argv = engine._command("containers", "--all", "--quiet")
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


def test_an_image_is_built_then_tested_then_pushed(new_bench):
    bench = new_bench(toml='smoke = ["sh", "-c", "echo the smoke test"]')
    step = bench.step("solo")
    digest = bench.make("solo")
    assert steps_said(bench) == ["context", "build", "smoke", "push"]
    assert tags(bench) == sorted([step.tag, f"{step.tag}.inputs"])
    assert bench.shop.registry.head("solo", step.tag) == digest
    assert bench.shop.registry.config("solo", digest).labels[FINGERPRINT_LABEL] == step.fingerprint
    assert "the smoke test" in [event.line for event in bench.said(ImageLog)]
    assert "the smoke test\n" in bench.log("solo")
    (done,) = bench.said(ImageDone)
    assert (done.image, done.tag, done.digest) == ("solo", step.tag, digest)


def test_what_it_was_built_from_is_kept_beside_it_and_in_the_history(new_bench):
    bench = new_bench()
    step = bench.step("solo")
    digest = bench.make("solo")
    record = records.read(bench.shop.registry, "solo", step.tag)
    assert record.inputs == step.inputs.text
    assert record.fingerprint == step.fingerprint
    assert record.annotations[REASON] == "never built: not in this registry"
    assert record.annotations[COMMIT] == bench.shop.commit.id
    assert float(record.annotations[SECONDS]) > 0
    assert record.annotations[BUILT_AT].endswith("Z")
    (row,) = bench.shop.state.builds("solo")
    assert (row.outcome, row.digest, row.tag) == ("built", digest, step.tag)
    assert (row.fingerprint, row.inputs) == (step.fingerprint, step.inputs.text)
    assert bench.shop.state.label(digest) == step.fingerprint


def test_a_smoke_test_that_fails_keeps_the_tag_from_the_registry(new_bench, engine):
    bench = new_bench(toml='smoke = ["sh", "-c", "echo no CUDA here; exit 7"]')
    with pytest.raises(BuildError, match="its tag was not pushed") as caught:
        bench.make("solo")
    assert "exit code 7" in caught.value.message
    assert "no CUDA here" in "\n".join(failed(bench).tail)
    assert caught.value.hint == "It ran: sh -c echo no CUDA here; exit 7"
    assert caught.value.exit_code == 5
    assert tags(bench) == []
    assert outcomes(bench) == ["failed"]
    assert failed(bench).step == "smoke"
    assert containers(engine) == []
    with pytest.raises(BuildError, match="its tag was not pushed"):
        bench.make("solo")  # that the engine still has the image changes nothing


def test_a_build_that_fails_leaves_its_last_words(new_bench, engine):
    bench = new_bench('RUN busybox seq 1 200; echo "error: no such compiler" >&2; exit 3\n')
    with pytest.raises(BuildError, match=r"buildah build failed \(exit code 3\)") as caught:
        bench.make("solo")
    assert caught.value.exit_code == 5
    event = failed(bench)
    assert (event.image, event.step) == ("solo", "build")
    assert len(event.tail) == 50
    assert "error: no such compiler" in event.tail
    assert event.log == str(bench.shop.logs / "solo.log")
    log = bench.log("solo")
    assert log.startswith("+ buildah ")
    assert "\n1\n2\n3\n" in log
    assert tags(bench) == []
    assert outcomes(bench) == ["failed"]
    assert containers(engine) == [], "a container would stay mounted in the store"


def test_a_fault_of_our_own_is_in_the_log_with_its_place(new_bench):
    class Broken(Buildah):
        def build(self, *_: object) -> str:
            raise TypeError("a fault")

    bench = new_bench(by=Broken())
    with pytest.raises(TypeError):
        bench.make("solo")
    assert "TypeError: a fault" in bench.log("solo")
    assert "test_build_make.py" in bench.log("solo")
    assert failed(bench).tail[-1] == "TypeError: a fault"
    assert outcomes(bench) == ["failed"]


def test_a_failure_is_told_even_if_the_history_cannot_be_written(new_bench):
    bench = new_bench("RUN exit 3\n")
    with sqlite3.connect(bench.shop.state.folder / "state.db") as database:
        database.execute("drop table builds")
    database.close()
    with pytest.raises(BuildError, match="exit code 3"):
        bench.make("solo")
    assert failed(bench).step == "build"


def test_a_child_is_built_from_the_very_parent_it_is_given(tmp_path, buildah, registry):
    """Not from what `:latest` is by now, and not from another image of the parent's name."""

    def commit(word: str) -> Bench:
        images: dict[str, repository.Files] = {
            "solo": {
                "Dockerfile": "FROM scratch\nCOPY Stack/solo/word /word\n",
                ".image-manifest": "Stack/solo/word\n",
                "word": word,
            },
            "child": {
                "Dockerfile": "FROM solo:latest\nCOPY Stack/child/own /own\n",
                ".image-manifest": "Stack/child/own\n",
                "own": "",
            },
        }
        made = tiny_stack.commit_of(tmp_path / word, repository.stack_files(images))
        return tiny_stack.bench(made, buildah, registry, tmp_path / f"bench {word}")

    first, second = commit("first"), commit("second")
    old, new = first.make("solo"), second.make("solo")
    registry.retag("solo", new, "latest")
    layers = [registry.config("solo", digest).layers for digest in (old, new)]
    for bench, parent, under in ((first, old, layers[0]), (second, new, layers[1])):
        child = registry.config("child", bench.make("child", {"solo": parent}))
        assert child.layers[: len(under)] == under


def test_a_registry_that_goes_away_before_the_push(new_bench, embedded):
    def on_event(event: Event) -> None:
        if isinstance(event, ImageStep) and event.step == "push":
            embedded.stop()

    stopping = new_bench("RUN echo built\n", on_event=on_event)
    with pytest.raises(RegistryError) as caught:
        stopping.make("solo")
    assert caught.value.exit_code == 6
    assert failed(stopping).step == "push"
    assert outcomes(stopping) == ["failed"]

    assert embedded.start() == stopping.shop.registry.url
    again = tiny_stack.bench(
        stopping.shop.commit,
        stopping.shop.engine,
        stopping.shop.registry,
        stopping.shop.logs.parent / "again",
    )
    digest = again.make("solo")
    assert tags(again) == sorted([again.step("solo").tag, f"{again.step('solo').tag}.inputs"])
    assert again.shop.registry.head("solo", again.step("solo").tag) == digest
    assert "built" not in again.log("solo"), "the layers were there: nothing ran again"


@pytest.mark.parametrize("by", [Buildah(), Docker()])
def test_the_engines_program_is_gone(new_bench, tmp_path, monkeypatch, by):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").symlink_to("/usr/bin/git")
    bench = new_bench(by=by)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(MissingTool, match=f"{by.name} is not installed"):
        bench.make("solo")
    assert outcomes(bench) == ["failed"]


def waiting_process(event: Event) -> int | None:
    """The process that the image's RUN waits in, once it has said so."""
    if isinstance(event, ImageLog) and event.line.startswith("waiting as "):
        return int(event.line.rpartition(" ")[2])
    return None


@pytest.fixture
def handles() -> Iterator[list[int]]:
    """Handles of processes that must have ended by the end of the test."""
    opened: list[int] = []
    yield opened
    for handle in opened:
        ended = select.select([handle], [], [], 30)[0]
        os.close(handle)
        assert ended, "a process of the build is still there"


def test_an_engine_that_is_killed(new_bench, handles):
    def on_event(event: Event) -> None:
        if pid := waiting_process(event):
            handles.append(os.pidfd_open(pid))
            os.killpg(os.getpgid(pid), signal.SIGKILL)

    bench = new_bench(WAITS, on_event=on_event)
    with pytest.raises(BuildError, match="killed by SIGKILL") as caught:
        bench.make("solo")
    assert caught.value.exit_code == 5
    assert tags(bench) == []
    assert outcomes(bench) == ["failed"]


def test_ctrl_c_ends_the_build_whole_and_changes_nothing(new_bench, handles, engine):
    groups: list[int] = []

    def on_event(event: Event) -> None:
        if pid := waiting_process(event):
            handles.append(os.pidfd_open(pid))
            groups.append(os.getpgid(pid))
            handles.append(os.pidfd_open(groups[0]))
            os.kill(os.getpid(), signal.SIGINT)

    before = containers(engine)
    bench = new_bench(WAITS, on_event=on_event)
    registry = bench.shop.registry
    empty = registry.put_blob("solo", b"{}")
    records.write(registry, "solo", "old", b"old", {})
    latest = registry.retag("solo", "old.inputs", "latest")
    assert empty

    def make(step: object, parents: object) -> str:
        return bench.make("solo")

    with pytest.raises(Interrupted) as caught:
        cascade.carry_out(bench.steps(), make, 1, lambda *_: None, bench.shop.children.stop)
    assert caught.value.exit_code == 130
    assert groups
    assert groups[0] != os.getpgid(0)
    assert registry.head("solo", "latest") == latest
    assert tags(bench) == ["latest", "old.inputs"]
    assert outcomes(bench) == ["interrupted"]
    assert bench.said(ImageFailed) == []
    assert containers(engine) == before


def test_ctrl_c_during_dockers_smoke_test_leaves_no_container(new_bench, docker):
    """Ending docker's client ends no container: it is removed by its name."""

    def on_event(event: Event) -> None:
        if isinstance(event, ImageLog) and event.line == "waiting":
            os.kill(os.getpid(), signal.SIGINT)

    # The first process of a container ignores TERM unless it says otherwise.
    smoke = (
        'smoke = ["sh", "-c", "trap \'\' TERM; echo waiting; while :; do busybox sleep 1000; done"]'
    )
    bench = new_bench(toml=smoke, on_event=on_event, by=docker)
    bench.shop.children._grace = 0.2

    def make(step: object, parents: object) -> str:
        return bench.make("solo")

    with pytest.raises(Interrupted):
        cascade.carry_out(bench.steps(), make, 1, lambda *_: None, bench.shop.children.stop)
    argv = [docker.program, "-H", docker.host, "ps", "--all", "--quiet"]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == ""
    assert tags(bench) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=5m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs the right to mount")
    yield folder
    subprocess.run(["umount", str(folder / "store/root/overlay")], capture_output=True, check=False)
    subprocess.run(["umount", str(folder)], check=True)


def test_the_disk_is_full_while_building(new_bench, small_disk):
    fill = "RUN busybox dd if=/dev/zero of=/big bs=1048576 count=20\n"
    bench = new_bench(fill, by=Buildah(small_disk / "store"))
    with pytest.raises(BuildError) as caught:
        bench.make("solo")
    assert "The disk is full" in caught.value.hint
    assert tags(bench) == []


def test_the_disk_of_the_registry_is_full_while_pushing(new_bench, small_disk, engine):
    embedded = Embedded(small_disk / "registry")
    (small_disk / "filling").write_bytes(bytes(4_300_000))
    url = embedded.start()
    try:
        bench = new_bench("RUN busybox dd if=/dev/urandom of=/big bs=1048576 count=2\n")
        with Registry(url) as registry:
            full = tiny_stack.bench(
                bench.shop.commit, engine, registry, bench.shop.logs.parent / "2"
            )
            with pytest.raises(RegistryError) as caught:
                full.make("solo")
            assert registry.head("solo", full.step("solo").tag) is None
    finally:
        embedded.stop()
    assert caught.value.exit_code == 6
    assert "500 Internal Server Error" in caught.value.message
    assert "a full disk" in caught.value.hint
    assert failed(full).step == "push"


def test_the_disk_is_full_in_our_own_hands(new_bench, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/tmp/context")

    monkeypatch.setattr("arr.stack.context.write_context", full)
    bench = new_bench()
    with pytest.raises(BuildError, match="the disk is full: /tmp/context") as caught:
        bench.make("solo")
    assert "finished images are kept" in caught.value.hint
    assert failed(bench).step == "context"
