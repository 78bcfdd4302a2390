"""Being told to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from ARR_COC.Training.stop import StopRequest


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


def test_an_interrupt_is_remembered_once_and_then_ends_the_process() -> None:
    stop = StopRequest({})
    assert stop.requested() is None
    signal.raise_signal(signal.SIGINT)
    stopped = stop.requested()
    assert stopped is not None
    assert (str(stopped), stopped.exit_code) == ("SIGINT received", 130)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    stop.release()


def test_only_a_launched_run_minds_the_loss_of_its_parent() -> None:
    parents = [10, 10, 1, 1]
    launched = StopRequest({"ACCELERATE_MIXED_PRECISION": "no"}, parent=lambda: parents.pop(0))
    assert launched.requested() is None
    stopped = launched.requested()
    assert stopped is not None
    assert stopped.exit_code == 143
    launched.release()
    alone = StopRequest({}, parent=lambda: 1)
    assert alone.requested() is None
    alone.release()
