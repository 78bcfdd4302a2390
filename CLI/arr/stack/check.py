"""The manifest against the Dockerfile, both ways.

A file that an instruction can bring into the image but the manifest does not list is a stale image
in waiting: an error. A listed file that no instruction uses only costs needless builds: a warning.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from arr.errors import DockerfileError, ManifestError
from arr.stack import context as contexts
from arr.stack import manifest as manifests
from arr.stack.dockerfile import Instruction, expand, mount_options
from arr.stack.git import SYMLINK, Commit, Entry, decode, printable
from arr.stack.glob import (
    Regex,
    docker_glob,
    docker_glob_or_below,
    literal_start,
    starting_with,
)
from arr.stack.graph import Graph, Node


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A committed file that line `line` of the Dockerfile brings in and the manifest leaves out."""

    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What the check of one image found; `unused` are listed files that no instruction uses."""

    image: str
    manifest: str
    dockerfile: str
    unlisted: tuple[Unlisted, ...]
    unused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """The files that an image's build sees, by their path in it; `links` say where links lead."""

    files: Mapping[str, Entry]
    paths: Sequence[str]
    links: Mapping[str, str]

    def brought_in(self, source: str, hops: int = 20) -> dict[str, Entry]:
        """Return what a COPY of `source` takes: files, and all that is beneath a folder.

        A source that is a symbolic link, or lies beyond one, is what the link leads to, too.
        """
        if source == ".":
            return dict(self.files)
        itself, below = _expressions(source)
        near = starting_with(literal_start(source).rstrip("/"), self.paths)
        found = {p: self.files[p] for p in near if p == source or below.match(p)}
        for path, to in self.links.items() if hops else ():
            if source.startswith(path + "/"):
                found[path] = self.files[path]
                found |= self.brought_in(_normal(to + source[len(path) :]), hops - 1)
            elif path == source or itself.match(path):
                found |= self.brought_in(to, hops - 1)
        return found


def _context(node: Node, commit: Commit) -> Context:
    files = contexts.context_files(commit, node.spec.context, node.ignore)
    links = {path: entry.path for path, entry in files.items() if entry.mode == SYMLINK}
    texts = commit.read(links.values())
    to = {p: posixpath.join(posixpath.dirname(p), decode(texts[at])) for p, at in links.items()}
    return Context(files, sorted(files), {path: _normal(text) for path, text in to.items()})


def _expressions(source: str) -> tuple[Regex, Regex]:
    """What a source names, and all beneath that; a broken pattern counts as everything."""
    try:
        return docker_glob(source), docker_glob_or_below(source)
    except ValueError:
        return docker_glob("**"), docker_glob("**")


def check(node: Node, graph: Graph, commit: Commit) -> Findings:
    """Compare the image's manifest with what its Dockerfile can bring in from the commit.

    Raises DockerfileError for a COPY or ADD whose source matches nothing in the context.
    """
    listed = manifests.select(node.manifest, graph.target, commit)
    context = _context(node, commit)
    used: dict[str, int] = {}
    for instruction, sources in _sources(node):
        for source in sources:
            entries = context.brought_in(source)
            if not entries and instruction.keyword != "RUN":
                raise _no_source(node, instruction, source)
            for entry in entries.values():
                used.setdefault(entry.path, instruction.first)
    always = _always(node)
    known, needless = listed.keys() | always, always | _of_ancestors(node, graph)
    return Findings(
        node.name,
        node.manifest.path,
        node.dockerfile.path,
        tuple(Unlisted(p, n) for p, n in sorted(used.items()) if p not in known),
        tuple(p for p in listed if p not in used and p not in needless),
    )


def require_listed(findings: Iterable[Findings]) -> None:
    """Raise ManifestError if any file of `findings` is not listed: its image would go stale."""
    bad = [f for f in findings if f.unlisted]
    if not bad:
        return
    lines = []
    for finding in bad:
        for unlisted in finding.unlisted[:10]:
            lines.append(
                f"  {printable(unlisted.path)}  (brought in by {finding.dockerfile}:"
                f"{unlisted.line}, not in {finding.manifest})"
            )
        if len(finding.unlisted) > 10:
            lines.append(f"  and {len(finding.unlisted) - 10} more of {finding.image}")
    count = sum(len(f.unlisted) for f in bad)
    raise ManifestError(
        f"{count} file{'s' if count > 1 else ''} can get into an image but would not change its "
        "tag:\n" + "\n".join(lines),
        "List them in the manifest, or keep them out with the image's Dockerfile.dockerignore.",
    )


def _sources(node: Node) -> Iterator[tuple[Instruction, list[str]]]:
    """Yield each instruction that takes files from the context, with its sources."""
    for stage in node.dockerfile.stages:
        for instruction in stage.instructions:
            if instruction.keyword in ("COPY", "ADD") and not instruction.flag("from"):
                yield instruction, list(_copied(instruction, stage.variables))
            elif instruction.keyword == "RUN":
                mounted = list(_mounted(instruction, stage.variables))
                if mounted:
                    yield instruction, mounted


def _copied(instruction: Instruction, variables: Mapping[str, str]) -> Iterator[str]:
    rest = instruction.rest
    words: list[str] = []
    if rest.startswith("["):
        try:
            words = [str(word) for word in json.loads(rest)]
        except ValueError:
            words = []
    for word in (words or _unquoted(rest.split()))[:-1]:
        if word.startswith(("<<", "git@")) or "://" in word:
            continue
        yield _normal(expand(word, variables))


def _unquoted(words: list[str]) -> list[str]:
    return [re.sub(r"""(["'])(.*?)\1""", r"\2", word) for word in words]


def _mounted(instruction: Instruction, variables: Mapping[str, str]) -> Iterator[str]:
    for name, value in instruction.flags:
        if name != "mount":
            continue
        options = mount_options(value)
        if options.get("type", "bind") == "bind" and "from" not in options:
            yield _normal(expand(options.get("source", options.get("src", ".")), variables))


def _normal(source: str | None) -> str:
    """A source as a pattern; one that cannot be resolved here counts as the whole context."""
    return "." if source is None else posixpath.normpath("/" + source).lstrip("/") or "."


def _no_source(node: Node, instruction: Instruction, source: str) -> DockerfileError:
    where = f"{node.dockerfile.path}:{instruction.first}"
    ignored = f", or let it through in {node.ignore_path}" if node.ignore_path else ""
    return DockerfileError(
        f"{where}: {instruction.keyword} {source}: no committed file of the build context matches",
        f"Commit the file, correct the path{ignored}.",
    )


def _always(node: Node) -> frozenset[str]:
    """Files that count as inputs, or say which the inputs are, without being listed."""
    own = {node.dockerfile.path, node.manifest.path}
    return frozenset(own | ({node.ignore_path} if node.ignore_path else set()))


def _of_ancestors(node: Node, graph: Graph) -> frozenset[str]:
    """Dockerfiles of the image's ancestors: redundant in a manifest, since fingerprints chain."""
    found: set[str] = set()
    todo = list(node.parents.values())
    while todo:
        parent = graph.node(todo.pop())
        found.add(parent.dockerfile.path)
        folder = parent.spec.folder.rstrip("/")
        found.add(f"{folder}/Dockerfile")
        todo.extend(parent.parents.values())
    return frozenset(found)
