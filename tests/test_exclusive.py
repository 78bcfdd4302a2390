"""Locks that go with their holder, and blocks that no signal cuts in two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arr.errors import ConfigError
from arr.exclusive import is_held, only_one, uninterrupted

HOLDER = """
import sys
from pathlib import Path
from arr.exclusive import only_one
with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "lock"


@pytest.fixture
def holder(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its input is closed."""
    command = [sys.executable, "-c", HOLDER, str(lock)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_is_held_within_the_block_alone(lock):
    assert not is_held(lock)
    with only_one(lock):
        assert is_held(lock)
    assert not is_held(lock)
    with only_one(lock):
        pass


def test_a_failure_in_the_block_gives_the_lock_back(lock):
    with pytest.raises(ValueError, match="x"), only_one(lock):
        raise ValueError("x")
    assert not is_held(lock)


def test_who_waits_is_told_once_for_whom(lock, holder):
    told: list[str] = []

    def on_wait(who: str) -> None:
        told.append(who)
        assert is_held(lock)
        holder.stdin.close()

    with only_one(lock, on_wait):
        assert told == [f"process {holder.pid}"]


def test_a_lock_goes_with_the_process_that_is_killed(lock, holder):
    holder.kill()
    holder.wait()
    assert not is_held(lock)
    with only_one(lock, lambda who: pytest.fail(f"waited for {who}")):
        pass


def test_threads_of_one_process_take_turns(lock):
    inside: list[int] = []
    most: list[int] = []
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait()
        with only_one(lock):
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_a_lock_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"), only_one(tmp_path / "file" / "lock"):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_delivered_when_the_block_is_done(number):
    got: list[str] = []
    before = signal.signal(number, lambda *_: got.append("signal"))
    try:
        with uninterrupted():
            os.kill(os.getpid(), number)
            got.append("work")
        assert got == ["work", "signal"]
        os.kill(os.getpid(), number)
        assert got == ["work", "signal", "signal"]
    finally:
        signal.signal(number, before)


def test_ctrl_c_is_raised_after_the_block():
    done = []

    def work() -> None:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1]


def test_a_block_in_another_thread_leaves_the_handlers_alone():
    seen: list[object] = []

    def work() -> None:
        with uninterrupted():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
