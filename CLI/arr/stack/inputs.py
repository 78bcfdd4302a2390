"""The inputs of an image, its fingerprint and its tag; and what differs between two inputs."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from arr.errors import ArrError, ConfigError
from arr.stack import manifest as manifests
from arr.stack.git import Commit, Entry, printable
from arr.stack.graph import Graph, Node
from arr.stack.lock import PATH as LOCK_PATH
from arr.stack.lock import Pin

VERSION = 1
TAG_LENGTH = 7


@dataclass(frozen=True)
class Inputs:
    """All that decides an image. Two images have the same inputs if and only if the same tag.

    `files` are the manifest's entries by path; `parents` are the parents' fingerprints (not their
    built digests, so that a plan is made whole without building); `bases` the locked identities.
    """

    dockerfile: str
    ignore: str | None
    platform: str
    build_args: Mapping[str, str]
    files: Mapping[str, tuple[str, str]]
    parents: Mapping[str, str]
    bases: Mapping[str, str]
    context: str = "."

    @cached_property
    def text(self) -> bytes:
        """The canonical form: JSON, keys sorted, ASCII only. It is kept with the image."""
        facts = {
            "arr-inputs": VERSION,
            "dockerfile": self.dockerfile,
            "dockerignore": self.ignore,
            "platform": self.platform,
            "build_args": dict(self.build_args),
            "files": [[path, mode, blob] for path, (mode, blob) in sorted(self.files.items())],
            "parents": dict(self.parents),
            "bases": dict(self.bases),
            "context": self.context,
        }
        return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode("ascii")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical form, in hex."""
        return hashlib.sha256(self.text).hexdigest()

    @property
    def tag(self) -> str:
        """The last seven hex digits of the fingerprint."""
        return self.fingerprint[-TAG_LENGTH:]


def parse(text: bytes) -> Inputs:
    """Read the canonical form back. Raises ArrError if it is not what `Inputs.text` gives."""
    try:
        facts = json.loads(text)
        if facts["arr-inputs"] != VERSION:
            raise ArrError(
                f"these inputs have version {facts['arr-inputs']}; this arr reads {VERSION}",
                "Upgrade arr to read them.",
            )
        found = Inputs(
            facts["dockerfile"], facts["dockerignore"], facts["platform"], facts["build_args"],
            {path: (mode, blob) for path, mode, blob in facts["files"]},
            facts["parents"], facts["bases"], facts["context"],
        )  # fmt: skip
        if found.text != text:
            raise ValueError("it is not in the canonical form")
        return found
    except (ValueError, KeyError, TypeError) as error:
        raise ArrError(
            f"the inputs kept with the image cannot be read: {error}",
            "They were not written by arr; build the image again.",
        ) from error


def of_graph(graph: Graph, commit: Commit, pins: Mapping[str, Pin]) -> dict[str, Inputs]:
    """Return the inputs of each image of the graph. Raises ConfigError for a base with no pin."""
    found: dict[str, Inputs] = {}
    for node in graph:
        parents = {p: found[p].fingerprint for p in node.parents.values()}
        bases = {base: _pin(base, node, graph.target, pins).identity() for base in node.bases}
        found[node.name] = _of_image(node, graph.target, commit, parents, bases)
    return found


def _of_image(
    node: Node,
    target: str,
    commit: Commit,
    parents: Mapping[str, str],
    bases: Mapping[str, str],
) -> Inputs:
    chosen: Mapping[str, Entry] = manifests.select(node.manifest, target, commit)
    return Inputs(
        dockerfile=commit.tree[node.dockerfile.path].blob,
        ignore=commit.tree[node.ignore_path].blob if node.ignore_path else None,
        platform=node.spec.platform,
        build_args=node.spec.build_args_for(target),
        files={path: (entry.mode, entry.blob) for path, entry in chosen.items()},
        parents=parents,
        bases=bases,
        context=posixpath.normpath(node.spec.context.strip("/") or "."),
    )


def _pin(base: str, node: Node, target: str, pins: Mapping[str, Pin]) -> Pin:
    if base not in pins:
        raise ConfigError(
            f"{node.name}: the base {base} is not pinned for the target {target} in {LOCK_PATH}",
            f"`arr lock --update --target {target}`, then commit {LOCK_PATH}.",
        )
    return pins[base]


@dataclass(frozen=True, slots=True)
class Difference:
    """One input that differs: sign `~` changed, `+` new, `-` gone; `kind` says what it is."""

    sign: str
    kind: str
    name: str
    old: str = ""
    new: str = ""

    @property
    def path(self) -> str | None:
        """The file that differs, None for a parent, a base or an argument."""
        return self.name if self.kind in ("file", "mode", "Dockerfile", "ignore file") else None

    def __str__(self) -> str:
        return f"{self.sign} {self.phrase}"

    @property
    def phrase(self) -> str:
        """What happened, in words."""
        name = printable(self.name)
        verb = {"~": "changed", "+": "added", "-": "removed"}[self.sign]
        match self.kind:
            case "parent":
                return f"parent {name} {verb}"
            case "base":
                return f"base {name} {'moved' if self.sign == '~' else verb}"
            case "build argument":
                return f"build argument {name} {verb}"
            case "platform" | "build context":
                return f"{self.kind} changed from {self.old} to {self.new}"
            case "mode":
                return f"{name} changed its mode from {self.old} to {self.new}"
            case _:
                return f"{name} {verb}"


def differences(old: Inputs, new: Inputs, node: Node) -> list[Difference]:
    """Return what differs from `old` to `new`: files first, then parents, bases, arguments."""
    found: list[Difference] = []
    if old.dockerfile != new.dockerfile:
        found.append(
            Difference("~", "Dockerfile", node.dockerfile.path, old.dockerfile, new.dockerfile)
        )
    if old.ignore != new.ignore:
        sign = "+" if old.ignore is None else "-" if new.ignore is None else "~"
        name = node.ignore_path or f"{node.spec.folder}/Dockerfile.dockerignore"
        found.append(Difference(sign, "ignore file", name, old.ignore or "", new.ignore or ""))
    named = {d.name for d in found}
    found += [d for d in _file_differences(old.files, new.files) if d.name not in named]
    found += _mapping_differences("parent", old.parents, new.parents)
    found += _mapping_differences("base", old.bases, new.bases)
    found += _mapping_differences("build argument", old.build_args, new.build_args)
    if old.platform != new.platform:
        found.append(Difference("~", "platform", "platform", old.platform, new.platform))
    if old.context != new.context:
        found.append(Difference("~", "build context", "context", old.context, new.context))
    return found


def _file_differences(
    old: Mapping[str, tuple[str, str]], new: Mapping[str, tuple[str, str]]
) -> Iterable[Difference]:
    for path in sorted(old.keys() | new.keys()):
        if path not in old:
            yield Difference("+", "file", path, new=new[path][1])
        elif path not in new:
            yield Difference("-", "file", path, old=old[path][1])
        elif old[path][1] != new[path][1]:
            yield Difference("~", "file", path, old[path][1], new[path][1])
        elif old[path][0] != new[path][0]:
            yield Difference("~", "mode", path, old[path][0], new[path][0])


def _mapping_differences(
    kind: str, old: Mapping[str, str], new: Mapping[str, str]
) -> Iterable[Difference]:
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            sign = "+" if name not in old else "-" if name not in new else "~"
            yield Difference(sign, kind, name, old.get(name, ""), new.get(name, ""))
