"""Lines that need no second look: programs print the same ones over and over, with other numbers.

Judging a line takes about a hundred microseconds; a training that prints two hundred thousand lines
with the word "token" in them would keep the watch busy for half a minute. So what was once found to
be harmless is remembered, by the line with its digits made alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

DIGITS = b"0123456789"
SIZE = 10_000
LONGEST = 500
"""So many lines are remembered, if they have no more bytes than this."""

_NUMBER = re.compile(rb"\d{3,}")
# What a verdict may rest on besides the line's own words, or what may begin a longer message: small
# numbers (code 8, attempt 5 of 5, exit code 1, signal 9), tracebacks, bodies, exceptions.
_CLOSER = re.compile(
    rb"code|attempt|retr|exit|signal|kill|error|exception|traceback|terminated|grpc|launch:"
    rb"|arr: run |[\[{(]\s*$"
)


def numbers_in(table: bytes) -> set[bytes]:
    """Return the numbers on which a verdict can rest: all that the table of faults has (503)."""
    return set(_NUMBER.findall(table))


def shapes_of(block: bytes) -> list[bytes]:
    """Return the lines of a block without capitals and digits."""
    return block.lower().translate(None, DIGITS).split(b"\n")


class Dull:
    """A bounded set of harmless lines. `numbers` are those that make a difference."""

    def __init__(self, numbers: Iterable[bytes]) -> None:
        self._numbers = frozenset(numbers)
        self._known: set[tuple[bytes, ...]] = set()

    def has(self, shape: bytes, line: bytes) -> bool:
        """Whether a line, of which `shape` is left without its digits, is known as harmless."""
        return (shape, *self._telling(line)) in self._known

    def add(self, shape: bytes, line: bytes) -> None:
        """A line was looked at without effect."""
        if len(shape) > LONGEST or _CLOSER.search(shape):
            return
        if len(self._known) >= SIZE:
            self._known.clear()
        self._known.add((shape, *self._telling(line)))

    def _telling(self, line: bytes) -> list[bytes]:
        numbers = _NUMBER.findall(line)
        if self._numbers.isdisjoint(numbers):
            return []
        return [number for number in numbers if number in self._numbers]
