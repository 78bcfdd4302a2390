"""The build context of an image: the committed files that its ignore file lets through.

It is made here, for every engine, from the commit: what an engine would do with its own ignore
file (or forget to do) plays no part.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from arr.errors import DockerfileError, ManifestError
from arr.stack.git import EXECUTABLE, SUBMODULE, SYMLINK, Commit, Entry, encode, printable
from arr.stack.glob import Regex, docker_glob, starting_with
from arr.stack.manifest import link_leaves


@dataclass(frozen=True, slots=True)
class IgnoreRule:
    """One line. `by_name`: it is `**/NAME`, so that the last part of a path alone decides."""

    regex: Regex
    keep: bool
    by_name: bool


@dataclass(frozen=True, slots=True)
class IgnoreFile:
    """A .dockerignore file: its last rule that matches a path, or a folder of it, decides."""

    rules: tuple[IgnoreRule, ...] = ()

    def ignored(self, paths: Iterable[str]) -> Iterator[bool]:
        """Yield for each path whether it is left out of the context."""
        any_path = _any_of(rule.regex for rule in self.rules if not rule.by_name)
        any_name = _any_of(rule.regex for rule in self.rules if rule.by_name)
        folders = {"": -1}

        def deciding(path: str) -> int:
            """The last rule (its number) that matches `path` or a folder of it; -1 if none does."""
            folder, _, name = path.rpartition("/")
            if folder not in folders:
                folders[folder] = deciding(folder)
            known = folders[folder]
            if any_name.match(name) or any_path.match(path):
                for number in range(len(self.rules) - 1, known, -1):
                    rule = self.rules[number]
                    if rule.regex.match(name if rule.by_name else path):
                        return number
            return known

        for path in paths:
            number = deciding(path) if self.rules else -1
            yield number >= 0 and not self.rules[number].keep


def _any_of(regexes: Iterable[Regex]) -> Regex:
    """One expression for all, since most paths match none; `(?!)` matches nothing."""
    return re.compile("|".join(["(?!)", *(f"(?:{r.pattern})" for r in regexes)]), re.DOTALL)


def parse_ignore(path: str, text: str) -> IgnoreFile:
    """Read an ignore file with docker's meaning. Raises DockerfileError for a broken pattern."""
    rules = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        pattern = line.strip()
        if not pattern or line.startswith("#"):
            continue
        keep = pattern.startswith("!")
        if keep:
            pattern = pattern[1:].strip()
            if not pattern:
                raise DockerfileError(f"{path}:{number}: '!' names nothing", "Remove the line.")
        clean = posixpath.normpath(pattern).lstrip("/") or "."
        if clean == ".":
            continue
        try:
            name = clean.removeprefix("**/")
            by_name = name != clean and "/" not in name and "**" not in name
            rules.append(IgnoreRule(docker_glob(name if by_name else clean), keep, by_name))
        except ValueError as error:
            raise DockerfileError(
                f"{path}:{number}: {printable(pattern)} is not a pattern: {error}",
                "Correct the line.",
            ) from error
    return IgnoreFile(tuple(rules))


def context_files(commit: Commit, folder: str, ignore: IgnoreFile) -> dict[str, Entry]:
    """Return the files of the context by their path in it; `folder` is "." or one of the commit.

    Submodules are left out: the commit does not hold their files.
    """
    top = posixpath.normpath(folder.strip("/") or ".")
    prefix = "" if top == "." else top + "/"
    inside = [
        path[len(prefix) :]
        for path in starting_with(prefix, commit.paths)
        if commit.tree[path].mode != SUBMODULE
    ]
    return {
        path: commit.tree[prefix + path]
        for path, ignored in zip(inside, ignore.ignored(inside), strict=True)
        if not ignored
    }


def write_context(commit: Commit, files: Mapping[str, Entry], folder: Path) -> None:
    """Write the committed files below `folder`: modes 644/755, mtime = the commit's time.

    Raises ManifestError for a symbolic link that leads out of the repository.
    """
    root = os.fsencode(folder)
    os.makedirs(root, exist_ok=True)
    folders = {root}
    for batch in _batches(list(files.items())):
        contents = commit.read(entry.path for _, entry in batch)
        for path, entry in batch:
            at = os.path.join(root, encode(path))
            parent = os.path.dirname(at)
            os.makedirs(parent, exist_ok=True)
            folders.update(_parents(parent, root))
            _write(at, entry, contents[entry.path])
            os.utime(at, (commit.time, commit.time), follow_symlinks=False)
    for each in folders:
        os.chmod(each, 0o755)
        os.utime(each, (commit.time, commit.time))


def _batches(files: list[tuple[str, Entry]], size: int = 500) -> Iterator[list[tuple[str, Entry]]]:
    """Some files at a time, so that a big context is never in memory as a whole."""
    return (files[at : at + size] for at in range(0, len(files), size))


def _write(at: bytes, entry: Entry, content: bytes) -> None:
    if entry.mode == SYMLINK:
        if link_leaves(entry.path, content.decode("utf-8", "surrogateescape")):
            raise ManifestError(
                f"{printable(entry.path)} is a symbolic link out of the repository",
                "Replace the link by the file, or leave it out in the ignore file.",
            )
        os.symlink(content, at)
        return
    with open(at, "wb") as file:
        file.write(content)
    os.chmod(at, 0o755 if entry.mode == EXECUTABLE else 0o644)


def _parents(folder: bytes, root: bytes) -> Iterable[bytes]:
    while folder != root:
        yield folder
        folder = os.path.dirname(folder)
