"""One stream of events, three faces: a live terminal, plain lines, JSON lines."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import click
import msgspec

from arr.cli.output import drop_output
from arr.cli.render import plan as plans
from arr.cli.render.result import finished
from arr.cli.render.text import duration
from arr.events import (
    AliasesMoved,
    Emit,
    Event,
    ImageDone,
    ImageFailed,
    ImageLog,
    ImageSkipped,
    ImageStep,
    Notice,
    Planned,
    RunFinished,
    RunLog,
    RunQueued,
    RunStarted,
)


@contextlib.contextmanager
def face(kind: str) -> Iterator[Emit]:
    """Give what shows events as `kind` says: auto, terminal, plain or json."""
    if kind == "json":
        yield json_lines
    elif kind == "terminal" or (kind == "auto" and sys.stdout.isatty()):
        from arr.cli.render.terminal import Board

        with Board() as board:
            yield board.show
    else:
        yield plain


def json_lines(event: Event) -> None:
    """Print an event as one line of JSON; `event` in it says its kind."""
    _echo(msgspec.json.encode(event))


def plain(event: Event) -> None:
    """Print what a person should read of an event, if anything."""
    text = words(event)
    if text is not None:
        _echo(text)


def _echo(text: str | bytes) -> None:
    """Print at once. When the reader is gone the work goes on, and says no more."""
    try:
        click.echo(text)
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()


def words(event: Event) -> str | None:
    """Return an event in words; None for one that says nothing by itself."""
    match event:
        case Planned():
            return plans.text(event) + "\n"
        case Notice():
            return click.style(event.text, fg="yellow")
        case ImageStep():
            usual = f" (usually {duration(event.usual_seconds)})" if event.usual_seconds else ""
            detail = f" {event.detail}" if event.detail else ""
            return f"{event.image}: {event.step}{detail}{usual if event.step == 'build' else ''}"
        case ImageLog():
            return None
        case ImageDone():
            took = duration(event.seconds)
            return click.style(f"{event.image}: done in {took}, {event.tag}", fg="green")
        case ImageFailed():
            return failure(event)
        case ImageSkipped():
            return click.style(f"{event.image}: skipped, {event.because}", fg="yellow")
        case AliasesMoved():
            return f":latest moved for {', '.join(event.images)}"
        case RunQueued():
            return f"run {event.run}: queued, image {event.image}"
        case RunStarted():
            return f"run {event.run}: started"
        case RunLog():
            return event.line
        case RunFinished():
            return finished(event)
        case _:
            return None


def failure(event: ImageFailed) -> str:
    """The last lines of a failed image's log, and what went wrong."""
    head = f"{event.image}: failed at {event.step} after {duration(event.seconds)}"
    tail = [f"  | {line}" for line in event.tail]
    body = [click.style(head, fg="red"), *tail, f"  {event.error}".replace("\n", "\n  ")]
    return "\n".join([*body, f"  whole log: {event.log}"])
