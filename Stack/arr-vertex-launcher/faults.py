"""What went wrong, by the words of a log: the judge of lines, over the table of fault classes.

Standard library only: the watch in the image and `arr` judge with this. A line is a fault by
evidence: a structured error first (reason, status), then an exception's name, then text. Levels,
and words that say that the program goes on, take the evidence away again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from faults_block import BLOCK_LINES, KEPT, Block, Fault
from faults_lines import Read, clip, read
from faults_message import verdict_of
from faults_table import CLASSES, Kind, Table, TableError

__all__ = [
    "BLOCK_LINES", "CLASSES", "Fault", "Judge", "Kind", "Table", "TableError", "judge",
    "judge_line",
]  # fmt: skip


def judge_line(table: Table, line: str) -> Fault | None:
    """Judge one line by itself."""
    one = Judge(table, context_lines=0)
    return one.feed(line) or one.end()


def judge(table: Table, lines: Iterable[str]) -> list[Fault]:
    """Judge a whole log; the decisive fault is the first fatal one."""
    judge = Judge(table, context_lines=0)
    found = [fault for line in lines if (fault := judge.feed(line))]
    if last := judge.end():
        found.append(last)
    return found


class Judge:
    """Judges lines as they come. What it keeps is bounded, whatever the lines are like.

    A traceback or a JSON body is judged when a line shows that it is over, or by `end`: call that
    at the end of the output, and when nothing has come for a while.
    """

    def __init__(self, table: Table, context_lines: int = 50, level: int = 0) -> None:
        """`level` is that of lines which do not say theirs."""
        self._table = table
        self._level = level
        self._words = table.words
        self.context: deque[str] = deque(maxlen=context_lines)
        self._number = 0
        self._before = ""
        self._block: Block | None = None

    def feed(self, line: str) -> Fault | None:
        """Take one line; return the fault that it makes certain, if any."""
        self._number += 1
        line = clip(line)
        self.context.append(line[:KEPT])
        if self._block is None:
            lower = line.lower()
            for word in self._words:  # any() would take half as long again
                if word in lower:
                    break
            else:
                if not line.endswith(("{", "[")):
                    self._before = line or self._before
                    return None
        return self._take(line)

    def end(self) -> Fault | None:
        """Judge what is still open. The judge can be fed on."""
        block, self._block = self._block, None
        return self._judged(block, "") if block else None

    def _take(self, line: str) -> Fault | None:
        said = read(line)
        if self._level and not said.level:
            said = replace(said, level=self._level)
        done: Fault | None = None
        if self._block:
            if self._block.takes(line, said):
                if not self._block.complete:
                    return None
                return self.end()
            block, self._block = self._block, None
            done = self._judged(block, said.text)
        now = self._open(line, said)
        if line:
            self._before = line
        # Two at once only if a block and the line that ends it are both faults: the first decides.
        return done if done and (done.fatal or not now) else now

    def _open(self, line: str, said: Read) -> Fault | None:
        block = Block.opened(line, said, self._number, self._before)
        if block is None:
            return self._single(said, (line[:KEPT],), self._number)
        self._block = block
        return None

    def _judged(self, block: Block, after: str) -> Fault | None:
        if entry := block.entry():
            return self._single(entry, block.evidence(), block.number)
        return block.judged(self._table, after)

    def _single(self, said: Read, evidence: tuple[str, ...], number: int) -> Fault | None:
        if said.log:
            return self._within(said, evidence, number)
        verdict = verdict_of(self._table, said.level, said.text)
        if verdict is None:
            return None
        return Fault(verdict.kind, verdict.fatal, evidence, number, verdict.advice)

    def _within(self, said: Read, evidence: tuple[str, ...], number: int) -> Fault | None:
        """Judge a log that was written into one entry of another."""
        inner = Judge(self._table, context_lines=0, level=said.level)
        found = [fault for line in said.lines[:BLOCK_LINES] if (fault := inner.feed(line))]
        if last := inner.end():
            found.append(last)
        fault = next((one for one in found if one.fatal), found[0] if found else None)
        return replace(fault, evidence=evidence, line=number) if fault else None
