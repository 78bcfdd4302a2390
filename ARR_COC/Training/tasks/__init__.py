"""Tasks whose answers are known: generated images, questions, and the place of the evidence."""

from __future__ import annotations

from collections.abc import Callable

from ARR_COC.Training.examples import Source
from ARR_COC.Training.tasks import counting, forms, frames, salient
from ARR_COC.Training.tasks.digits import Part

_SOURCES: dict[str, Callable[..., Source]] = {
    "frames": frames.Frames,
    "forms": forms.Forms,
    "salient": salient.Salient,
    "counting": counting.Counting,
}
NAMES = tuple(_SOURCES)


def source(name: str, part: Part, seed: int, questions: int) -> Source:
    """Return the stream of a task. Raises ValueError for a name that is none of NAMES."""
    if name not in _SOURCES:
        raise ValueError(f"there is no task {name!r}; tasks: {', '.join(NAMES)}")
    return _SOURCES[name](part, seed, questions)


def words() -> tuple[str, ...]:
    """Return the words of all tasks, in a fixed order: the vocabulary of a tiny reader."""
    every = (*frames.WORDS, *forms.WORDS, *salient.WORDS, *counting.WORDS)
    return tuple(dict.fromkeys(every))
