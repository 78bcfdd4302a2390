"""How the images of a stack build FROM one another on one target, parents first."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from arr.errors import ConfigError, DockerfileError, ManifestError
from arr.stack import context as contexts
from arr.stack import dockerfile as dockerfiles
from arr.stack import manifest as manifests
from arr.stack.context import IgnoreFile
from arr.stack.dockerfile import Dockerfile
from arr.stack.git import Commit
from arr.stack.manifest import Manifest
from arr.stack.stackfile import PATH, TARGETS, Image, Stack


@dataclass(frozen=True, slots=True)
class Node:
    """One image as a target builds it. `parents` and `bases` by the reference that names them."""

    name: str
    spec: Image
    dockerfile: Dockerfile
    manifest: Manifest
    ignore_path: str | None
    ignore: IgnoreFile
    parents: Mapping[str, str]
    bases: tuple[str, ...]

    @property
    def repository(self) -> str:
        return self.spec.repository


@dataclass(frozen=True, slots=True)
class Graph:
    """The images of one target by name, in an order in which parents come first."""

    target: str
    nodes: Mapping[str, Node]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def with_ancestors(self, names: Iterable[str]) -> Graph:
        """Return the part that building `names` needs. Raises ConfigError for an unknown name."""
        wanted: set[str] = set()
        todo = list(names) or list(self.nodes)
        while todo:
            name = todo.pop()
            if name not in self.nodes:
                raise _unknown_image(name, self.nodes)
            if name not in wanted:
                wanted.add(name)
                todo.extend(self.nodes[name].parents.values())
        return Graph(self.target, {n: node for n, node in self.nodes.items() if n in wanted})

    def node(self, name: str) -> Node:
        """Return the image `name`. Raises ConfigError with the nearest known name."""
        if name not in self.nodes:
            raise _unknown_image(name, self.nodes)
        return self.nodes[name]


def build(stack: Stack, commit: Commit, target: str) -> Graph:
    """Read the stack's Dockerfiles and manifests from the commit and join them.

    Raises ConfigError, DockerfileError or ManifestError for a file that is missing or cannot be
    read, a FROM that is neither an image of the stack nor a base, and a circle of parents.
    """
    commit.fetch(path for image in stack.images.values() for path in _read_files(image, target))
    nodes = {}
    for name, image in stack.images.items():
        path = image.dockerfile_for(target)
        if path is not None:
            nodes[name] = _node(name, image, path, stack, commit, target)
    return Graph(target, {name: nodes[name] for name in _order(nodes)})


def _read_files(image: Image, target: str) -> Iterator[str]:
    dockerfile, folder = image.dockerfile_for(target), image.folder.rstrip("/")
    if dockerfile is not None:
        yield from (dockerfile, f"{dockerfile}.dockerignore")
        yield from (f"{folder}/{manifests.NAME}", f"{folder}/Dockerfile.dockerignore")


def _node(name: str, image: Image, path: str, stack: Stack, commit: Commit, target: str) -> Node:
    manifest_path = f"{image.folder.rstrip('/')}/{manifests.NAME}"
    if path not in commit.tree:
        raise DockerfileError(
            f"{name}: there is no committed file {path}",
            f"Commit it, or correct images.{name}.dockerfile in {PATH}.",
        )
    if manifest_path not in commit.tree:
        raise ManifestError(
            f"{name}: there is no committed file {manifest_path}",
            "Write the paths that decide the image into it, one a line, and commit it.",
        )
    args = image.build_args_for(target)
    dockerfile = dockerfiles.parse(path, commit.text(path), args)
    for argument in args:
        if argument not in dockerfile.arguments:
            close = difflib.get_close_matches(argument, dockerfile.arguments, 1)
            raise ConfigError(
                f"{PATH}: build argument {argument} of {name} is declared by no ARG of {path}",
                f"Did you mean {close[0]}?" if close else f"Add `ARG {argument}` to {path}.",
            )
    parents: dict[str, str] = {}
    bases: list[str] = []
    for instruction, reference in dockerfile.external():
        parent = _image_of(reference, stack, target)
        if parent is not None:
            parents[reference] = parent
        elif reference in stack.bases:
            bases.append(reference)
        else:
            raise _unknown_reference(path, instruction.first, reference, stack, target)
    ignore_path = _ignore_path(path, image, commit)
    ignore = IgnoreFile()
    if ignore_path:
        ignore = contexts.parse_ignore(ignore_path, commit.text(ignore_path, "surrogateescape"))
    manifest = manifests.parse(
        manifest_path, commit.text(manifest_path, "surrogateescape"), TARGETS
    )
    return Node(
        name, image, dockerfile, manifest, ignore_path, ignore, parents, tuple(dict.fromkeys(bases))
    )


def _image_of(reference: str, stack: Stack, target: str) -> str | None:
    """The image of the stack that a reference such as `arr-ml-stack:latest` means, or None."""
    repository, _, _tag = reference.partition(":")
    built = {name: i.repository for name, i in stack.images.items() if i.dockerfile_for(target)}
    if repository in built:
        return repository
    return next((name for name, folder in built.items() if folder == repository), None)


def _ignore_path(dockerfile: str, image: Image, commit: Commit) -> str | None:
    """`NAME.dockerignore` beside the Dockerfile, as docker looks for it, or the image's own."""
    own = f"{image.folder.rstrip('/')}/Dockerfile.dockerignore"
    return next((p for p in (f"{dockerfile}.dockerignore", own) if p in commit.tree), None)


def _unknown_reference(
    path: str, line: int, reference: str, stack: Stack, target: str
) -> ConfigError:
    elsewhere = next((n for t in TARGETS if (n := _image_of(reference, stack, t))), None)
    if elsewhere:
        return ConfigError(
            f"{path}:{line}: the image {elsewhere} has no Dockerfile for the target {target}",
            f"Name one for {target} under images.{elsewhere}.dockerfile in {PATH}.",
        )
    close = difflib.get_close_matches(reference.partition(":")[0], stack.images, 1)
    close = close or difflib.get_close_matches(reference, stack.bases, 1)
    hint = f"Did you mean {close[0]}? Otherwise a" if close else "A"
    return ConfigError(
        f"{path}:{line}: {reference} is neither an image of the stack nor a base",
        f'{hint}dd it to {PATH} as [images.NAME] or as [bases."{reference}"].',
    )


def _unknown_image(name: str, known: Iterable[str]) -> ConfigError:
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    return ConfigError(
        f"the stack has no image {name}",
        f"Did you mean {close[0]}?" if close else f"Its images are: {', '.join(names)}.",
    )


def _order(nodes: Mapping[str, Node]) -> list[str]:
    sorter = TopologicalSorter({n: list(node.parents.values()) for n, node in nodes.items()})
    try:
        return list(sorter.static_order())
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise ConfigError(
            f"the images build FROM one another in a circle: {circle}",
            "Change the FROM of one of them to a base.",
        ) from error
