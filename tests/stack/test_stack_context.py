"""The build context on disk: the commit's files, the same bytes, modes and times everywhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from repository import TIME, Executable, Files, Link, Submodule, make_repository

from arr.errors import ManifestError
from arr.stack import git
from arr.stack.context import (
    IgnoreFile,
    context_files,
    parse_ignore,
    write_context,
)
from arr.stack.git import Commit

ODD: Files = {
    "sp ace": "1",
    "new\nline": "2",
    "\udcff\udcfe": "3",
    "deep/er/ü": "4",
    "-dash": "5",
    "empty": "",
    "crlf": "a\r\nb\r\n",
    "bytes": bytes(range(256)),
    "tool": Executable("#!/bin/sh\n"),
    "deep/link": Link("../sp ace"),
    "deep/\udcff": Link("\udcfe"),
    "dir": Link("deep/er"),
}


def on_disk(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file beneath `folder` by its path: mode and content; for a link 0 and where to."""
    found = {}
    for at in folder.rglob("*"):
        path = str(at.relative_to(folder))
        if at.is_symlink():
            found[path] = (0, os.fsencode(at.readlink()))
        elif at.is_file():
            found[path] = (stat.S_IMODE(at.stat().st_mode), at.read_bytes())
    return found


def write(
    commit: Commit, folder: Path, top: str = ".", ignore: str = ""
) -> dict[str, tuple[int, bytes]]:
    write_context(commit, context_files(commit, top, parse_ignore("i", ignore)), folder)
    return on_disk(folder)


def expected(files: Files) -> dict[str, tuple[int, bytes]]:
    found = {}
    for path, content in files.items():
        match content:
            case Link(to):
                found[path] = (0, git.encode(to))
            case Executable(inner):
                found[path] = (0o755, inner if isinstance(inner, bytes) else inner.encode())
            case str() | bytes():
                found[path] = (0o644, content if isinstance(content, bytes) else content.encode())
    return found


def test_the_context_is_the_commit_whatever_the_work_tree_has(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "r", ODD, checkout=True)
    (repository.root / "sp ace").write_text("edited")
    (repository.root / "tool").chmod(0o644)
    (repository.root / "empty").unlink()
    (repository.root / "untracked").write_text("x")
    repository.git("config", "core.autocrlf", "true")
    assert write(git.commit_at(repository.root), tmp_path / "c") == expected(ODD)


def test_modes_and_times_are_the_same_under_any_umask(tmp_path: Path) -> None:
    commit = make_repository(tmp_path / "r").commit(ODD)
    for number, umask in enumerate((0o000, 0o077)):
        before = os.umask(umask)
        try:
            assert write(commit, tmp_path / f"c{number}") == expected(ODD)
        finally:
            os.umask(before)
        top = tmp_path / f"c{number}"
        folders = {at for at in [top, *top.rglob("*")] if at.is_dir() and not at.is_symlink()}
        assert {stat.S_IMODE(at.stat().st_mode) for at in folders} == {0o755}
        assert {at.lstat().st_mtime for at in [top, *top.rglob("*")]} == {TIME}


def test_the_context_of_a_folder_has_paths_from_that_folder(tmp_path: Path) -> None:
    files: Files = {"deep/er/a": "1", "deep/b": "2", "deeper/c": "3", "deep.txt": "4"}
    commit = make_repository(tmp_path / "r").commit(files)
    for number, top in enumerate(("deep", "deep/", "./deep", "/deep", "x/../deep")):
        assert set(write(commit, tmp_path / f"{number}", top)) == {"er/a", "b"}
    assert set(write(commit, tmp_path / "some", "deep", "er\n")) == {"b"}
    assert set(context_files(commit, "", IgnoreFile())) == set(files)


def test_a_context_with_no_file_is_an_empty_folder(tmp_path: Path) -> None:
    commit = make_repository(tmp_path / "r").commit({"a": "x"})
    assert write(commit, tmp_path / "c", ignore="**\n") == {}
    assert (tmp_path / "c").stat().st_mtime == TIME


def test_submodules_are_left_out(tmp_path: Path) -> None:
    commit = make_repository(tmp_path / "r").commit({"a": "x", "sub": Submodule()})
    assert set(write(commit, tmp_path / "c")) == {"a"}


@pytest.mark.parametrize("to", ["/etc/passwd", "..", "../../x", "x/../../../y"])
def test_a_link_out_of_the_repository_is_refused(tmp_path: Path, to: str) -> None:
    commit = make_repository(tmp_path / "r").commit(
        {"d/link": Link(to) if to != ".." else Link("../..")}
    )
    with pytest.raises(
        ManifestError, match="d/link is a symbolic link out of the repository"
    ) as caught:
        write(commit, tmp_path / "c")
    assert caught.value.hint
    assert write(commit, tmp_path / "without", ignore="d/link\n") == {}


def test_more_files_than_are_read_at_a_time(tmp_path: Path) -> None:
    files: Files = {f"d{n % 7}/{n}": f"{n}" for n in range(1203)}
    commit = make_repository(tmp_path / "r").commit(files)
    assert write(commit, tmp_path / "c") == expected(files)


RULES = st.lists(
    st.tuples(
        st.sampled_from(["", "!"]),
        st.lists(st.sampled_from(["a", "b", "*", "**", "?"]), min_size=1, max_size=3),
    ),
    max_size=5,
)
TREES = st.lists(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join), max_size=12
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(RULES, TREES)
def test_the_last_rule_that_matches_a_path_or_a_folder_of_it_decides(
    rules: list[tuple[str, list[str]]], paths: list[str]
) -> None:
    ignore = parse_ignore("i", "\n".join(bang + "/".join(parts) for bang, parts in rules))
    for path, ignored in zip(paths, ignore.ignored(paths), strict=True):
        parts = path.split("/")
        decided = False
        for bang, pattern in rules:
            if any(matches(pattern, parts[:depth]) for depth in range(1, len(parts) + 1)):
                decided = not bang
        assert ignored == decided, (path, rules)


def matches(pattern: list[str], parts: list[str]) -> bool:
    """Docker's meaning, said once more and slowly: `**` is any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        if len(pattern) == 1:
            return True
        return any(matches(pattern[1:], parts[n:]) for n in range(len(parts) + 1))
    if not parts or not (pattern[0] in ("*", "?") or pattern[0] == parts[0]):
        return False
    if set(pattern[1:]) == {"**"}:
        return len(parts) > 1
    return matches(pattern[1:], parts[1:])
