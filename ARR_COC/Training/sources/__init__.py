"""Where training data comes from: each kind of source, its options, and how one is opened."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from ARR_COC.images import BadInput
from ARR_COC.Training.examples import Source
from ARR_COC.Training.sources.folder import PARTS, Folder, FolderOptions, Part
from ARR_COC.Training.sources.hub import Hub, HubOptions
from ARR_COC.Training.sources.shuffled import Shuffled

__all__ = ["PARTS", "SOURCES", "Part", "Shuffled", "open_source"]

SOURCES: dict[str, tuple[type[Any], Callable[[Any, Part], Source]]] = {
    "folder": (FolderOptions, Folder),
    "hub": (HubOptions, Hub),
}
"""For each kind its options (a dataclass) and what opens it."""

_KINDS = {"str": (str,), "str | None": (str, type(None)), "float": (float, int)}


def open_source(kind: str, part: Part, options: Mapping[str, Any]) -> Source:
    """Return the part of a source of the given kind.

    Raises BadInput for an unknown kind or option, an option that is missing or of another type, and
    whatever the source itself refuses.
    """
    if kind not in SOURCES:
        raise BadInput(f"there is no source {kind!r}; there are {', '.join(SOURCES)}")
    settings, opened = SOURCES[kind]
    known = {entry.name: entry for entry in fields(settings)}
    for name, value in options.items():
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise BadInput(
                f"source {kind}: there is no option {name!r}; the nearest is {nearest!r}. "
                f"Options: {', '.join(known)}"
            )
        if type(value) not in _KINDS[str(known[name].type)]:
            raise BadInput(f"source {kind}: {name} must be {known[name].type}, not {value!r}")
    for name, entry in known.items():
        if entry.default is MISSING and name not in options:
            raise BadInput(f"source {kind}: give the option {name}")
    return opened(settings(**options), part)
