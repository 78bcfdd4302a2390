"""When to ask again: backoff with jitter, the registry's Retry-After, a deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from arr.errors import RegistryError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retry:
    """How patient to be; times are in seconds.

    No attempt begins later than `deadline` after the first failure: so a long push that fails at
    its end is still tried again, and a dead registry is not waited for.
    """

    attempts: int = 5
    first: float = 0.5
    most: float = 15.0
    deadline: float = 60.0

    def wait(self, failures: int, chance: float) -> float:
        """Seconds before the next attempt after `failures`; `chance` in [0, 1) is the jitter."""
        return min(self.most, self.first * 2.0 ** (failures - 1)) * (0.5 + chance / 2)


class Transient(Exception):
    """A failure worth another attempt; `error` is what to raise when there is none.

    `after` is how many seconds the registry asked to be left alone, if it did.
    """

    def __init__(self, error: RegistryError, after: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.after = after


@dataclass(frozen=True, slots=True)
class Retrier:
    """The retry settings joined with what they need of the world."""

    retry: Retry
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    chance: Callable[[], float]

    def __call__(self, attempt: Callable[[], T]) -> T:
        """Return what `attempt` returns; after its last Transient failure raise RegistryError."""
        failures = 0
        deadline = 0.0
        while True:
            try:
                return attempt()
            except Transient as transient:
                failures += 1
                if failures == 1:
                    deadline = self.clock() + self.retry.deadline
                wait = self._wait(transient, failures)
                if failures >= self.retry.attempts or self.clock() + wait > deadline:
                    raise _given_up(transient, failures) from transient
            self.sleep(wait)

    def _wait(self, transient: Transient, failures: int) -> float:
        if transient.after is not None:
            return transient.after
        return self.retry.wait(failures, self.chance())


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that `Retry-After` asks for, given as seconds or as a date; None without it.

    A date is read against the answer's own `Date`, so that this machine's clock plays no part.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    then, now = _date(text), _date(headers.get("date", ""))
    if then is None or now is None:
        return None
    return max(0.0, (then - now).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _given_up(transient: Transient, failures: int) -> RegistryError:
    error = transient.error
    tries = f"{failures} attempt{'s' if failures > 1 else ''}"
    if transient.after is not None:
        tries += f"; it asks to wait {transient.after:g} s"
    return type(error)(f"{error.message} ({tries})", error.hint)
