"""Which lines are looked at, whatever the chunks; and that what is kept is bounded."""

from __future__ import annotations

import itertools
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
from watched import LAUNCHER

sys.path.insert(0, str(LAUNCHER))

from watch_dull import KEPT, LONGEST, Dull, Shapes, shapes_of
from watch_lines import AFTER, BEFORE, CONTEXT, Lines, states_of, text_of

TRIGGERS = (b"fault", b"code 7")


def looked_at(data: bytes, cuts: list[int] | None = None) -> tuple[list[bytes], list[bytes]]:
    """Return the lines that were looked at, and the last ones."""
    found: list[bytes] = []

    def look(line: bytes) -> int:
        found.append(line)
        return 0

    lines = Lines(TRIGGERS, {b"503"}, look)
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts or []), len(data)]
    for start, end in itertools.pairwise(at):
        lines.feed(data[start:end])
    lines.end()
    return found, list(lines.recent)


WORDS = st.sampled_from([b"step 1", b"step 22", b"a fault", b"FAULT 503", b"", b"x" * 40, b"\xff"])


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, max_size=120), st.lists(st.integers(0, 10_000), max_size=12))
def test_chunks_make_no_difference(lines: list[bytes], cuts: list[int]) -> None:
    data = b"".join(line + b"\n" for line in lines)
    found, recent = looked_at(data, cuts)
    assert (found, recent) == looked_at(data)
    assert recent == lines[-CONTEXT:]


def test_lines_around_one_with_a_trigger_are_looked_at_in_order() -> None:
    data = b"".join(f"{word}\n".encode() for word in _letters(200))
    lines = data.split(b"\n")
    lines[100] = b"a fault"
    found, _ = looked_at(b"\n".join(lines))
    assert found == lines[100 - BEFORE : 100 + AFTER + 1]


def _letters(count: int) -> list[str]:
    return [chr(97 + n % 26) + chr(97 + n // 26) for n in range(count)]


def test_the_same_line_with_other_numbers_is_looked_at_only_if_a_number_tells() -> None:
    found, _ = looked_at(b"".join(b"fault at %d\n" % number for number in range(100, 1000)))
    assert found == [b"fault at 100", b"fault at 503"]


def test_a_line_that_may_begin_a_longer_message_is_always_looked_at() -> None:
    dull = Dull([])
    for line in (b"an error", b"exit code 1", b'"fault": {', b"traceback (most recent call last):"):
        dull.add(line, line)
        assert not dull.has(line, line)


def test_lines_that_were_asked_for_are_looked_at() -> None:
    found: list[bytes] = []

    def look(line: bytes) -> int:
        found.append(line)
        return 60 if line == b"fault" else 0

    lines = Lines(TRIGGERS, set(), look)
    lines.feed(b"fault\n" + b"".join(b"%d\n" % n for n in range(100)))
    assert found == [b"fault", *(b"%d" % n for n in range(60))]


def test_a_long_line_is_known_by_its_ends_whatever_the_chunks() -> None:
    data = b"a" * 100_000 + b"fault" + b"b" * 10_000 + b"fault\n"
    for cuts in ([], list(range(0, 110_000, 999))):
        found, recent = looked_at(data, cuts)
        assert len(found) == 1
        assert found[0].startswith(b"a" * KEPT)
        assert found[0].endswith(b"b" * 5000 + b"fault")
        assert len(recent[0]) < 2 * KEPT + 100


def test_a_line_without_end_is_kept_bounded() -> None:
    lines = Lines(TRIGGERS, set(), lambda _line: 0)
    for _ in range(1000):
        lines.feed(b"." * 65_536)
    assert lines.unfinished.length == 65_536_000
    assert len(lines.unfinished.line()) < 2 * KEPT + 100


def test_terminal_escapes_and_bytes_that_are_no_text_are_taken_off() -> None:
    assert (
        text_of(b"\x1b[1;31mquota\x1b[0m \x1b]0;title\x07exceeded\x00 \xff")
        == "quota exceeded \ufffd"
    )


def test_every_state_of_a_progress_bar_is_read() -> None:
    assert states_of(b"10 %\r20 %\rfailed\r") == ["10 %", "20 %", "failed"]
    assert states_of(b"") == [""]


ALIKE = st.sampled_from([b"Step 1", b"step 22", b"STEP ", b"", b"7", b"other"])


@settings(max_examples=300, deadline=None)
@given(st.lists(ALIKE, min_size=1))
def test_lines_have_one_shape_if_only_capitals_and_digits_differ(lines: list[bytes]) -> None:
    without = [line.lower().translate(None, b"0123456789") for line in lines]
    assert shapes_of(b"\n".join(lines)) == without


def test_which_shapes_have_a_trigger_whether_they_are_remembered_or_not() -> None:
    shapes = Shapes([b"fault", b"code 7"])
    for _ in range(3):
        assert shapes.with_trigger([b"step", b"a fault", b"code ", b"step"]) == {
            b"a fault", b"code ",
        }  # fmt: skip
        assert shapes.with_trigger([b"step", b"a fault"]) == {b"a fault"}
        assert shapes.with_trigger([b"step", b"step"]) == set()
        for length in (LONGEST, LONGEST + 1, 100_000):
            long = b"x" * length
            assert shapes.with_trigger([long, b"fault" + long]) == {b"fault" + long}
