"""Reading a commit: its tree, its contents, and what the work tree adds to it.

Everything goes through the git program: one `ls-tree` and one `cat-file --batch` read a whole
stack in milliseconds, and no library is as fast end to end.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from arr.errors import GitError, MissingTool

SYMLINK = "120000"
SUBMODULE = "160000"
EXECUTABLE = "100755"


def decode(raw: bytes) -> str:
    """Return a path of the commit as text; bytes that are not UTF-8 survive the round trip."""
    return raw.decode("utf-8", "surrogateescape")


def encode(path: str) -> bytes:
    """Return the bytes that git has for `path`: the inverse of `decode`."""
    return path.encode("utf-8", "surrogateescape")


def printable(path: str) -> str:
    """Return `path` such that it can be printed on one line of any terminal."""
    text = encode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One file of a commit: its path, git's mode (100644, 100755, 120000, 160000), its blob id."""

    path: str
    mode: str
    blob: str


@dataclass(frozen=True, slots=True)
class Change:
    """A path whose content in the work tree is not what the commit has."""

    path: str
    untracked: bool

    def __str__(self) -> str:
        return f"{printable(self.path)} ({'untracked' if self.untracked else 'uncommitted'})"


@dataclass(frozen=True)
class Commit:
    """A commit of a repository; its tree is read once, contents when they are asked for."""

    root: Path
    id: str
    time: int
    _contents: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def tree(self) -> Mapping[str, Entry]:
        """Every entry of the commit by path, in git's order; submodules are entries too."""
        raw = git(self.root, "ls-tree", "-r", "-z", "--full-tree", self.id)
        entries = {}
        for record in raw.split(b"\0"):
            if not record:
                continue
            head, path = record.split(b"\t", 1)
            mode, _kind, blob = head.decode("ascii").split(" ")
            entry = Entry(decode(path), mode, blob)
            entries[entry.path] = entry
        return entries

    @cached_property
    def paths(self) -> Sequence[str]:
        """Every path of the commit, sorted as text."""
        return sorted(self.tree)

    def text(self, path: str, errors: str = "replace") -> str:
        """Return the committed content of `path` as text. Raises GitError if it is not there."""
        if path not in self._contents:
            self._contents.update(self.read([path]))
        return self._contents[path].decode("utf-8", errors)

    def fetch(self, paths: Iterable[str]) -> None:
        """Read those of `paths` that the commit has, all at once, for `text` to return later."""
        self._contents.update(self.read(path for path in paths if path in self.tree))

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the committed content of each path. Raises GitError for one that is not there."""
        wanted = list(paths)
        missing = [path for path in wanted if path not in self.tree]
        if missing:
            raise GitError(
                f"{printable(missing[0])} is not in commit {self.id[:12]}",
                "Commit the file, or correct the path.",
            )
        contents = dict(blobs(self.root, {self.tree[path].blob for path in wanted}))
        return {path: contents[self.tree[path].blob] for path in wanted}


def find_root(folder: Path) -> Path:
    """Return the top folder of the repository around `folder`. Raises GitError outside one."""
    try:
        top = git(folder, "rev-parse", "--show-toplevel")
    except GitError as error:
        if "not a git repository" not in error.message:
            raise
        raise GitError(
            f"{folder} is not inside a git repository",
            "Images are built from commits: run arr inside your clone, or `git init` and commit.",
        ) from error
    return Path(os.fsdecode(top.removesuffix(b"\n")))


def commit_at(root: Path, revision: str = "HEAD") -> Commit:
    """Return the commit that `revision` names. Raises GitError if there is none."""
    try:
        raw = git(root, "rev-list", "-1", "--timestamp", "--end-of-options", revision, "--")
    except GitError as error:
        if not any(words in error.message for words in ("bad revision", "bad object")):
            raise
        raw = b""
    if not raw and revision == "HEAD":
        raise GitError(
            f"the repository {root} has no commit yet",
            "Images are built from commits: `git add` your files and `git commit`.",
        )
    if not raw:
        raise GitError(
            f"{revision!r} names no commit of {root}", "See `git log` for the commits there are."
        )
    time, commit_id = raw.decode("ascii").split()
    return Commit(root, commit_id, int(time))


def changes(root: Path) -> list[Change]:
    """Return what the work tree has that HEAD does not: edits, deletions and untracked files."""
    raw = git(
        root, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all",
        "--ignore-submodules=none",
    )  # fmt: skip
    return [
        Change(decode(record[3:]), record.startswith(b"??"))
        for record in raw.split(b"\0")
        if record
    ]


def blobs(root: Path, ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (blob id, content) for each id, through one `git cat-file --batch`."""
    wanted = list(ids)
    if not wanted:
        return
    out = git(root, "cat-file", "--batch", stdin="".join(f"{i}\n" for i in wanted).encode("ascii"))
    at = 0
    for blob in wanted:
        end = out.index(b"\n", at)
        head = out[at:end].split()
        if len(head) != 3:
            raise GitError(
                f"git cannot read object {blob}: {decode(out[at:end])}",
                "The repository is incomplete: try `git fsck`, or fetch again.",
            )
        size = int(head[2])
        yield blob, out[end + 1 : end + 1 + size]
        at = end + 1 + size + 1


def line_changes(root: Path, old: str, new: str) -> tuple[int, int] | None:
    """Return (added, removed) lines between two blobs; None if either is not here, or is binary."""
    if not all(re.fullmatch(r"[0-9a-f]{40,64}", blob) for blob in (old, new)):
        return None  # `old` comes from a registry: it must never be read as an option of git
    try:
        raw = git(root, "diff", "--numstat", "--no-ext-diff", "--no-textconv", old, new)
    except GitError:
        return None  # a shallow clone, or another machine's history: the reason goes without it
    fields = raw.split(b"\t")
    if len(fields) < 2 or fields[0] == b"-":
        return None
    return int(fields[0]), int(fields[1])


def git(root: Path, *args: str, stdin: bytes | None = None) -> bytes:
    """Run git in `root` and return what it prints. Raises GitError with git's own words."""
    environ = {k: v for k, v in os.environ.items() if not _redirects(k)}
    # Its words are read below; a look at the repository takes no lock; a tag means the real commit.
    environ |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1"}
    try:
        done = subprocess.run(
            ["git", *args], cwd=root, env=environ, input=stdin, capture_output=True, check=False
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        if not root.is_dir():
            raise GitError(f"there is no folder {root}", "Check the path.") from error
        raise MissingTool("git is not installed", "sudo apt-get install git") from error
    if done.returncode:
        words = decode(done.stderr).strip() or f"exit code {done.returncode}"
        raise GitError(f"git {args[0]} failed: {words}", _advice(words))
    return done.stdout


def _redirects(name: str) -> bool:
    """Whether a GIT_ variable (set inside hooks and worktrees) would point git elsewhere."""
    return name in {
        "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_NAMESPACE",
    }  # fmt: skip


def _advice(words: str) -> str:
    if "dubious ownership" in words:
        return "The folder belongs to another user: git names the command that trusts it, above."
    return "See what git says above."
