"""Messages of many lines: a traceback with all that it chains, a gRPC error, a body of JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass

from faults_lines import ERROR, WARNING, Read, entry, read
from faults_message import (
    STOPPED,
    Verdict,
    classify,
    goes_on,
    is_failure,
    is_named,
    name_of,
    verdict_of,
)  # fmt: skip
from faults_table import Kind, Table

BLOCK_LINES = 400
BLOCK_SIZE = 64 * 1024
"""What is kept of one traceback or one JSON body, at most."""
KEPT = 2048
"""Characters kept of a line of evidence or of context."""

_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\s{0,8}$")
# The last line of a traceback, where nothing else stands without indentation.
_LAST = re.compile(r"[A-Za-z_][\w.]{0,200}(?::\s|:?$|: ?\()")
_CHAINED = re.compile(
    r"During handling of the above exception|The above exception was the direct cause"
)
_GOES_ON_AFTER = re.compile(
    r"exception ignored in|retry attempt failed|--- logging error ---", re.IGNORECASE
)
_MARGIN = re.compile(r"\s{0,40}(?:\| ?|\+[-+| ]{1,80}\d{0,3}[- ]{0,40}$|\+ (?=Exception Group))")
_CONTINUED = re.compile(
    r"[\s}\],>)|+~^]|$|(?:code|message|details|reason|domain|metadata|links|status|debug_error_string"
    r"|Please|Set|See|For more|\d{3} (?:Client|Server) Error|Cannot access|Access to|Make sure"
    r"|Check ?out|(?:Entry|Revision|Repository) Not Found|Repo model)\b"
)
_WITHIN = " \t\"'}])>,"
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_BODY = re.compile(r"[\[{(]\s{0,8}$")


@dataclass(frozen=True, slots=True)
class Fault:
    """A classified failure. `line` is the number of its first line, from 1."""

    kind: Kind
    fatal: bool
    evidence: tuple[str, ...]
    line: int
    advice: str


class Block:
    """Lines that make one message: a traceback with all that it chains, or a body of JSON."""

    def __init__(self, line: str, level: int, number: int, before: str, kind: str) -> None:
        self.level = level
        self.number = number
        self.before = before
        self.kind = kind
        self.raw = [line[:KEPT]]
        self.texts: list[str] = []
        self.size = 0
        self.depth = 0
        self.named = False
        self.complete = False
        # wandb puts its name and the level before every line of a message, the last ones too.
        self.margin = "wandb: ERROR " if line.startswith("wandb: ERROR ") else ""

    @classmethod
    def opened(cls, line: str, said: Read, number: int, before: str) -> Block | None:
        """Return the block that the message opens; None if it is a message of one line."""
        first = said.lines[0]
        if len(said.lines) > 1:
            return None
        if _TRACEBACK.search(first):
            kind = "traceback"
        elif "of RPC that terminated with:" in first:
            kind = "rpc"
        elif _BODY.search(first) and not first.rstrip().endswith("()"):
            kind = "body"
        elif is_named(first):
            kind = "exception"
        else:
            return None
        block = cls(line, said.level, number, before, kind)
        block.add(first)
        return block

    def add(self, text: str) -> None:
        self.texts.append(text if self.kind == "body" else text[:KEPT])
        self.size += len(text)
        if self.kind == "traceback":
            bare = _bare(text)
            if _TRACEBACK.search(bare):
                self.named = False
            elif _LAST.match(bare):
                self.named = True
        elif self.kind in ("rpc", "body"):
            bare = _QUOTED.sub("", text) if self.kind == "body" else text
            self.depth += bare.count("{") + bare.count("[") - bare.count("}") - bare.count("]")
            over = text.strip() == ">" if self.kind == "rpc" else self.depth <= 0
            self.complete = over and len(self.texts) > 1

    def takes(self, line: str, said: Read) -> bool:
        """Add the line if it belongs here; say whether it did."""
        if len(self.texts) >= BLOCK_LINES or self.size > BLOCK_SIZE:
            return False
        if len(said.lines) > 1 and self.kind != "body":
            return False
        text = said.lines[0] if len(said.lines) == 1 else line
        own = self.margin and line.startswith(self.margin) and "ERROR launch: " not in line
        if not own and not self._belongs(text, said):
            return False
        if len(self.raw) < BLOCK_LINES:
            self.raw.append(line[:KEPT])
        self.add(text)
        return True

    def _belongs(self, text: str, said: Read) -> bool:
        if self.kind == "traceback":
            if _CHAINED.search(text) or _MARGIN.match(text):
                return True
            if _TRACEBACK.search(text):
                return not self.named or self._chains()
            if not self.named:
                return not text.strip() or text[:1] in " \t[^~" or bool(_LAST.match(text))
            return bool(_CONTINUED.match(text)) and said.level in (0, self.level)
        if _TRACEBACK.search(text):
            if self.kind == "exception" and self.texts[-1].endswith(":"):
                self.kind = "traceback"  # "ERROR: Exception:", and then what it was
            return self.kind == "traceback"
        if self.kind == "exception":
            return bool(_CONTINUED.match(text)) and said.level in (0, self.level)
        return text[:1] in _WITHIN or bool(_CONTINUED.match(text))

    def _chains(self) -> bool:
        recent = [text for text in self.texts[-4:] if text.strip()]
        return any(_CHAINED.search(text) for text in recent)

    def judged(self, table: Table, after: str) -> Fault | None:
        """Judge the whole; `after` is the message that followed."""
        if self.kind == "traceback":
            verdict = self._of_traceback(table, after)
        else:
            verdict = verdict_of(table, self.level, "\n".join(self.texts))
        if verdict is None:
            return None
        return Fault(verdict.kind, verdict.fatal, self.evidence(), self.number, verdict.advice)

    def evidence(self) -> tuple[str, ...]:
        """The lines as they came; of many the first and the last."""
        return tuple(line for line in self._shown() if line.strip())

    def entry(self) -> Read | None:
        """The entry of a structured log that the lines make; None if they are no such thing."""
        if self.kind != "body" or (said := entry("\n".join(self.texts))) is None:
            return None
        return said if said.level else Read(self.level, said.lines, said.log)

    def _shown(self) -> list[str]:
        raw = self.raw if len(self.raw) > 1 else [self.raw[0], *self.texts[1:]]
        return raw if len(raw) <= 12 else [*raw[:3], "...", *raw[-8:]]

    def _of_traceback(self, table: Table, after: str) -> Verdict | None:
        generic = table.kinds["python_exception"]
        ends = self._exceptions()
        if ends and all(name_of(text) in STOPPED for text in ends):
            return None
        head = self.texts[0][: self.texts[0].find("Traceback (")] if self.texts else ""
        fatal = not self._went_on(table, head, after)
        for text in reversed(ends):
            found = classify(table, text, alarming=True)
            if found and found[0] is not generic:
                return Verdict(found[0], fatal, found[1])
        return Verdict(generic, fatal, generic.advice)

    def _exceptions(self) -> list[str]:
        """The last lines of the tracebacks: each exception with its message."""
        ends: list[str] = []
        open_ = False
        for text in map(_bare, self.texts):
            if _TRACEBACK.search(text) or _CHAINED.search(text):
                open_ = False
            elif not open_ and _LAST.match(text):
                ends.append(text)
                open_ = True
            elif open_:
                ends[-1] += f"\n{text}"
        return ends

    def _went_on(self, table: Table, head: str, after: str) -> bool:
        """Whether the writer went on: it warned, says that it tries again, or Python ignored it."""
        if 0 < self.level <= WARNING or goes_on(table, head):
            return True
        before = read(self.before) if self.before else None
        if before and _GOES_ON_AFTER.search(before.text):
            return True
        if before and before.level <= WARNING and goes_on(table, before.text):
            return True
        if (
            before
            and self.level < ERROR
            and 0 < before.level <= WARNING
            and is_failure(before.text)
        ):
            return True
        return bool(after) and goes_on(table, after)


def _bare(text: str) -> str:
    """A line of a traceback without the margin of an exception group."""
    while "|" in text[:80] and (match := re.match(r"\s{0,40}\| ?", text)):
        text = text[match.end() :]
    return text
