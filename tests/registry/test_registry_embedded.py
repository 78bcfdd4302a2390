"""The embedded registry: one process a folder, the same port again, and no other process harmed."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from arr.errors import ConfigError, MissingTool, RegistryError
from arr.registry.client import Registry
from arr.registry.embedded import Embedded
from arr.registry.process_identity import ProcessIdentity, command_line, end, identify


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Embedded]:
    one = Embedded(tmp_path / ".arr" / "registry")
    yield one
    one.stop()
    for pid in processes_of(one):  # only after a test that failed
        if (left := identify(pid)) is not None:
            end(left, lambda _: True, 1.0)


@pytest.fixture
def bystander() -> Iterator[int]:
    """Another program's process, which is to be alive at the end."""
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        yield process.pid
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.close()


def record(embedded: Embedded) -> dict[str, object]:
    content = json.loads((embedded.folder / "process.json").read_text())
    assert isinstance(content, dict)
    return content


def processes_of(embedded: Embedded) -> list[int]:
    config = str(embedded.folder.resolve() / "config.yml")
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if config in command_line(pid)]


def fake_program(folder: Path, script: str) -> dict[str, str]:
    folder.mkdir()
    path = folder / "docker-registry"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": str(folder)}


def test_it_starts_once_and_stops_once(embedded):
    assert embedded.find() is None
    assert embedded.stop() is False
    url = embedded.start()
    assert url.startswith("http://127.0.0.1:")
    assert embedded.start() == url
    assert embedded.find() == url
    assert Embedded(embedded.folder).find() == url
    assert len(processes_of(embedded)) == 1
    assert embedded.stop() is True
    assert processes_of(embedded) == []
    assert embedded.stop() is False
    assert embedded.find() is None


def test_it_comes_back_on_its_port_with_its_images(embedded):
    url = embedded.start()
    with Registry(url) as registry:
        digest = registry.put_blob("app", b"data")
    embedded.stop()
    assert embedded.start() == url
    with Registry(url) as registry:
        assert registry.blob("app", digest) == b"data"


def test_threads_that_start_it_at_once_start_one(embedded):
    with ThreadPoolExecutor(4) as pool:
        urls = list(pool.map(lambda _: Embedded(embedded.folder).start(), range(4)))
    assert len(set(urls)) == 1
    assert len(processes_of(embedded)) == 1


def test_processes_that_start_it_at_once_start_one(embedded):
    code = (
        "import sys; from pathlib import Path; from arr.registry.embedded import Embedded;"
        "print(Embedded(Path(sys.argv[1])).start())"
    )
    command = [sys.executable, "-c", code, str(embedded.folder)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    urls = [process.communicate()[0].strip() for process in running]
    assert urls == [embedded.find()] * 2
    assert len(processes_of(embedded)) == 1


def test_it_is_out_of_reach_of_ctrl_c(embedded):
    embedded.start()
    pid = record(embedded)["pid"]
    assert os.getsid(pid) != os.getsid(0)
    assert os.getpgid(pid) != os.getpgid(0)


def test_a_number_that_now_belongs_to_another_process(embedded, bystander):
    """A stale record: what it names is neither taken for the registry nor ended."""
    url = embedded.start()
    stale = record(embedded)
    embedded.stop()
    other = identify(bystander)
    assert other is not None
    stale |= {"pid": bystander, "started": other.started}
    (embedded.folder / "process.json").write_text(json.dumps(stale))
    assert embedded.find() is None
    assert embedded.stop() is False
    (embedded.folder / "process.json").write_text(json.dumps(stale))
    assert embedded.start() == url


def test_a_later_process_with_the_same_number_is_not_ended(embedded):
    """Even the same program: its start is not the one that was written down."""
    embedded.start()
    true = record(embedded)
    false = true | {"started": int(str(true["started"])) - 1}
    (embedded.folder / "process.json").write_text(json.dumps(false))
    assert embedded.find() is None
    assert embedded.stop() is False
    assert processes_of(embedded) == [true["pid"]]
    (embedded.folder / "process.json").write_text(json.dumps(true))


def test_only_the_very_process_is_ended(bystander):
    it = identify(bystander)
    assert it is not None
    earlier = ProcessIdentity(it.pid, it.started - 1)
    assert end(earlier, lambda _: True, 0.0) is False
    assert end(it, lambda _: False, 0.0) is False


def test_a_process_that_ignores_term_is_killed():
    code = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        it = identify(process.pid)
        assert it is not None
        assert end(it, lambda _: True, 0.05) is True
        assert identify(process.pid) is None  # ended, though nobody has waited for it yet
        assert end(it, lambda _: True, 0.05) is False
        assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}'])
def test_a_record_that_cannot_be_read(embedded, text):
    embedded.folder.mkdir(parents=True)
    (embedded.folder / "process.json").write_text(text)
    assert embedded.find() is None
    assert embedded.stop() is False


def test_it_is_started_again_after_it_was_killed(embedded):
    url = embedded.start()
    handle = os.pidfd_open(record(embedded)["pid"])
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    select.select([handle], [], [])
    os.close(handle)
    assert embedded.find() is None
    assert embedded.start() == url


def test_a_port_that_another_program_has_taken(embedded):
    url = embedded.start()
    embedded.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(url.rpartition(":")[2])))
        other.listen()
        moved = embedded.start()
    assert moved != url
    assert embedded.find() == moved
    assert embedded.start() == moved


def test_another_registry_on_the_port_is_not_taken_for_ours(embedded, tmp_path):
    other = Embedded(tmp_path / "other")
    other.start()
    try:
        embedded.start()
        mixed = record(embedded) | {"port": record(other)["port"]}
        true = (embedded.folder / "process.json").read_text()
        (embedded.folder / "process.json").write_text(json.dumps(mixed))
        assert embedded.find() is None
        (embedded.folder / "process.json").write_text(true)
    finally:
        assert other.stop()


def test_the_program_is_not_installed(tmp_path):
    with pytest.raises(MissingTool, match="docker-registry is not installed") as caught:
        Embedded(tmp_path / "registry", environ={"PATH": ""}).start()
    assert "apt-get install docker-registry" in caught.value.hint


def test_a_program_that_dies_at_once_is_quoted(tmp_path):
    environ = fake_program(tmp_path / "bin", "echo panic: no such storage driver >&2; exit 2")
    embedded = Embedded(tmp_path / "registry", environ=environ)
    with pytest.raises(RegistryError, match="panic: no such storage driver") as caught:
        embedded.start()
    assert "registry.log" in caught.value.hint
    assert embedded.find() is None


def test_a_program_that_never_answers_is_ended(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    environ = fake_program(tmp_path / "bin", f"read -r line < {pipe}")
    moments = iter(range(1000))
    embedded = Embedded(
        tmp_path / "registry", environ=environ, sleep=lambda _: None, clock=lambda: next(moments)
    )
    with pytest.raises(RegistryError, match="did not come up"):
        embedded.start(wait=20)
    assert processes_of(embedded) == []


def test_the_environment_does_not_change_its_settings(tmp_path):
    environ = {"PATH": os.environ["PATH"], "REGISTRY_HTTP_ADDR": "0.0.0.0:1"}
    embedded = Embedded(tmp_path / "registry", environ=environ)
    try:
        assert embedded.start().startswith("http://127.0.0.1:")
    finally:
        embedded.stop()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        Embedded(tmp_path / "file" / "registry").start()
