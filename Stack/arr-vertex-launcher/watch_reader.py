"""What the agent's lines say: which runs begin and end, and which fault ends the agent.

The rule. A line is read in the place where it stands:

1. *The agent's own lines* (its start, its polling, a traceback that nobody caught): a fatal fault
   ends the agent.
2. *A failed job*: what follows "Error running job:", "Terminating job" or "encountered an issue
   while starting Docker". The run counts as failed. The agent goes on if the job had started (what
   fails then is the training), if the fault is the run's own doing (python_exception, oom,
   preempted), or if it has no class. Any other class is about the place that the next job goes to
   as well: the project, the region, the registry, the service. W&B's agent never tries a failed
   item again, and it would turn the whole queue into failed items within seconds; so there the
   first one ends it. `arr`'s local agent says "arr: run ID failed: ...", with the class in front if
   it found one: its runs are each for themselves, and it always goes on.
3. *A question that failed* ("Error getting status for job"): the agent asks again in ten seconds,
   so nothing has happened, until it was so QUESTIONS times in a row.
4. *A queue item*, which the agent prints when it takes one (a user's text), and what the patch says
   of a job that is under way ("Vertex AI job NAME is PENDING", "not submitted (503 ...); once
   more"): not judged.

Each failed job has a judge of its own: the next run is never judged by an earlier one's lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import faults
from watch_runs import Outcome, Runs

OWN_DOING = frozenset({"python_exception", "oom", "preempted"})
"""Faults of one run, which say nothing about the next."""
QUESTIONS = 30
QUESTION_GAP = 120.0
"""Seconds after which a question that failed is no longer one in a row."""

JOBS = 1000
"""Jobs that have ended whose outcome is remembered until the agent says that it has noticed."""

TRIGGERS = (b"launch:", b"arr: run ")
"""What every line has that is read here, in lower case."""

# `wandb: ERROR launch: Error running job: ...`: every line of a message has all before `launch:`.
_AGENT = re.compile(r"^((?:wandb: )?(?:(?:WARNING|ERROR) )?)launch: (.*)$")
# arr's own: `arr: run ID taken`, `arr: run ID succeeded`, `arr: run ID failed: [CLASS: ]words`.
_ARR = re.compile(r"^arr: run (\S+) (taken|succeeded|failed)(?:: (.*))?$")
_STATUS = re.compile(r"\brunning (\d+) out of a maximum of (?:\d+|inf) jobs")
_TAKEN = re.compile(r"Launch agent received job:")
_FAILED = re.compile(
    r"Error running job: (.*)|Terminating job \S+ because it failed to start: (.*)"
    r"|(agent \S+ encountered an issue while starting Docker.*)"
)
_TRACEBACK = "Traceback (most recent call last)"
_NOT_STARTED = " before it started"
_STARTED = re.compile(r"Vertex AI job \S+ [A-Z_]+[:;]|\bThe replica \S+ (?:exited|ran out) ")
_UNDER_WAY = re.compile(r"run \S+: |Vertex AI job ")
_STATE = re.compile(r"Vertex AI job (?:\S+/)?(\S+) is ([A-Z_]+)$")
_ENDED = re.compile(r"(?:Job|Scheduler) finished with ID: (\S+)")
_QUESTION = re.compile(r"Error getting status for job ")
_PREEMPTED = re.compile(r"Run \S+ was preempted, requeuing")
_GIVEN_UP = re.compile(r"Run \S+ has already resumed \d+ times")

_STATES = {
    "SUCCEEDED": Outcome.SUCCEEDED,
    "FAILED": Outcome.FAILED,
    "EXPIRED": Outcome.FAILED,
    "CANCELLED": Outcome.FAILED,
    "PARTIALLY_SUCCEEDED": Outcome.FAILED,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault, and whether it ends the agent."""

    fault: faults.Fault
    fatal: bool


@dataclass(slots=True)
class _Frame:
    """The lines of one message about a job: those that begin with `prefix`.

    Without a judge it is passed by: Google's errors have several lines, wherever they are quoted.
    """

    prefix: str
    judge: faults.Judge | None
    question: bool = False
    started: bool = False
    unnamed: bool = False  # a traceback whose exception is still to come
    done: bool = False


class Reader:
    """Reads one line after the other; `found` is called for each fault that counts."""

    def __init__(self, table: faults.Table, runs: Runs, found: Callable[[Finding], None]) -> None:
        self._table = table
        self._runs = runs
        self._found = found
        self._judge = faults.Judge(table, context_lines=0)
        self._frame: _Frame | None = None
        self._item: str | None = None  # what the lines of a queue item begin with
        self._outcomes: dict[str, Outcome] = {}
        self._questions = 0
        self._asked = 0.0
        self.has_status = False
        """The agent says from time to time how many runs it has: its silence means something."""

    def line(self, text: str, now: float) -> int:
        """Read a line. Return how many of the next ones are needed to understand it."""
        if not self._in_item(text) and not self._in_frame(text):
            self._close()
            self._outside(text, now)
        if self._item is not None or self._frame is not None:
            return 1
        return faults.BLOCK_LINES if _TRACEBACK in text else 0

    def _outside(self, text: str, now: float) -> None:
        if found := _AGENT.match(text):
            if self._said(found[1], found[2], now):
                return
        elif found := _ARR.match(text):
            self._run(found[2], found[3] or "", now)
            return
        self._report(self._judge.feed(text))

    def quiet(self) -> None:
        """Nothing has come for a while: whatever is open is over."""
        self._close()
        self._report(self._judge.end())

    def unfinished(self, text: str) -> None:
        """Read what is there of a line that does not end. Nothing of it is counted."""
        self._report(faults.judge_line(self._table, text))

    def _said(self, prefix: str, words: str, now: float) -> bool:
        """Read what the agent says of its jobs. Return False if it is nothing of that kind."""
        if found := _STATUS.search(words):
            self.has_status = True
            self._runs.settle(int(found[1]), now)
        elif _TAKEN.match(words):
            self._runs.take(now)
            self._item = prefix
        elif found := _FAILED.match(words):
            self._runs.end(Outcome.FAILED, now)
            self._open(prefix, next(filter(None, found.groups()), ""), question=False)
        elif found := _ENDED.match(words):
            self._runs.end(self._outcomes.pop(found[1], Outcome.UNKNOWN), now)
        elif _QUESTION.match(words):
            self._questions = self._questions + 1 if now - self._asked < QUESTION_GAP else 1
            self._asked = now
            self._open(prefix, "", question=True)
        elif _PREEMPTED.match(words):
            self._runs.end(Outcome.PREEMPTED, now)
        elif _GIVEN_UP.match(words):
            self._runs.end(Outcome.FAILED, now)
        elif _UNDER_WAY.match(words):
            if found := _STATE.match(words):
                self._remember(found[1], _STATES.get(found[2]))
            self._frame = _Frame(prefix, None)
        else:
            return False
        return True

    def _remember(self, job: str, outcome: Outcome | None) -> None:
        if outcome:
            self._outcomes[job] = outcome
            if len(self._outcomes) > JOBS:
                del self._outcomes[next(iter(self._outcomes))]

    def _run(self, what: str, words: str, now: float) -> None:
        """Read what arr's own agent says of a run."""
        if what == "taken":
            self._runs.take(now)
        elif what == "succeeded":
            self._runs.end(Outcome.SUCCEEDED, now)
        else:
            self._runs.end(Outcome.FAILED, now)
            kind = self._table.kinds.get(words.partition(": ")[0])
            fault = kind and faults.Fault(kind, True, (words,), 1, kind.advice)
            self._of_job(fault or faults.judge_line(self._table, f"ERROR {words}"), started=True)

    def _in_item(self, text: str) -> bool:
        """Whether the line is one of a queue item: indented, or its first or (empty) last one."""
        if self._item is None:
            return False
        rest = text.removeprefix(self._item) if text.startswith(self._item) else None
        if rest is None and text == self._item.rstrip():
            rest = ""
        if rest and rest[0] in "{ ":
            return True
        if rest is not None:
            self._item = None
        return rest == ""

    def _open(self, prefix: str, first: str, *, question: bool) -> None:
        started = bool(_STARTED.search(first)) and _NOT_STARTED not in first
        judge = faults.Judge(self._table, context_lines=0)
        self._frame = _Frame(prefix, judge, question, started, _TRACEBACK in first)
        if first:
            self._feed(self._frame, prefix + first)

    def _in_frame(self, text: str) -> bool:
        frame = self._frame
        if frame is None or _AGENT.match(text):
            return False
        rest = text.removeprefix(frame.prefix)
        if frame.prefix:
            inside = rest != text or text == frame.prefix.rstrip()
            inside = inside and not rest.startswith(("ERROR ", "WARNING "))
        else:
            inside = text.startswith(" ") or frame.unnamed
            frame.unnamed = frame.unnamed and text.startswith(" ")
        if inside:
            self._feed(frame, text)
        return inside

    def _feed(self, frame: _Frame, text: str) -> None:
        if frame.judge:
            self._in(frame, frame.judge.feed(text))

    def _close(self) -> None:
        if frame := self._frame:
            self._frame = None
            if frame.judge:
                self._in(frame, frame.judge.end())

    def _in(self, frame: _Frame, fault: faults.Fault | None) -> None:
        """Take the first fatal fault of a frame; what follows is the same trouble again."""
        if fault is None or not fault.fatal or frame.done:
            return
        frame.done = True
        if not frame.question or self._questions >= QUESTIONS:
            self._of_job(fault, started=frame.started)

    def _of_job(self, fault: faults.Fault | None, *, started: bool = False) -> None:
        if fault is not None and fault.fatal:
            own = started or fault.kind.name in OWN_DOING
            self._found(Finding(fault, fatal=not own))

    def _report(self, fault: faults.Fault | None) -> None:
        if fault is not None and fault.fatal:
            self._found(Finding(fault, fatal=True))
