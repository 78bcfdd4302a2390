"""Which images must be built, and why: the plan is made whole before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from arr.errors import RegistryError
from arr.stack.git import printable
from arr.stack.graph import Graph
from arr.stack.inputs import Difference, Inputs, differences


class Presence(Enum):
    """What the registry says of a tag. UNKNOWN is never read as either of the others."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "could not tell"


class Action(Enum):
    BUILD = "build"
    REUSE = "reuse"


@dataclass(frozen=True, slots=True)
class Found:
    """The registry's answer for one tag: its digest if it is there, the problem if unknown."""

    presence: Presence
    digest: str | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One image of the plan: its tag, what will be done with it, and the reason a person reads."""

    image: str
    repository: str
    inputs: Inputs
    parents: tuple[str, ...]
    found: Found
    action: Action
    reason: str
    changed: tuple[str, ...]
    usual_seconds: float | None

    @property
    def tag(self) -> str:
        return self.inputs.tag

    @property
    def fingerprint(self) -> str:
        return self.inputs.fingerprint


LineChanges = Callable[[str, str], tuple[int, int] | None]


def plan(
    graph: Graph,
    inputs: Mapping[str, Inputs],
    found: Mapping[str, Found],
    last_built: Callable[[str], Inputs | None],
    usual_seconds: Callable[[str], float | None],
    line_changes: LineChanges,
) -> list[Step]:
    """Return one step an image, parents first.

    `last_built(image)` is asked only for absent images. Raises RegistryError if any presence is
    UNKNOWN: a guess would either rebuild for hours or train on a stale image.
    """
    unknown = [f for f in found.values() if f.presence is Presence.UNKNOWN]
    if unknown:
        raise RegistryError(
            "could not tell which images the registry holds:\n"
            + "\n".join(f"  {f.problem}" for f in unknown),
            "Nothing was built. Mend the registry or the network and run it again.",
        )
    steps = []
    for node in graph:
        own = inputs[node.name]
        present = found[node.name].presence is Presence.PRESENT
        old = None if present else last_built(node.name)
        changed = differences(old, own, node) if old else []
        steps.append(
            Step(
                node.name,
                node.repository,
                own,
                tuple(dict.fromkeys(node.parents.values())),
                found[node.name],
                Action.REUSE if present else Action.BUILD,
                "unchanged" if present else reason(old, changed, line_changes),
                tuple(d.path for d in changed if d.path),
                usual_seconds(node.name),
            )
        )
    return steps


def reason(old: Inputs | None, changed: Sequence[Difference], line_changes: LineChanges) -> str:
    """Say in words why an absent image must be built; `old` is what it was last built from."""
    if old is None:
        return "never built: not in this registry"
    if not changed:
        return "not in this registry: this content was built before, but the image is gone"
    # What an image changed itself comes before what its parents hand down.
    ordered = sorted(changed, key=lambda d: d.kind == "parent")
    parts = [_part(d, line_changes) for d in ordered[:3]]
    rest = len(changed) - len(parts)
    return ", ".join(parts) + (f" and {rest} more" if rest > 0 else "")


def _part(difference: Difference, line_changes: LineChanges) -> str:
    if difference.path and difference.sign == "~" and difference.kind != "mode":
        lines = line_changes(difference.old, difference.new)
        if lines is not None:
            return f"{printable(difference.name)} changed (+{lines[0]} -{lines[1]} lines)"
    return difference.phrase
