"""Reading commits, in real repositories; and what is said when there is none to read."""

from __future__ import annotations

from pathlib import Path

import pytest
from repository import TIME, Executable, Files, Link, Submodule, make_repository

from arr.errors import GitError, MissingTool
from arr.stack import git

ODD = [
    "sp ace",
    "new\nline",
    "tab\t",
    "qu\"ote'",
    "back\\slash",
    "ü",
    "\udcff\udcfe",
    "-dash",
    "!#",
    "a/b",
]


def test_the_tree_of_a_commit(tmp_path: Path) -> None:
    special: Files = {"link": Link("sp ace"), "tool": Executable("x"), "sub": Submodule()}
    make_repository(tmp_path, {**dict.fromkeys(ODD, "x"), **special})
    found = git.commit_at(tmp_path)
    assert set(found.tree) == {*ODD, *special}
    assert {found.tree[path].mode for path in ODD} == {"100644"}
    assert [found.tree[path].mode for path in special] == ["120000", "100755", "160000"]
    assert len({found.tree[path].blob for path in [*ODD, "tool"]}) == 1
    assert found.time == TIME


def test_contents_are_the_committed_ones(tmp_path: Path) -> None:
    contents = {path: f"{number}\r\n\0".encode() for number, path in enumerate(ODD)}
    repository = make_repository(tmp_path, {**contents, "empty": ""}, checkout=True)
    (tmp_path / "ü").write_text("edited")
    commit = git.commit_at(repository.root)
    assert commit.read(reversed(ODD)) == contents
    assert commit.read(["empty", "empty"]) == {"empty": b""}
    assert commit.read([]) == {}
    assert commit.text("ü") == "5\r\n\0"
    with pytest.raises(GitError, match=r"nowhere\\n is not in commit [0-9a-f]{12}"):
        commit.read(["ü", "nowhere\n"])


def test_the_repository_is_found_from_a_folder_in_it(tmp_path: Path) -> None:
    root = tmp_path / "with space ü"
    make_repository(root, {"a": ""})
    (root / "x/y").mkdir(parents=True)
    assert git.find_root(root / "x/y") == root


def test_a_linked_work_tree_is_a_repository_too(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "main", {"a": ""}, checkout=True)
    repository.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    assert git.find_root(tmp_path / "linked") == tmp_path / "linked"
    assert git.commit_at(tmp_path / "linked").id == git.commit_at(tmp_path / "main").id


def test_outside_a_repository(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="is not inside a git repository") as caught:
        git.find_root(tmp_path)
    assert "git init" in caught.value.hint
    assert str(tmp_path) in caught.value.message


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(GitError, match=f"there is no folder {folder}"):
            git.find_root(folder)


def test_a_repository_of_another_user_is_not_called_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_repository(tmp_path, {"a": ""})
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("LANGUAGE", "de")
    for look in (git.find_root, git.commit_at):
        with pytest.raises(GitError, match="dubious ownership") as caught:
            look(tmp_path)
        assert "belongs to another user" in caught.value.hint


def test_no_commit_yet(tmp_path: Path) -> None:
    make_repository(tmp_path)
    with pytest.raises(GitError, match=f"{tmp_path} has no commit yet") as caught:
        git.commit_at(tmp_path)
    assert "git commit" in caught.value.hint


@pytest.mark.parametrize(
    "revision", ["nowhere", "", "--all", "HEAD..HEAD", "0" * 40, "HEAD:a", "-1"]
)
def test_a_revision_that_is_no_commit(tmp_path: Path, revision: str) -> None:
    make_repository(tmp_path, {"a": ""})
    with pytest.raises(GitError) as caught:
        git.commit_at(tmp_path, revision)
    assert caught.value.message == f"{revision!r} names no commit of {tmp_path}"
    assert "git log" in caught.value.hint


def test_revisions_and_settings_of_the_user(tmp_path: Path) -> None:
    repository = make_repository(tmp_path, {"a": "1"})
    first = git.commit_at(tmp_path)
    repository.commit({"a": "2"})
    repository.git("tag", "--annotate", "--message=x", "v1", first.id)
    for name in ("log.showSignature", "status.short", "diff.noprefix", "core.quotePath"):
        repository.git("config", name, "true")
    repository.git("config", "color.ui", "always")
    assert git.commit_at(tmp_path, "HEAD~1") == git.commit_at(tmp_path, "v1") == first
    assert first.text("a") == "1"
    assert git.line_changes(
        tmp_path, first.tree["a"].blob, git.commit_at(tmp_path).tree["a"].blob
    ) == (1, 1)


def test_what_the_work_tree_adds(tmp_path: Path) -> None:
    files = {"same": "", "edited": "", "gone": "", "staged": "", "new\nline": "", "\udcff": ""}
    repository = make_repository(tmp_path, files, checkout=True)
    assert git.changes(tmp_path) == []
    for path in ("edited", "staged", "new\nline"):
        (tmp_path / path).write_text("x")
    (tmp_path / "\udcff").write_text("x")
    (tmp_path / "gone").unlink()
    repository.git("add", "staged")
    (tmp_path / "folder/deep").mkdir(parents=True)
    (tmp_path / "folder/deep/untracked ü").write_text("")
    (tmp_path / ".gitignore").write_text("ignored\n")
    (tmp_path / "ignored").write_text("")
    found = {change.path: change.untracked for change in git.changes(tmp_path)}
    assert found == {
        "edited": False, "gone": False, "staged": False, "new\nline": False, "\udcff": False,
        "folder/deep/untracked ü": True, ".gitignore": True,
    }  # fmt: skip
    shown = {str(change) for change in git.changes(tmp_path)}
    assert {r"new\nline (uncommitted)", r"\xff (uncommitted)"} <= shown
    assert "folder/deep/untracked ü (untracked)" in shown


def test_a_rename_is_told_by_both_its_names(tmp_path: Path) -> None:
    repository = make_repository(tmp_path, {"old": "content\n" * 9}, checkout=True)
    repository.git("mv", "old", "new")
    assert {change.path for change in git.changes(tmp_path)} == {"old", "new"}


def test_line_changes(tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    old = repository.commit({"a": "1\n2\n3\n", "b": b"\0\1", "c": "1\n2\n3\n"}).tree
    new = repository.commit({"a": "1\n2\nx\ny\n", "b": b"\0\2", "c": "1\n2\n3\n"}).tree
    assert git.line_changes(tmp_path, old["a"].blob, new["a"].blob) == (2, 1)
    assert git.line_changes(tmp_path, old["b"].blob, new["b"].blob) is None
    assert git.line_changes(tmp_path, "0" * 40, new["a"].blob) is None


def test_what_a_registry_keeps_is_never_an_option_of_git(tmp_path: Path) -> None:
    blob = make_repository(tmp_path, {"a": "x"}).git("rev-parse", "HEAD:a").decode().strip()
    victim = tmp_path / "victim"
    for old in (f"--output={victim}", "--no-index", "", "HEAD", "a"):
        assert git.line_changes(tmp_path, old, blob) is None
    assert not victim.exists()


def test_an_object_that_is_missing_is_named(tmp_path: Path) -> None:
    make_repository(tmp_path, {"a": "x"})
    with pytest.raises(GitError, match="cannot read object " + "3" * 40) as caught:
        dict(git.blobs(tmp_path, ["3" * 40]))
    assert "git fsck" in caught.value.hint


def test_git_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="git is not installed") as caught:
        git.find_root(tmp_path)
    assert "install git" in caught.value.hint


@pytest.mark.parametrize(
    ("path", "shown"),
    [("plain ü", "plain ü"), ("a\nb\t", r"a\nb\t"), ("\udcff", r"\xff"), ("\x1b[31m", r"\x1b[31m")],
)
def test_a_name_can_be_printed_on_any_terminal(path: str, shown: str) -> None:
    assert git.printable(path) == shown
