"""Wheels are fetched once, for exact pins, by the real pip from a folder instead of an index."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
import tiny_stack

from arr.build import wheelhouse
from arr.build.engine import Work
from arr.errors import BuildError, ConfigError, Interrupted
from arr.process import Children

PLATFORM = "linux/amd64"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip takes for all of the world's packages."""
    folder = tmp_path / "index"
    tiny_stack.write_wheel(folder, "tiny", "1.0")
    tiny_stack.write_wheel(folder, "other", "2.0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


def work_in(folder: Path, children: Children | None = None) -> Work:
    folder.mkdir(parents=True, exist_ok=True)
    return Work(children or Children(), folder / "log", lambda line: None, folder)


def stopped() -> Children:
    """Children of which none can be started."""
    children = Children()
    children.stop()
    return children


def fake_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let `script` run in the place of pip; `$dest` is the folder that the wheels go to."""
    path = tmp_path / "python"
    find = 'for word; do dest=$word; done; mkdir -p "$dest"'
    path.write_text(f"#!/bin/sh\n{find}\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def test_the_key_is_that_of_the_pins_alone():
    key = wheelhouse.key("a==1\nb==2\n", "3.11", PLATFORM)
    for same in ("b==2\na==1", "# why\n\n a==1  # this\nb == 2\t# tab\r\n", "a==1\nb==2\n#b==3\n"):
        assert wheelhouse.key(same, "3.11", PLATFORM) == key
    others = {
        wheelhouse.key("a==1\nb==3\n", "3.11", PLATFORM),
        wheelhouse.key("a==1\n", "3.11", PLATFORM),
        wheelhouse.key("a==1\nb==2\n", "3.12", PLATFORM),
        wheelhouse.key("a==1\nb==2\n", "3.11", "linux/arm64"),
    }
    assert len(others | {key}) == 5


@pytest.mark.parametrize(
    "line",
    [
        "a==1.0",
        "a-b_c.d==1.0+cpu",
        "a[x,y]==1",
        "a == 1.0",
        "a==1 ; python_version < '3.12'",
        "# a",
    ],
)
def test_an_exact_pin_is_taken(line):
    wheelhouse.require_pinned(f"{line}\n", "requirements.txt")


@pytest.mark.parametrize(
    "line",
    [
        "a", "a>=1", "a~=1.0", "a==1.*", "a>=1,==1.0", "https://host/a-1.whl", "./a-1.whl",
        "a @ https://host/a-1.whl", "git+https://host/a", "-r other.txt", "--index-url https://host",
        "-e .", "a==",
    ],
)  # fmt: skip
def test_what_is_no_exact_pin_is_refused(line):
    with pytest.raises(ConfigError, match="not an exact pin") as caught:
        wheelhouse.require_pinned(f"good==1.0\n{line}  # why\n", "requirements.txt")
    assert line in caught.value.message
    assert "name==version" in caught.value.hint


def test_wheels_are_fetched_once(index, tmp_path):
    text = "tiny==1.0  # this one\nother==2.0\n"
    cache = tmp_path / "cache"
    folder = wheelhouse.fetch(text, "3.11", PLATFORM, cache, work_in(tmp_path / "a"))
    assert sorted(path.name for path in folder.iterdir()) == [
        "other-2.0-py3-none-any.whl",
        "tiny-1.0-py3-none-any.whl",
    ]
    again = work_in(tmp_path / "b", stopped())
    assert wheelhouse.fetch("other==2.0\ntiny==1.0\n", "3.11", PLATFORM, cache, again) == folder


def test_two_at_once_fetch_once(index, tmp_path):
    works = [work_in(tmp_path / name) for name in "ab"]
    start = threading.Barrier(2)
    found: list[Path] = []

    def fetch(work: Work) -> None:
        start.wait()
        found.append(wheelhouse.fetch("tiny==1.0\n", "3.11", PLATFORM, tmp_path / "cache", work))

    threads = [threading.Thread(target=fetch, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert len(set(found)) == 1
    assert sum(work.log.exists() for work in works) == 1, "one of them ran pip"


def test_a_pin_that_is_not_to_be_had_is_named(index, tmp_path):
    with pytest.raises(
        BuildError, match=r"No matching distribution found for tiny==9\.9"
    ) as caught:
        wheelhouse.fetch(
            "tiny==9.9\n", "3.11", PLATFORM, tmp_path / "cache", work_in(tmp_path / "a")
        )
    assert caught.value.exit_code == 5
    assert "correct it in the image's requirements" in caught.value.hint
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_build_for_the_cpu_alone_says_where_it_is(tmp_path, monkeypatch):
    words = "ERROR: No matching distribution found for torch==2.13.0+cpu"
    fake_pip(tmp_path, monkeypatch, f"echo '{words}'; exit 1")
    with pytest.raises(BuildError, match=r"finds no torch==2\.13\.0\+cpu") as caught:
        wheelhouse.fetch(
            "torch==2.13.0+cpu\n", "3.11", PLATFORM, tmp_path / "cache", work_in(tmp_path)
        )
    assert "extra-index-url" in caught.value.hint


def test_a_fetch_that_is_killed_leaves_nothing_that_counts(tmp_path, monkeypatch):
    fake_pip(tmp_path, monkeypatch, 'echo half > "$dest/half.whl"; echo Saved half; kill -9 $$')
    arguments = ("tiny==1.0\n", "3.11", PLATFORM, tmp_path / "cache", work_in(tmp_path))
    with pytest.raises(BuildError, match=r"killed by SIGKILL.*Saved half"):
        wheelhouse.fetch(*arguments)
    fake_pip(tmp_path, monkeypatch, 'echo whole > "$dest/whole.whl"')
    assert [path.name for path in wheelhouse.fetch(*arguments).iterdir()] == ["whole.whl"]


def test_what_a_killed_launch_left_is_not_taken_for_a_wheelhouse(tmp_path, monkeypatch):
    name = wheelhouse.key("tiny==1.0\n", "3.11", PLATFORM)
    partial = tmp_path / "cache" / f"{name}.partial"
    partial.mkdir(parents=True)
    (partial / "half.whl").write_text("half")
    fake_pip(tmp_path, monkeypatch, 'echo whole > "$dest/whole.whl"')
    folder = wheelhouse.fetch(
        "tiny==1.0\n", "3.11", PLATFORM, tmp_path / "cache", work_in(tmp_path)
    )
    assert [path.name for path in folder.iterdir()] == ["whole.whl"]
    assert not partial.exists()


def test_a_stop_leaves_nothing_that_counts(tmp_path, monkeypatch):
    fake_pip(
        tmp_path, monkeypatch, 'echo half > "$dest/half.whl"; echo Saved half; exec sleep 1000'
    )
    children = Children(grace=30)
    stopper = threading.Thread(target=children.stop)
    work = Work(children, tmp_path / "log", lambda line: stopper.start(), tmp_path)
    with pytest.raises(Interrupted):
        wheelhouse.fetch("tiny==1.0\n", "3.11", PLATFORM, tmp_path / "cache", work)
    stopper.join()
    name = wheelhouse.key("tiny==1.0\n", "3.11", PLATFORM)
    assert not (tmp_path / "cache" / name).exists()


def test_a_platform_without_wheels(tmp_path):
    with pytest.raises(ConfigError, match="linux/s390x"):
        wheelhouse.fetch("a==1\n", "3.11", "linux/s390x", tmp_path / "cache", work_in(tmp_path))
