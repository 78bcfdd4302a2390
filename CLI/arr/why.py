"""Why an image is stale: its inputs now against those of a tag that was built."""

from __future__ import annotations

from dataclasses import dataclass

from arr.errors import UsageError
from arr.planning import last_inputs, open_registry, recorded_inputs
from arr.project import Project
from arr.registry.client import Registry
from arr.stack import git as gits
from arr.stack.graph import Node
from arr.stack.inputs import Difference, Inputs, differences


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs; `against` is None when the image was never built for this registry."""

    image: str
    tag: str
    inputs: int
    against: str | None
    differences: tuple[tuple[Difference, tuple[int, int] | None], ...]


def compare(project: Project, image: str, against: str | None) -> Comparison:
    """Compare the image's inputs in this commit with those of a tag, or of the last built one.

    Raises UsageError if the registry keeps no inputs of the tag named.
    """
    node = project.graph.node(image)
    with open_registry(project, start=False) as registry:
        if against is None:
            old = last_inputs(project, registry, node)
        else:
            old = _of_tag(registry, node, against)
    now = project.inputs[image]
    found = differences(old, now, node) if old else []
    return Comparison(
        image,
        now.tag,
        len(now.files),
        old.tag if old else None,
        tuple((d, _lines(project, d)) for d in found),
    )


def _of_tag(registry: Registry | None, node: Node, tag: str) -> Inputs:
    found = recorded_inputs(registry, node, tag) if registry else None
    if found is None:
        where = registry.prefix if registry else "the embedded registry"
        raise UsageError(
            f"{where} keeps no inputs of {node.repository}:{tag}",
            f"`arr images history {node.name}` lists the tags that were built.",
        )
    return found


def _lines(project: Project, difference: Difference) -> tuple[int, int] | None:
    if difference.sign != "~" or difference.path is None or difference.kind == "mode":
        return None
    return gits.line_changes(project.root, difference.old, difference.new)
