"""Path patterns as regular expressions, in the two dialects a stack uses.

Written by hand because no library has either meaning exactly: a manifest's globs mean what git's
`:(glob)` means (but `?` is one character, not one byte), and an ignore file's patterns what Go's
`filepath.Match` plus `**` means (docker).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

Regex = re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where the two dialects differ: what `**` means, and how `[...]` is written."""

    stars: Callable[[str, int, int], tuple[str, int]]
    negators: str
    closing_may_lead: bool


def _git_stars(pattern: str, start: int, end: int) -> tuple[str, int]:
    """`**` spans folders only where it stands alone between slashes; elsewhere it is a `*`."""
    alone = start == 0 or pattern[start - 1] == "/"
    if alone and end == len(pattern):
        return ".*", end
    if alone and pattern[end] == "/":
        return "(?:.*/)?", end + 1
    return "[^/]*", end


def _docker_stars(pattern: str, start: int, end: int) -> tuple[str, int]:
    """`**` spans folders anywhere; a slash after it is part of it, a third star is not."""
    end = start + 2
    slash = pattern[end : end + 1] == "/"
    if end + slash == len(pattern):
        return ".*", end + slash
    # docker reads `**.txt` as "ends in .txt", yet `**` before any other text as whole folders.
    suffix = start == 0 and not slash and not re.search(r"[*?\[\]\\]", pattern[end:])
    return ".*" if suffix else "(?:.*/)?", end + slash


_GIT = Dialect(_git_stars, negators="!^", closing_may_lead=True)
_DOCKER = Dialect(_docker_stars, negators="^", closing_may_lead=False)


@lru_cache(maxsize=4096)
def manifest_glob(pattern: str) -> Regex:
    """Return the expression for a manifest pattern: `*`, `?` stay within a folder, `**` does not.

    A pattern that names a folder selects everything beneath it. Raises ValueError if it is broken.
    """
    return re.compile(_translate(pattern, _GIT) + r"(?:/.*)?\Z", re.DOTALL)


@lru_cache(maxsize=4096)
def docker_glob(pattern: str) -> Regex:
    """Return the expression for one pattern of a .dockerignore file or of COPY's sources.

    Raises ValueError if the pattern is broken (docker refuses it too).
    """
    return re.compile(_translate(pattern, _DOCKER) + r"\Z", re.DOTALL)


def docker_glob_or_below(pattern: str) -> Regex:
    """Return the expression for what `pattern` matches and everything beneath that."""
    return re.compile(docker_glob(pattern).pattern.removesuffix(r"\Z") + r"(?:/.*)?\Z", re.DOTALL)


def is_glob(pattern: str) -> bool:
    """Whether the pattern has any wildcard, or is the name of one path."""
    return any(c in pattern for c in "*?[\\")


def literal_start(pattern: str) -> str:
    """Return what comes before the first wildcard: every match starts with it."""
    return re.split(r"[*?\[\\]", pattern, maxsplit=1)[0]


def starting_with(start: str, paths: Sequence[str]) -> Sequence[str]:
    """Return those of the sorted `paths` that start with `start`, without looking at the others."""
    first = bisect_left(paths, start)
    last = bisect_left(paths, True, first, key=lambda path: not path.startswith(start))
    return paths[first:last]


def _translate(pattern: str, dialect: Dialect) -> str:
    out: list[str] = []
    at = 0
    while at < len(pattern):
        c = pattern[at]
        if c == "*":
            end = at
            while pattern[end : end + 1] == "*":
                end += 1
            text, at = dialect.stars(pattern, at, end) if end - at > 1 else ("[^/]*", end)
        elif c == "[":
            text, at = _class(pattern, at, dialect)
        elif c == "\\":
            if at + 1 == len(pattern):
                raise ValueError("it ends in a backslash")
            text, at = re.escape(pattern[at + 1]), at + 2
        else:
            text, at = "[^/]" if c == "?" else re.escape(c), at + 1
        out.append(text)
    return "".join(out)


_POSIX = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "digit": "0-9", "lower": "a-z", "upper": "A-Z",
    "xdigit": "0-9a-fA-F", "space": r" \t-\r", "blank": r" \t", "punct": r"!-/:-@\[-`{-~",
    "cntrl": r"\x00-\x1f\x7f", "graph": "!-~", "print": " -~",
}  # fmt: skip


def _class(pattern: str, at: int, dialect: Dialect) -> tuple[str, int]:
    """Read `[...]` at `at`; return its expression and the place after it."""
    closing_may_lead = dialect.closing_may_lead
    end = at + 1
    negated = end < len(pattern) and pattern[end] in dialect.negators
    if negated:
        end += 1
    members: list[str] = []
    first = True
    while True:
        if end >= len(pattern):
            raise ValueError("a '[' has no closing ']'")
        if pattern[end] == "]" and not (first and closing_may_lead):
            break
        first = False
        close = pattern.find("]", end + 2) - 1
        if (
            closing_may_lead
            and pattern.startswith("[:", end)
            and pattern[end + 2 : close + 1][-1:] == ":"
        ):
            name = pattern[end + 2 : close]
            if name not in _POSIX:
                raise ValueError(f"there is no character class [:{name}:]")
            members.append(_POSIX[name])
            end = close + 2
            continue
        low, end = _member(pattern, end)
        if pattern[end : end + 1] == "-" and pattern[end + 1 : end + 2] not in ("", "]"):
            high, end = _member(pattern, end + 1)
            if low <= high:
                members.append(f"{re.escape(low)}-{re.escape(high)}")
            elif closing_may_lead:  # git takes the first of a range for itself, too
                members.append(re.escape(low))
            continue
        members.append(re.escape(low))
    if not members:
        if not closing_may_lead and not negated:
            raise ValueError("'[]' matches nothing")
        return ("[^/]" if negated else r"(?!)"), end + 1
    return ("(?!/)[^" if negated else "(?!/)[") + "".join(members) + "]", end + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at] == "\\":
        at += 1
        if at >= len(pattern):
            raise ValueError("it ends in a backslash")
    return pattern[at], at + 1
