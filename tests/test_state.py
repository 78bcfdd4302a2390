"""The history: several processes write at once, a run is taken once, the usual time is a median."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from arr.errors import ArrError
from arr.state import VERSION, Build, Run, State

REGISTRY = "127.0.0.1:1"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State(tmp_path / ".arr") as opened:
        yield opened


def a_build(started: float, **values: object) -> Build:
    first = Build(
        image="one", registry=REGISTRY, repository="one", tag="1234567", fingerprint="f" * 64,
        commit_id="c" * 40, reason="never built", started=started, seconds=1.0, outcome="built",
        inputs=b"{}",
    )  # fmt: skip
    return msgspec.structs.replace(first, **values)


def a_run(name: str, created: float, status: str = "queued") -> Run:
    return Run(id=name, image="one", reference="r", folder="/f", status=status,
               settings={"steps": "3"}, created=created)  # fmt: skip


def test_what_was_written_is_read_back(state: State) -> None:
    assert state.builds("one") == []
    first, failed = a_build(1.0), a_build(2.0, outcome="failed", inputs=b"\x00\xff")
    state.add_build(first)
    state.add_build(failed)
    assert state.builds("one") == [failed, first]
    assert state.last_built("one", REGISTRY) == first
    assert state.last_built("one", "another registry") is None
    state.add_run(a_run("a", 1.0))
    assert state.run("a") == a_run("a", 1.0)
    assert state.run("b") is None


def test_usual_seconds_is_the_median_of_the_last_five_that_were_built(state: State) -> None:
    assert state.usual_seconds("one") is None
    state.add_build(a_build(0.0, seconds=500.0))
    for n, seconds in enumerate([9.0, 1.0, 2.0, 3.0, 90.0], 1):
        state.add_build(a_build(float(n), seconds=seconds))
    state.add_build(a_build(7.0, seconds=0.1, outcome="failed"))
    state.add_build(a_build(8.0, seconds=0.1, outcome="interrupted"))
    assert state.usual_seconds("one") == 3.0
    assert state.usual_seconds("two") is None


def test_runs_are_taken_oldest_first_and_each_once(tmp_path: Path) -> None:
    names = [f"run-{n:02}" for n in range(20)]
    with State(tmp_path / ".arr") as state:
        for n, name in enumerate(names):
            state.add_run(a_run(name, float(n)))
    others = [State(tmp_path / ".arr") for _ in range(4)]

    def take(own: State) -> list[str]:
        return [run.id for run in iter(lambda: own.claim_run(5.0), None)]

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(take, others))
    assert sorted(name for some in taken for name in some) == names
    assert all(some == sorted(some) for some in taken)
    for own in others:
        own.close()


def test_the_first_end_of_a_run_counts(state: State) -> None:
    state.add_run(a_run("a", 1.0))
    state.claim_run(2.0)
    assert state.finish_run("a", "succeeded", 3.0, 0, "") is True
    assert state.finish_run("a", "lost", 4.0, None, "its agent ended") is False
    run = state.run("a")
    assert run is not None
    assert (run.status, run.exit_code, run.over) == ("succeeded", 0, True)
    assert state.claim_run(5.0) is None


def test_processes_and_threads_write_at_once(tmp_path: Path) -> None:
    folder = tmp_path / ".arr"
    program = (
        "import sys\nfrom pathlib import Path\nfrom arr.state import State\n"
        "state = State(Path(sys.argv[1]))\n"
        "for n in range(25):\n    state.add_event(1, n, b'{}')\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", program, folder]) for _ in range(4)]
    with State(folder) as state:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: state.add_event(2, n, b"{}"), range(40)))
        assert [process.wait() for process in started] == [0, 0, 0, 0]
    with sqlite3.connect(folder / "state.db") as db:
        assert db.execute("select launch, count(*) from events group by launch").fetchall() == [
            (1, 100), (2, 40),
        ]  # fmt: skip
    db.close()


def test_a_new_history_has_a_version_and_is_never_an_untracked_file(state: State) -> None:
    with sqlite3.connect(state.folder / "state.db") as db:
        assert db.execute("pragma user_version").fetchone() == (VERSION,)
        assert db.execute("pragma journal_mode").fetchone() == ("wal",)
    db.close()
    assert (state.folder / ".gitignore").read_text() == "*\n"


def test_opened_again_it_keeps_what_it_has(tmp_path: Path) -> None:
    for n in range(3):
        with State(tmp_path) as state:
            state.add_build(a_build(float(n)))
    with State(tmp_path) as state:
        assert len(state.builds("one")) == 3


def test_a_newer_or_damaged_history_is_left_as_it_is(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state.db") as db:
        db.execute(f"pragma user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(ArrError, match="written by a newer arr"):
        State(tmp_path)
    (tmp_path / "state.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(ArrError, match="only history is lost"):
        State(tmp_path)
    assert (tmp_path / "state.db").read_bytes().startswith(b"no database")
