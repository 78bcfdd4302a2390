"""The live terminal: a row an image, its step, elapsed against usual time, its last log line."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from arr.cli.render.progress import words
from arr.cli.render.text import duration
from arr.events import (
    AliasesMoved,
    Event,
    ImageDone,
    ImageFailed,
    ImageLog,
    ImageSkipped,
    ImageStep,
    Planned,
    RunQueued,
)


@dataclass(slots=True)
class Row:
    """What is shown of one image."""

    image: str
    state: str = "waits"
    step: str = ""
    began: float = 0.0
    took: float | None = None
    usual: float | None = None
    line: str = ""


_STYLES = {"waits": "dim", "works": "yellow", "done": "green", "failed": "red", "skipped": "yellow"}


class Board:
    """Shows events on a terminal; what is final is printed above the rows and stays."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._rows: dict[str, Row] = {}
        self._live: Live | None = None

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._settle()

    def show(self, event: Event) -> None:
        """Take an event in."""
        match event:
            case Planned():
                self._print(event)
                self._begin(event)
            case ImageStep() | ImageLog() | ImageDone() | ImageFailed() | ImageSkipped():
                self._update(event)
                if isinstance(event, ImageFailed):
                    self._print(event)
            case AliasesMoved() | RunQueued():
                self._settle()
                self._print(event)
            case _:
                self._print(event)

    def _begin(self, plan: Planned) -> None:
        self._rows = {
            image.image: Row(image.image, usual=image.usual_seconds)
            for image in plan.images
            if image.action == "build"
        }
        if self._rows:
            self._live = Live(
                get_renderable=self._table, console=self._console, refresh_per_second=4
            )
            self._live.start()

    def _update(self, event: ImageStep | ImageLog | ImageDone | ImageFailed | ImageSkipped) -> None:
        row = self._rows.setdefault(event.image, Row(event.image))
        match event:
            case ImageStep():
                row.state, row.step = "works", event.step
                row.began = row.began or event.at
                row.line = event.detail
            case ImageLog():
                row.line = event.line or row.line
            case ImageDone():
                row.state, row.step, row.line, row.took = "done", event.tag, "", event.seconds
            case ImageFailed():
                row.state, row.line, row.took = "failed", "", event.seconds
            case ImageSkipped():
                row.state, row.line = "skipped", event.because

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, expand=True)
        for head in ("image", "", "step", "time"):
            table.add_column(head, no_wrap=True)
        table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
        now = time.time()
        for row in self._rows.values():
            elapsed = row.took if row.took is not None else (now - row.began if row.began else None)
            usual = f" / {duration(row.usual)}" if row.usual else ""
            table.add_row(
                row.image,
                Text(row.state, _STYLES[row.state]),
                row.step,
                f"{duration(elapsed)}{usual}",
                Text(row.line.strip(), "dim"),
            )
        return table

    def _print(self, event: Event) -> None:
        text = words(event)
        if text is not None:
            self._console.print(Text.from_ansi(text), soft_wrap=True)

    def _settle(self) -> None:
        """Leave the rows as they are and go on below them."""
        if self._live is not None:
            self._live.refresh()
            self._live.stop()
            self._live = None
