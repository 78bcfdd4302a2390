"""What the registry holds of the stack, and how it came there."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime

from arr.planning import open_registry
from arr.project import Project
from arr.registry import records
from arr.registry.client import Registry
from arr.registry.images import list_images
from arr.registry.labels import BUILT_AT, COMMIT, REASON, SECONDS
from arr.stack.graph import Node


@dataclass(frozen=True, slots=True)
class Stored:
    """One image in the registry; `aliases` are further tags of the same digest, such as latest."""

    image: str
    repository: str
    tag: str
    digest: str
    size: int | None
    built_at: float | None
    fingerprint: str | None
    in_plan: bool
    aliases: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class PastBuild:
    """One build of an image; `when` is in seconds since the epoch."""

    tag: str
    when: float | None
    seconds: float | None
    outcome: str
    commit: str
    reason: str

    def as_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)


def stored(project: Project) -> list[Stored]:
    """Return the images of the stack that the registry holds, parents first, newest first."""
    found: list[Stored] = []
    with open_registry(project, start=False) as registry:
        if registry is None:
            return []
        for node in project.graph:
            found += _of_image(registry, node, project.inputs[node.name].tag)
    return found


def _of_image(registry: Registry, node: Node, planned_tag: str) -> list[Stored]:
    by_digest: dict[str, list[str]] = {}
    images = {}
    for image in list_images(registry, node.repository):
        by_digest.setdefault(image.digest, []).append(image.tag)
        # Only an image's own tag has a record, so only that row knows when it was built.
        if image.built_at or image.digest not in images:
            images[image.digest] = image
    rows = []
    for digest, tags in by_digest.items():
        image = images[digest]
        own = (image.fingerprint or "")[-7:]
        tag = own if own in tags else tags[0]
        rows.append(
            Stored(
                node.name,
                node.repository,
                tag,
                digest,
                image.size,
                _seconds(image.built_at or image.created),
                image.fingerprint,
                tag == planned_tag,
                tuple(t for t in sorted(tags) if t != tag),
            )
        )
    return sorted(rows, key=lambda row: -(row.built_at or 0))


def history(project: Project, image: str) -> list[PastBuild]:
    """Return the builds of an image, newest first: this clone's own, and others by the registry."""
    node = project.graph.node(image)
    own = [
        PastBuild(b.tag, b.started, b.seconds, b.outcome, b.commit_id, b.reason)
        for b in project.state.builds(image)
    ]
    known = {build.tag for build in own if build.outcome in ("built", "kept")}
    with open_registry(project, start=False) as registry:
        others = _recorded(registry, node, known) if registry else []
    return sorted([*own, *others], key=lambda build: -(build.when or 0))


def _recorded(registry: Registry, node: Node, known: set[str]) -> list[PastBuild]:
    found = []
    for tag in registry.tags(node.repository):
        own = tag.removesuffix(".inputs")
        if not records.is_record_tag(tag) or own in known:
            continue
        record = records.read(registry, node.repository, own)
        if record is not None:
            notes = record.annotations
            found.append(
                PastBuild(
                    own,
                    _seconds(notes.get(BUILT_AT)),
                    _number(notes.get(SECONDS)),
                    "built",
                    notes.get(COMMIT, ""),
                    notes.get(REASON, ""),
                )
            )
    return found


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _seconds(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
