"""Runs the launch agent: passes its output on, ends it on a fatal fault, when idle, or in time.

    watch.py [OPTION]... -- COMMAND [ARGUMENT]...

Standard library only. Which fault ends the agent is told in watch_reader.py. The last line is JSON:
{"watch": 1, "end": "agent|fault|idle|timeout|silence|signal", "class": ..., "exit_code": ...,
 "taken": ..., "succeeded": ..., "failed": ..., "preempted": ..., "unknown": ..., "running": ...,
 "seconds": ...}
`class` is that of the fault that ended the agent, else that of the last run that failed, or null.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import faults
import watch_agent
import watch_options
import watch_relay
import watch_report
from watch_agent import Agent
from watch_dull import numbers_in
from watch_lines import Lines, states_of
from watch_options import SILENCE, Options
from watch_reader import TRIGGERS, Finding, Reader
from watch_relay import Input, Output
from watch_report import End
from watch_runs import Runs

TIMED_OUT = 124
QUIET = 1.0
"""Seconds after which a line without an end, or a message without a next line, is looked at."""
LINGER = 5.0
"""Seconds that what the agent has left behind may go on after it, and again once it is sent TERM;
shorter if the grace is."""
POLL = 0.05
"""Seconds until it is asked again whether what the agent has left behind has ended."""
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Event = bytes | signal.Signals
Clock = Callable[[], float]


class Watch:
    """One agent, from its start to its end."""

    def __init__(
        self,
        options: Options,
        table: faults.Table,
        agent: Agent,
        output: Output,
        events: queue.SimpleQueue[Event],
        clock: Clock = time.monotonic,
    ) -> None:
        self._options, self._table, self._agent, self._output = options, table, agent, output
        self._events, self._clock = events, clock
        self._started = self._heard = self._looked = clock()
        self._beat = self._started + options.heartbeat
        self._runs = Runs(idle_since=self._started)
        self._reader = Reader(table, self._runs, self._found)
        triggers = (*TRIGGERS, *(word.encode() for word in table.words))
        self._lines = Lines(triggers, numbers_in(options.table.read_bytes()), self._look)
        self._input = Input(agent.output, output, events.put)
        self._end: End | None = None
        self._class: str | None = None
        self._closed = False
        # What is sent to the group when: KILL after TERM, and both to what outlives the agent.
        self._steps: list[tuple[float, signal.Signals | None]] = []
        self._gone = self._given_up = False
        self._signals = 0

    def run(self) -> int:
        """Watch until nothing of the agent is left; return the exit code."""
        self._input.start()
        while not self._over():
            now = self._clock()
            due = self._due()
            try:
                event = self._events.get(timeout=None if due is None else max(0.0, due - now))
            except queue.Empty:
                event = None
            now = self._clock()
            if isinstance(event, bytes):
                self._arrived(event, now)
            elif event is signal.SIGCHLD:
                self._agent.reap()
            elif event is not None:
                self._signalled(event)
            self._tick(now)
        return self._finish()

    def _over(self) -> bool:
        if self._agent.code is None:
            return False
        return self._given_up or (self._closed and not self._agent.group_lives)

    def _arrived(self, chunk: bytes, now: float) -> None:
        self._input.looked_at()
        self._heard = now
        if chunk:
            self._lines.feed(chunk)
        else:
            self._closed = True
            self._lines.end()
            self._reader.quiet()

    def _look(self, line: bytes) -> int:
        now = self._clock()
        return max(self._reader.line(state, now) for state in states_of(line))

    def _found(self, finding: Finding) -> None:
        """A fault: of a run, or one that ends the agent. Once it is to end nothing is a fault."""
        if self._end is not None:
            return
        self._class = finding.fault.kind.name
        if not finding.fatal:
            self._output.say(watch_report.failed_run(finding.fault, self._table))
            return
        self._output.say(watch_report.banner(finding.fault, self._lines.recent))
        self._stop(End("fault", finding.fault.kind.exit_code, "a fatal fault: " + self._class))

    def _signalled(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals > 1:
            self._output.say(watch_report.line(f"{number.name} again: the agent is killed"))
            self._agent.signal(signal.SIGKILL)
        elif self._end is None and self._agent.code is None:
            self._stop(End("signal", None, f"{number.name} was received"), number)
        else:
            self._agent.signal(number)

    def _stop(self, end: End, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask the agent to end; KILL follows if it does not."""
        self._end = end
        if self._agent.code is None:
            self._output.say(watch_report.stopping(end, number, self._options.grace))
            self._agent.signal(number)
            kill = self._clock() + self._options.grace
            self._steps = [(kill, signal.SIGKILL), (kill + QUIET, None)]

    def _left_behind(self, now: float) -> None:
        """The agent has ended: what it started gets TERM, then KILL, if it does not follow."""
        self._gone = True
        linger = min(self._options.grace, LINGER)
        if self._end is None:
            first, last = now + linger, now + 2 * linger
            self._steps = [(first, signal.SIGTERM), (last, signal.SIGKILL), (last + QUIET, None)]
        elif len(self._steps) < 2:  # KILL was sent: only what left the group can have the pipe
            self._steps = [(now + QUIET, None)]

    def _tick(self, now: float) -> None:
        """Do what is due."""
        if now - self._heard >= QUIET > self._looked - self._heard:
            self._looked = now
            self._reader.quiet()
            if self._lines.unfinished.length:
                for state in states_of(self._lines.unfinished.line()):
                    self._reader.unfinished(state)
        if self._agent.code is not None and not self._gone:
            self._left_behind(now)
        while self._steps and now >= self._steps[0][0]:
            number = self._steps.pop(0)[1]
            if number is None:
                self._given_up = self._agent.code is not None
            else:
                self._agent.signal(number)
        if self._end is None and self._agent.code is None:
            self._times(now)
            if self._options.heartbeat and now >= self._beat:
                self._beat = now + self._options.heartbeat
                self._output.say(watch_report.heartbeat(self._runs, now - self._started, now))

    def _times(self, now: float) -> None:
        """End the agent if one of its times is up."""
        for due, end in self._limits():
            if now >= due:
                self._stop(end)
                return

    def _limits(self) -> list[tuple[float, End]]:
        options, found = self._options, []
        if options.timeout:
            what = f"its time is up ({options.timeout:g} s in all)"
            found.append((self._started + options.timeout, End("timeout", TIMED_OUT, what)))
        if options.idle_timeout and not self._runs.running:
            what = f"no run for {options.idle_timeout:g} s"
            found.append((self._runs.idle_since + options.idle_timeout, End("idle", 0, what)))
        silence = options.silence_timeout
        if silence is None:
            silence = SILENCE if self._reader.has_status else 0
        if silence and not self._closed:
            what = f"the agent hangs: nothing heard of it for {silence:g} s"
            found.append((self._heard + silence, End("silence", TIMED_OUT, what)))
        return found

    def _due(self) -> float | None:
        """When there is something to do, if nothing happens before."""
        times = [at for at, _ in self._steps[:1]]
        if self._gone and self._closed:
            times.append(self._clock() + POLL)
        if self._looked - self._heard < QUIET:
            times.append(self._heard + QUIET)
        if self._end is None and self._agent.code is None:
            times += [at for at, _ in self._limits()]
            if self._options.heartbeat:
                times.append(self._beat)
        return min(times, default=None)

    def _finish(self) -> int:
        code = self._agent.code or 0
        end = self._end or End("agent", None, "the agent has ended")
        code = code if end.code is None else end.code
        seconds = self._clock() - self._started
        text = watch_report.summary(end, code, self._class, self._runs, seconds)
        self._output.say(text)
        self._output.close(self._options.grace or LINGER)
        if self._output.broken:
            with contextlib.suppress(OSError):
                os.write(2, text.encode())
        return code


def main() -> int:
    """Return the exit code; 2, 126 or 127 if the agent was not started, with the reason said."""
    watch_relay.open_standard_streams()
    folder = Path(__file__).resolve().parent
    options = watch_options.parse(sys.argv[1:], os.environ, folder)
    try:
        table = faults.Table.load(options.table)
    except (faults.TableError, OSError) as error:
        return _refuse(f"the table of faults cannot be used: {error}", 2)
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    for number in (*FORWARDED, signal.SIGCHLD):
        signal.signal(number, lambda number, _frame: events.put(signal.Signals(number)))
    try:
        agent = watch_agent.start(options.command, os.environ)
    except watch_agent.NotStarted as error:
        return _refuse(str(error), error.code)
    try:
        return Watch(options, table, agent, Output(1), events).run()
    finally:
        if agent.code is None:  # a failure of our own: nothing may be left that nobody watches
            agent.end(options.grace)


def _refuse(message: str, code: int) -> int:
    sys.stderr.write(watch_report.line(message))
    return code


if __name__ == "__main__":
    sys.exit(main())
