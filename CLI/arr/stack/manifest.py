"""The manifest of an image, `.image-manifest`: which committed files decide it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from arr.errors import ManifestError
from arr.stack.git import SUBMODULE, SYMLINK, Commit, Entry, printable
from arr.stack.glob import Regex, is_glob, literal_start, manifest_glob, starting_with

NAME = ".image-manifest"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of a manifest. `target` is the target it is for, None for all of them."""

    text: str
    line: int
    target: str | None
    regex: Regex

    def matches(self, path: str) -> bool:
        """As in git, a name with wildcards in it, such as `[id].ts`, also selects itself."""
        if self.regex.match(path):
            return True
        return path.startswith(self.text) and path[len(self.text) :][:1] in ("", "/")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The patterns of one `.image-manifest`, in the order they are written."""

    path: str
    patterns: tuple[Pattern, ...]

    def for_target(self, target: str) -> tuple[Pattern, ...]:
        """The patterns that count for `target`: those of no target, and its own."""
        return tuple(p for p in self.patterns if p.target in (None, target))


def parse(path: str, text: str, targets: Iterable[str]) -> Manifest:
    """Read a manifest: one path or glob a line, `#` comments, `@TARGET pattern` for one target.

    Raises ManifestError, with file and line, for an absolute or `..` path, a broken pattern, an
    unknown target, and for a manifest that names nothing.
    """
    known = list(targets)
    # Not splitlines: a file name may have a form feed or a Unicode line separator in it.
    lines = [_stripped(line) for line in text.removeprefix("\ufeff").split("\n")]
    patterns = [
        _pattern(path, number, line, known)
        for number, line in enumerate(lines, 1)
        if line and not line.startswith("#")
    ]
    if not patterns:
        raise ManifestError(
            f"{path} names no file", "List the files that decide the image, one path a line."
        )
    return Manifest(path, tuple(patterns))


def _stripped(line: str) -> str:
    """The line without the blanks around it; as in git, a backslash keeps the last one."""
    text = line.strip(" \t\r")
    escaped = re.search(r"(?<!\\)(?:\\\\)*\\\Z", text)
    return text + " " if escaped and line.lstrip(" \t")[len(text) :].startswith(" ") else text


def _pattern(path: str, number: int, line: str, targets: list[str]) -> Pattern:
    where, shown = f"{path}:{number}", printable(line)
    target = None
    if line.startswith("@"):
        target, _, line = line[1:].partition(" ")
        line = line.lstrip()
        if target not in targets:
            raise ManifestError(
                f"{where}: unknown target @{printable(target)}",
                f"The targets are: {', '.join(targets)}. A file whose name starts with @ is "
                "written \\@.",
            )
        if not line:
            raise ManifestError(f"{where}: @{target} names no path", "Write `@TARGET path`.")
    if line.startswith("/"):
        raise ManifestError(
            f"{where}: {shown} is an absolute path", "Write it relative to the repository's top."
        )
    if ".." in line.split("/"):
        raise ManifestError(
            f"{where}: {shown} leaves the repository with '..'",
            "Inputs must be committed files: list a path inside the repository.",
        )
    clean = "/".join(part for part in line.split("/") if part not in ("", "."))
    if not clean:
        raise ManifestError(f"{where}: {shown} is the whole repository", "Write `**` to mean that.")
    try:
        return Pattern(clean, number, target, manifest_glob(clean))
    except ValueError as error:
        raise ManifestError(
            f"{where}: {shown} is not a pattern: {error}", "Escape the character with a backslash."
        ) from error


def select(manifest: Manifest, target: str, commit: Commit) -> dict[str, Entry]:
    """Return the entries of the commit that the manifest selects for `target`, by path, sorted.

    Raises ManifestError for a pattern that matches nothing, a submodule, and a symbolic link that
    leads out of the repository: their content is not in the commit.
    """
    chosen: dict[str, Entry] = {}
    for pattern in manifest.for_target(target):
        found = _matching(pattern, commit)
        if not found:
            raise _nothing(manifest, pattern)
        if submodule := next((entry for entry in found if entry.mode == SUBMODULE), None):
            raise _submodule(manifest, pattern, submodule)
        chosen.update((entry.path, entry) for entry in found)
    _require_links_inside(manifest, commit, chosen.values())
    return dict(sorted(chosen.items()))


def _matching(pattern: Pattern, commit: Commit) -> list[Entry]:
    if is_glob(pattern.text):
        near = starting_with(literal_start(pattern.text), commit.paths)
        return [commit.tree[path] for path in near if pattern.matches(path)]
    if pattern.text in commit.tree:
        return [commit.tree[pattern.text]]
    return [commit.tree[path] for path in starting_with(pattern.text + "/", commit.paths)]


def _nothing(manifest: Manifest, pattern: Pattern) -> ManifestError:
    where, text = f"{manifest.path}:{pattern.line}", printable(pattern.text)
    if is_glob(pattern.text):
        return ManifestError(
            f"{where}: the pattern {text} matches no committed file",
            "Correct the pattern or remove the line; files count once they are committed.",
        )
    return ManifestError(
        f"{where}: there is no committed file {text}",
        f"`git add {text}` and commit it, or remove the line.",
    )


def _submodule(manifest: Manifest, pattern: Pattern, entry: Entry) -> ManifestError:
    return ManifestError(
        f"{manifest.path}:{pattern.line}: {printable(entry.path)} is a submodule; "
        "its files are not in this commit",
        "Copy the files into this repository, or narrow the pattern so that it leaves it out.",
    )


def _require_links_inside(manifest: Manifest, commit: Commit, entries: Iterable[Entry]) -> None:
    links = [entry.path for entry in entries if entry.mode == SYMLINK]
    for path, content in commit.read(links).items():
        if link_leaves(path, content.decode("utf-8", "surrogateescape")):
            raise ManifestError(
                f"{manifest.path}: {printable(path)} is a symbolic link out of the repository "
                f"(to {printable(content.decode('utf-8', 'surrogateescape'))})",
                "An image may depend on committed files only: replace the link by the file.",
            )


def link_leaves(path: str, to: str) -> bool:
    """Whether the symbolic link at `path`, with the text `to`, leads out of the repository."""
    if to.startswith("/"):
        return True
    depth = path.count("/")
    for part in to.split("/"):
        if part == "..":
            depth -= 1
            if depth < 0:
                return True
        elif part not in ("", "."):
            depth += 1
    return False
