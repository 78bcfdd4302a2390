"""The agent's output as lines, with bounded memory, and which of them are worth a closer look."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable

from watch_dull import KEPT, Dull, Shapes, cut, shapes_of

CONTEXT = 50
"""Lines that are shown when the agent is ended."""
BEFORE = 10
AFTER = 20
"""Lines around one with a trigger that are looked at too: evidence may span several."""

_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_]|[ -/]+[0-~])"
)
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def text_of(line: bytes) -> str:
    """Return a line as people see it: no terminal escapes, what is not UTF-8 replaced."""
    return _UNSEEN.sub("", _ESCAPE.sub("", line.decode("utf-8", "replace")))


def states_of(line: bytes) -> list[str]:
    """Return what stood in a line: a progress bar rewrites it with carriage returns."""
    return [part.rstrip() for part in text_of(line).split("\r") if part] or [""]


class Unfinished:
    """A line that has not ended yet, however long it gets."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self.length = 0

    def add(self, data: bytes) -> None:
        self.length += len(data)
        room = KEPT - len(self._head)
        self._head += data[:room]
        self._tail += data[room:][-KEPT:] if room > 0 else data[-KEPT:]
        del self._tail[:-KEPT]

    def line(self) -> bytes:
        """Return what is known of it: the whole, or its start and its end."""
        gap = b" [...] " if self.length > len(self._head) + len(self._tail) else b""
        return bytes(self._head) + gap + bytes(self._tail)

    def clear(self) -> None:
        self._head.clear()
        self._tail.clear()
        self.length = 0


class Lines:
    """Splits a stream into lines and gives `look` those that may matter; keeps the last of all.

    A line may matter if it has one of the `triggers` (lower-case; digits do not count), if it is
    near one that has, or if it is one of those that `look` asked for: it returns how many of the
    next it wants. When `look` is called, `recent` ends with that line. What was looked at without
    effect is not looked at again and again: see watch_dull, which is told the `numbers`.
    """

    def __init__(
        self, triggers: Iterable[bytes], numbers: Iterable[bytes], look: Callable[[bytes], int]
    ) -> None:
        self._shapes = Shapes(triggers)
        self._dull = Dull(numbers)
        self._look = look
        self._near = 0  # so many of the next lines may matter
        self._wanted = 0  # so many of the next lines were asked for
        self._unlooked = 0  # so many of the last lines were not looked at
        self.recent: deque[bytes] = deque(maxlen=CONTEXT)
        self.unfinished = Unfinished()

    def feed(self, chunk: bytes) -> None:
        """Take in what came."""
        end = chunk.rfind(b"\n")
        if end < 0:
            self.unfinished.add(chunk)
            return
        start = 0
        if self.unfinished.length:
            start = chunk.index(b"\n") + 1
            self.unfinished.add(chunk[: start - 1])
            self._finish()
        if start <= end:
            self._whole(chunk[start:end])
        self.unfinished.add(chunk[end + 1 :])

    def end(self) -> None:
        """The stream has ended: what is left is a line."""
        if self.unfinished.length:
            self._finish()

    def _finish(self) -> None:
        line = self.unfinished.line()
        self.unfinished.clear()
        self._whole(line)

    def _whole(self, block: bytes) -> None:
        """Take in lines that are whole, without the last one's end."""
        shapes = shapes_of(block)
        hits = self._shapes.with_trigger(shapes)
        if not (hits or self._near or self._wanted):
            # The usual case, and the one that must be fast: nothing here but the last lines counts.
            last = block.rsplit(b"\n", CONTEXT)[-CONTEXT:]
            self.recent.extend(map(cut, last))
            self._unlooked = min(CONTEXT, self._unlooked + len(last))
            return
        for line, shape in zip(block.split(b"\n"), shapes, strict=True):
            self._one(cut(line), shape, shape in hits)

    def _one(self, line: bytes, shape: bytes, hit: bool) -> None:
        self.recent.append(line)
        if not (hit or self._near or self._wanted):
            self._unlooked = min(CONTEXT, self._unlooked + 1)
            return
        if self._near:
            self._near -= 1
        if self._wanted == 0 and self._dull.has(shape, line):
            self._unlooked = 0
            return
        if hit:
            self._near = AFTER
            before = min(BEFORE, self._unlooked)
            for earlier in list(self.recent)[-1 - before : -1]:
                self._look(earlier)
        self._unlooked = 0
        self._wanted = max(self._wanted - 1, self._look(line))
        if not self._wanted:
            self._dull.add(shape, line)
