"""The table of fault classes, `faults.toml`: read, and checked whole before anything relies on it.

Standard library only: the watch in the image and `arr` read the same table with this.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

CLASSES = (
    "quota", "stockout", "preempted", "permission", "auth", "not_found", "invalid", "image_pull",
    "unavailable", "internal", "network", "oom", "python_exception",
)  # fmt: skip
BLOCKS = ("nothing", "region", "region_gpu_spot")
EXIT_CODES = range(10, 30)

_FIELDS: dict[str, type] = {
    "meaning": str, "advice": str, "retry": bool, "block": str, "block_seconds": int,
    "exit_code": int, "links": dict,
}  # fmt: skip
# What a class is known by. A class has at least one of them.
_NAMES = ("reasons", "statuses", "exceptions")
_PATTERNS = ("decides", "announces", "says", "hints", "guesses")
_OPTIONAL = ("http", "advice_for", *_NAMES, *_PATTERNS)


class TableError(ValueError):
    """The table cannot be relied on: `faults.toml: [class] key: what is wrong`."""

    def __init__(self, path: Path, where: str, what: str) -> None:
        super().__init__(f"{path}: {where}: {what}" if where else f"{path}: {what}")
        self.path = path
        self.where = where
        self.what = what


@dataclass(frozen=True, slots=True)
class Kind:
    """One class of faults. `block` says what not to use again, and `block_seconds` for how long."""

    name: str
    meaning: str
    advice: str
    retry: bool
    block: str
    block_seconds: int
    exit_code: int
    links: Mapping[str, str]
    advice_for: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Pattern:
    """One expression on lower-case text. `needs` is plain text without which it cannot match."""

    kind: Kind
    rank: int
    needs: str
    expression: re.Pattern[str]

    def found(self, lower: str) -> bool:
        return self.needs in lower and self.expression.search(lower) is not None


ByWord = Mapping[str, tuple[Pattern, ...]]
"""Expressions by the one of `words` that a line must have for them; the lowest rank comes first."""


@dataclass(frozen=True, slots=True)
class Table:
    """All classes, and what each is known by. Earlier classes come first where several fit."""

    kinds: Mapping[str, Kind]
    words: tuple[str, ...]
    goes_on: tuple[re.Pattern[str], ...]
    gives_up: tuple[re.Pattern[str], ...]
    reasons: Mapping[str, Kind]
    statuses: Mapping[str, Kind]
    http: Mapping[int, Kind]
    exceptions: Mapping[str, Kind]
    decides: ByWord
    announces: ByWord
    says: ByWord
    hints: ByWord
    guesses: ByWord

    @classmethod
    def load(cls, path: Path) -> Table:
        """Read and check the table. Raises TableError with the file, the class and the key."""
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise TableError(path, "", f"cannot be read: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise TableError(path, "", f"is not TOML: {error}") from error
        return _Reader(path).table(raw)


class _Reader:
    """Checks one file, key by key, so that every complaint can say where."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def table(self, raw: dict[str, Any]) -> Table:
        top = {"words": raw.pop("words", None), "goes_on": raw.pop("goes_on", None)}
        top["gives_up"] = raw.pop("gives_up", None)
        words = tuple(self.strings("words", top["words"]))
        for name in raw:
            if name not in CLASSES:
                self.fail(name, "is not a class, nor one of words, goes_on, gives_up")
        for name in CLASSES:
            if not isinstance(raw.get(name), dict):
                self.fail(f"[{name}]", "this class is missing")
        kinds = {name: self.kind(name, raw[name]) for name in raw}
        self.require_distinct(kinds)
        names: Any = {key: self.owners(key, raw, kinds) for key in (*_NAMES, "http")}
        patterns: Any = {key: self.patterns(key, raw, kinds, words) for key in _PATTERNS}
        return Table(
            kinds=MappingProxyType(kinds),
            words=words,
            goes_on=self.expressions("goes_on", top["goes_on"]),
            gives_up=self.expressions("gives_up", top["gives_up"]),
            **names,
            **patterns,
        )

    def fail(self, where: str, what: str) -> None:
        raise TableError(self.path, where, what)

    def kind(self, name: str, raw: dict[str, Any]) -> Kind:
        for key in raw:
            if key not in _FIELDS and key not in _OPTIONAL:
                self.fail(f"[{name}] {key}", "unknown key")
        for key, kind in _FIELDS.items():
            if key not in raw:
                self.fail(f"[{name}] {key}", "is missing")
            if type(raw[key]) is not kind:
                self.fail(f"[{name}] {key}", f"must be of type {kind.__name__}")
            if kind is str and not raw[key].strip():
                self.fail(f"[{name}] {key}", "is empty")
        if raw["block"] not in BLOCKS:
            self.fail(f"[{name}] block", f"must be one of {', '.join(BLOCKS)}")
        if raw["block_seconds"] < 0 or (raw["block"] == "nothing") != (raw["block_seconds"] == 0):
            self.fail(f"[{name}] block_seconds", "must be 0 if nothing is blocked, else above 0")
        if raw["exit_code"] not in EXIT_CODES:
            self.fail(f"[{name}] exit_code", "must be from 10 to 29")
        if not any(raw.get(key) for key in (*_NAMES, *_PATTERNS)):
            self.fail(f"[{name}]", "nothing says what the class is known by")
        return Kind(
            name=name,
            **{key: raw[key] for key in _FIELDS if key != "links"},
            links=self.texts(f"[{name}] links", raw["links"]),
            advice_for=self.texts(f"[{name}] advice_for", raw.get("advice_for", {})),
        )

    def texts(self, where: str, raw: Any) -> Mapping[str, str]:
        if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
            self.fail(where, "must be a table of texts")
        return MappingProxyType(dict(raw))

    def strings(self, where: str, raw: Any) -> list[str]:
        if not isinstance(raw, list) or not all(isinstance(one, str) and one for one in raw):
            self.fail(where, "must be a list of texts")
        assert isinstance(raw, list)
        return raw

    def require_distinct(self, kinds: Mapping[str, Kind]) -> None:
        seen: dict[int, str] = {}
        for kind in kinds.values():
            if kind.exit_code in seen:
                self.fail(f"[{kind.name}] exit_code", f"is that of {seen[kind.exit_code]} too")
            seen[kind.exit_code] = kind.name

    def owners(
        self, key: str, raw: dict[str, Any], kinds: Mapping[str, Kind]
    ) -> Mapping[Any, Kind]:
        """Return which class each reason, status, exception or HTTP status belongs to."""
        found: dict[Any, Kind] = {}
        for name, kind in kinds.items():
            where = f"[{name}] {key}"
            names = raw[name].get(key, [])
            if key != "http":
                self.strings(where, names)
            elif not isinstance(names, list) or not all(type(one) is int for one in names):
                self.fail(where, "must be a list of numbers")
            for one in names:
                if one in found:
                    self.fail(where, f"{one} belongs to {found[one].name} already")
                found[one] = kind
        return MappingProxyType(found)

    def patterns(
        self, key: str, raw: dict[str, Any], kinds: Mapping[str, Kind], words: tuple[str, ...]
    ) -> ByWord:
        found: dict[str, list[Pattern]] = {}
        rank = 0
        for name, kind in kinds.items():
            where = f"[{name}] {key}"
            for text in self.strings(where, raw[name].get(key, [])):
                having = [run for run in plain_runs(text) if any(word in run for word in words)]
                if not having:
                    plain = plain_part(text)
                    self.fail(where, f"{text!r} has none of `words` in its plain part {plain!r}")
                needs = max(having, key=len)
                word = max((word for word in words if word in needs), key=len)
                pattern = Pattern(kind, rank, needs, self.expression(where, text))
                found.setdefault(word, []).append(pattern)
                rank += 1
        return MappingProxyType({word: tuple(patterns) for word, patterns in found.items()})

    def expressions(self, where: str, raw: Any) -> tuple[re.Pattern[str], ...]:
        return tuple(self.expression(where, text) for text in self.strings(where, raw))

    def expression(self, where: str, text: str) -> re.Pattern[str]:
        if text != text.lower():
            self.fail(where, f"{text!r} must be in lower case: so is what it is matched with")
        if re.search(r"[^\\][*+]", text):
            self.fail(where, f"{text!r} has * or +: say how far, as in .{{0,80}}")
        try:
            return re.compile(text)
        except re.error as error:
            raise TableError(self.path, where, f"{text!r}: {error}") from error


def plain_part(expression: str) -> str:
    """Return the longest text that every match of the expression contains."""
    return max(plain_runs(expression), key=len)


def plain_runs(expression: str) -> list[str]:
    """Return the texts that every match of the expression contains.

    They are what lies outside of groups and sets and is not optional; empty if `|` leaves a choice.
    """
    runs, run, depth, at = [], "", 0, 0
    while at < len(expression):
        char = expression[at]
        literal = ""
        if char == "\\":
            at += 1
            escaped = expression[at : at + 1]
            literal = "" if escaped.isalnum() else escaped
            at += 2 if escaped == "x" else 0
        elif char == "[":
            at = expression.find("]", at + 2)
            if at < 0:
                return [""]
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == "|" and depth == 0:
            return [""]
        elif char == "{":
            at = expression.find("}", at)
            if at < 0:
                return [""]
        elif char not in ".^$?|":
            literal = char
        optional = expression[at + 1 : at + 2] in ("?", "{")
        if literal and depth == 0 and not optional:
            run += literal
        else:
            runs.append(run)
            run = ""
        at += 1
    return [*runs, run]
