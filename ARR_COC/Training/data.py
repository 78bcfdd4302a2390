"""What a command's --data names: the examples that the trainer would examine on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ARR_COC.images import BadInput
from ARR_COC.Training import tasks
from ARR_COC.Training.examples import Source
from ARR_COC.Training.feed import EVALUATION_SEED, HUB
from ARR_COC.Training.sources import open_source

QUESTIONS = 6
"""About each generated image, as in the trainer's defaults."""


def open_data(name: str, options: Sequence[str] = ()) -> Source:
    """Return the test part of a task, or the validation part of a folder or of hub:NAME.

    A name is a task's first, so that a folder of the same name is ./NAME. options: KEY=VALUE of the
    source, such as answer=multiple_choice_answer. Raises BadInput for what cannot be used.
    """
    if name in tasks.NAMES:
        if options:
            raise BadInput(f"--option {options[0]}: the task {name} has no options; leave it out")
        return tasks.source(name, "test", EVALUATION_SEED, QUESTIONS)
    given = dict(_pair(option) for option in options)
    if name.startswith(HUB):
        return open_source("hub", "validation", {**given, "name": name.removeprefix(HUB)})
    if not Path(name).is_dir():
        raise BadInput(
            f"--data {name}: is neither one of {', '.join(tasks.NAMES)}, nor a folder, "
            f"nor {HUB}NAME for a data set of the hub"
        )
    return open_source("folder", "validation", {**given, "path": name})


def _pair(option: str) -> tuple[str, str | float]:
    """Return the name and the value of an option; the one that is a number comes as a number."""
    name, equals, value = option.partition("=")
    if not equals:
        raise BadInput(f"--option {option}: write it as KEY=VALUE")
    if name != "validation_share":
        return name, value
    try:
        return name, float(value)
    except ValueError as error:
        raise BadInput(f"--option {option}: must be a number") from error
