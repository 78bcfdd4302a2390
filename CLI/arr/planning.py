"""Making the plan: the commit's tags, what the registry says of them, and what was built last."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arr.errors import ArrError, AuthError, ConfigError, RegistryError
from arr.events import Planned, PlannedImage
from arr.project import Project
from arr.registry.labels import FINGERPRINT_LABEL
from arr.stack import check as checks
from arr.stack import git as gits
from arr.stack import inputs as inputses
from arr.stack import plan as plans
from arr.stack.check import Findings
from arr.stack.git import Change, printable
from arr.stack.graph import Graph, Node
from arr.stack.inputs import Inputs
from arr.stack.plan import Action, Found, Presence, Step

if TYPE_CHECKING:
    from arr.registry.client import Registry
    from arr.registry.embedded import Embedded


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a commit, and all that a person should see with it."""

    commit: str
    target: str
    registry: str
    graph: Graph
    steps: tuple[Step, ...]
    findings: tuple[Findings, ...]
    dirty: tuple[Change, ...]
    bases: tuple[str, ...]

    @property
    def stale(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.action is Action.BUILD)


def prepare(project: Project) -> None:
    """Read the commit, and meanwhile load what asks the registry: that takes longer than to ask.

    Only time is gained by it. Raises what reading the stack raises.
    """
    threading.Thread(target=_load_registry, name="arr-load", daemon=True).start()
    _ = project.graph


def _load_registry() -> None:
    from arr.registry.client import Registry

    Registry("http://127.0.0.1").close()  # the transport is loaded by the first client


def embedded(project: Project) -> Embedded:
    """The embedded registry of this clone."""
    from arr.registry.embedded import Embedded

    return Embedded(project.arr_folder / "registry")


@contextlib.contextmanager
def open_registry(project: Project, *, start: bool) -> Iterator[Registry | None]:
    """Open the registry of the settings, or the embedded one.

    The embedded one is started when it holds anything, or when `start` is asked; otherwise there
    is none yet and None is given: it holds no image for certain.
    """
    from arr.registry.auth import find_credentials
    from arr.registry.client import Registry

    url = project.settings.registry.url
    if url is None and project.target != "local":
        raise ConfigError(
            f"the target {project.target} has no registry",
            "Set registry.url in arr.toml, or ARR_REGISTRY_URL.",
        )
    if url is None:
        own = embedded(project)
        if not start and not own.folder.is_dir():
            yield None
            return
        url = own.start()
    host = url.partition("://")[2].partition("/")[0]
    with Registry(
        url, credentials=lambda: find_credentials(host, project.environ, Path.home())
    ) as registry:
        yield registry


def make_plan(project: Project, registry: Registry | None, images: Sequence[str] = ()) -> Plan:
    """Make the plan for `images` and what they build FROM, or for all of the stack.

    Raises ManifestError for a manifest that misses a file, RegistryError if any image could not
    be looked up or a tag is taken by other content.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        changes = pool.submit(gits.changes, project.root)
        return _make_plan(project, registry, images, changes)


def _make_plan(
    project: Project,
    registry: Registry | None,
    images: Sequence[str],
    changes: Future[list[Change]],
) -> Plan:
    graph = project.graph.with_ancestors(images)
    findings = [checks.check(node, graph, project.commit) for node in graph]
    checks.require_listed(findings)
    inputs = {node.name: project.inputs[node.name] for node in graph}
    found = _look_up(project, registry, graph, inputs)
    unread: dict[str, ArrError] = {}
    steps = plans.plan(
        graph,
        inputs,
        found,
        lambda image: _last_readable(project, registry, graph.node(image), unread),
        project.state.usual_seconds,
        lambda old, new: gits.line_changes(project.root, old, new),
    )
    steps = [_with_unread(step, unread.get(step.image)) for step in steps]
    bases = {base for node in graph for base in node.bases}
    return Plan(
        project.commit.id,
        project.target,
        registry.prefix if registry else "embedded registry (not started yet)",
        graph,
        tuple(steps),
        tuple(findings),
        tuple(project.dirty(graph, changes.result())),
        tuple(f"{base}: {project.pins[base]}" for base in sorted(bases)),
    )


def planned(plan: Plan, now: float) -> Planned:
    """Return the plan as an event."""
    return Planned(
        at=now,
        commit=plan.commit,
        target=plan.target,
        registry=plan.registry,
        images=[
            PlannedImage(
                step.image,
                step.repository,
                step.tag,
                step.fingerprint,
                list(step.parents),
                step.found.presence.value,
                step.action.value,
                step.reason,
                [printable(path) for path in step.changed],
                step.usual_seconds,
            )
            for step in plan.steps
        ],
        bases=list(plan.bases),
        uncommitted=[str(change) for change in plan.dirty],
        warnings=[
            f"{finding.manifest} lists {printable(path)}, which no instruction of "
            f"{finding.dockerfile} uses"
            for finding in plan.findings
            for path in finding.unused
        ],
    )


def last_inputs(project: Project, registry: Registry | None, node: Node) -> Inputs | None:
    """Return what the image was last built from: here, or else on any machine by `:latest`.

    Returns None if it was never built for this registry.
    """
    if registry is None:
        return None
    build = project.state.last_built(node.name, registry.prefix)
    if build is not None:
        return inputses.parse(build.inputs)
    if registry.head(node.repository, "latest") is None:
        return None
    latest = registry.config(node.repository, "latest", node.spec.platform)
    fingerprint = latest.labels.get(FINGERPRINT_LABEL, "")
    return recorded_inputs(registry, node, fingerprint[-inputses.TAG_LENGTH :])


def _last_readable(
    project: Project, registry: Registry | None, node: Node, unread: dict[str, ArrError]
) -> Inputs | None:
    """As last_inputs; what cannot be read is noted and stops nothing: only a reason needs it."""
    try:
        return last_inputs(project, registry, node)
    except AuthError:
        raise
    except ArrError as error:
        unread[node.name] = error
        return None


def _with_unread(step: Step, error: ArrError | None) -> Step:
    if error is None:
        return step
    why = f"not in this registry; what it was last built from cannot be read: {error.message}"
    return dataclasses.replace(step, reason=" ".join(why.split()))


def recorded_inputs(registry: Registry, node: Node, tag: str) -> Inputs | None:
    """Return the inputs that the registry keeps beside a tag; None if it has none."""
    from arr.registry import records

    record = records.read(registry, node.repository, tag) if tag else None
    return inputses.parse(record.inputs) if record else None


def _look_up(
    project: Project, registry: Registry | None, graph: Graph, inputs: Mapping[str, Inputs]
) -> dict[str, Found]:
    if registry is None:
        return {node.name: Found(Presence.ABSENT) for node in graph}
    with ThreadPoolExecutor(max_workers=8) as pool:
        asked = {
            node.name: pool.submit(_presence, project, registry, node, inputs[node.name])
            for node in graph
        }
        return {name: future.result() for name, future in asked.items()}


def _presence(project: Project, registry: Registry, node: Node, inputs: Inputs) -> Found:
    try:
        digest = registry.head(node.repository, inputs.tag)
        if digest is None:
            return Found(Presence.ABSENT)
        fingerprint = _fingerprint(project, registry, node, digest)
    except AuthError:
        raise
    except RegistryError as error:
        return Found(Presence.UNKNOWN, problem=str(error).replace("\n", "\n  "))
    if fingerprint != inputs.fingerprint:
        raise _collision(registry, node, inputs, fingerprint)
    return Found(Presence.PRESENT, digest)


def _fingerprint(project: Project, registry: Registry, node: Node, digest: str) -> str:
    """The full fingerprint on an image; a digest that was looked at before need not be again."""
    known = project.state.label(digest)
    if known is not None:
        return known
    labels = registry.config(node.repository, digest, node.spec.platform).labels
    fingerprint = labels.get(FINGERPRINT_LABEL, "")
    project.state.add_label(digest, fingerprint)
    return fingerprint


def _collision(registry: Registry, node: Node, inputs: Inputs, other: str) -> ArrError:
    what = f"the fingerprint {other}" if other else "no fingerprint: arr did not build it"
    return RegistryError(
        f"{registry.prefix}/{node.repository}:{inputs.tag} is taken: the image there has {what}, "
        f"but this commit's inputs give {inputs.fingerprint}",
        "It is not used. Delete that tag from the registry, or change any input (a comment in "
        f"{node.dockerfile.path} is enough), commit, and run it again.",
    )
