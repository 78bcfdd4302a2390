"""What happens during a launch, as data: one stream of events feeds every face."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Something that happened. `at` is seconds since the epoch; the renderers add nothing to it."""

    at: float = 0.0


class PlannedImage(msgspec.Struct, frozen=True):
    image: str
    repository: str
    tag: str
    fingerprint: str
    parents: list[str]
    presence: str
    action: str
    reason: str
    changed: list[str]
    usual_seconds: float | None


class Planned(Event, frozen=True, tag="planned"):
    """The plan is made; nothing has been built yet."""

    commit: str
    target: str
    registry: str
    images: list[PlannedImage]
    bases: list[str]
    uncommitted: list[str]
    warnings: list[str]


class Notice(Event, frozen=True, tag="notice"):
    """Something a person should know that stops nothing."""

    text: str


class ImageStep(Event, frozen=True, tag="image-step"):
    """An image goes into a step: waiting, wheels, base, build, smoke, push."""

    image: str
    step: str
    detail: str = ""
    usual_seconds: float | None = None


class ImageLog(Event, frozen=True, tag="image-log"):
    image: str
    line: str


class ImageDone(Event, frozen=True, tag="image-done"):
    """An image is in the registry."""

    image: str
    tag: str
    digest: str
    seconds: float


class ImageFailed(Event, frozen=True, tag="image-failed"):
    """An image could not be made; `tail` are the last lines of its log."""

    image: str
    step: str
    error: str
    log: str
    tail: list[str]
    seconds: float


class ImageSkipped(Event, frozen=True, tag="image-skipped"):
    image: str
    because: str


class AliasesMoved(Event, frozen=True, tag="aliases-moved"):
    """`:latest` of these images now names what the launch made or found."""

    images: list[str]


class RunQueued(Event, frozen=True, tag="run-queued"):
    run: str
    image: str
    folder: str


class RunStarted(Event, frozen=True, tag="run-started"):
    run: str


class RunLog(Event, frozen=True, tag="run-log"):
    run: str
    line: str


class RunFinished(Event, frozen=True, tag="run-finished"):
    """A run ended; `result` is what the training wrote, None if it wrote nothing."""

    run: str
    status: str
    exit_code: int
    seconds: float
    folder: str
    log: str
    fault: str
    result: dict[str, object] | None


Emit = Callable[[Event], None]
