"""Lines that need no second look: programs print the same ones over and over, with other numbers.

Whether a line has a word that faults have is asked once for all lines that differ in their digits
alone. If it has, judging it takes about a hundred microseconds; a training that prints two hundred
thousand lines with the word "token" would keep the watch busy for half a minute. So what was once
found to be harmless is remembered too, by the line without its digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set

DIGITS = b"0123456789"
SIZE = 10_000
LONGEST = 500
"""So many lines are remembered, if they have no more bytes than this."""
KEPT = 16 * 1024
"""Bytes of a line's start, and of its end, that are looked at: of a longer one the rest is not."""

_LOWER = bytes(range(256)).lower()
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
    text = block.translate(_LOWER, DIGITS)
    first = text[: text.find(b"\n") + 1]
    count, rest = divmod(len(text) + 1, len(first) or 1)
    if first and not rest and first * count == text + b"\n":  # all alike: no need to split it
        return [first[:-1]] * count
    return text.split(b"\n")


def cut(line: bytes) -> bytes:
    """Return a line, or the start and the end of a long one."""
    if len(line) <= 2 * KEPT:
        return line
    return line[:KEPT] + b" [...] " + line[-KEPT:]


class Shapes:
    """Knows which shapes have one of `triggers` (lower-case; their digits do not count)."""

    def __init__(self, triggers: Iterable[bytes]) -> None:
        self._words = sorted({word.translate(None, DIGITS) for word in triggers})
        self._without: set[bytes] = set()
        self._with: set[bytes] = set()

    def with_trigger(self, shapes: Sequence[bytes]) -> Set[bytes]:
        """Return those that have a trigger. The usual answer is none, and must be quick."""
        if self._without.issuperset(shapes):
            return frozenset()
        each = set(shapes)
        new = each - self._without - self._with
        ends = b"\n".join(map(cut, new))
        words = [word for word in self._words if word in ends]
        found = {shape for shape in new if words and _has_any(cut(shape), words)}
        hit = found | (each & self._with)
        _remember(self._with, found)
        _remember(self._without, new - found)
        return hit


def _has_any(text: bytes, words: list[bytes]) -> bool:
    return any(word in text for word in words)


def _remember(known: set[bytes], shapes: Iterable[bytes]) -> None:
    if len(known) > SIZE:
        known.clear()
    known.update(shape for shape in shapes if len(shape) <= LONGEST)


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
