"""Being told to stop: a signal, or the launcher's end. The loop asks between two steps."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from types import FrameType


class Stopped(Exception):
    """The run stopped early, as it was told to; exit_code is 128 + the signal's number."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class StopRequest:
    """Remembers SIGTERM and SIGINT from the moment it is made; a second SIGINT ends the process.

    `accelerate launch` does not pass a SIGTERM on, it just dies. A trainer that it started would
    train on, unseen, so the loss of that parent counts as a SIGTERM too.
    """

    def __init__(
        self, environment: Mapping[str, str], parent: Callable[[], int] = os.getppid
    ) -> None:
        self._signal: signal.Signals | None = None
        self._parent = parent
        launched = "ACCELERATE_MIXED_PRECISION" in environment  # set by the launcher for its child
        self._launcher = parent() if launched else None
        self._previous = {
            number: signal.signal(number, self._remember)
            for number in (signal.SIGTERM, signal.SIGINT)
        }

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self._signal = signal.Signals(number)
        if number == signal.SIGINT:  # a launcher may well pass on a SIGTERM that came here already
            signal.signal(number, signal.SIG_DFL)

    def requested(self) -> Stopped | None:
        """Return why and how to stop, or None to go on."""
        if self._signal is not None:
            return Stopped(f"{self._signal.name} received", 128 + self._signal)
        if self._launcher is not None and self._parent() != self._launcher:
            return Stopped("the launcher has ended", 128 + signal.SIGTERM)
        return None

    def release(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
