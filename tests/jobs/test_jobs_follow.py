"""Following a run, its queue and its agent, where no container plays a part."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arr.errors import RunError, UsageError
from arr.events import Event, RunFinished, RunLog, RunStarted
from arr.exclusive import is_held, only_one
from arr.jobs import follow, queue
from arr.jobs import spec as specs
from arr.jobs.agent import Agent
from arr.jobs.spec import RunSpec
from arr.registry.content import ImageConfig
from arr.state import Run, State


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State(tmp_path / ".arr") as opened:
        yield opened


def spec(name: str) -> RunSpec:
    return RunSpec(
        id=name, image="one", reference="h/one@sha256:0", local_name="localhost/one:1",
        config_digest="sha256:0", prefix="h", insecure=True, command=["/run"], environ={},
        user="0:0", gpus=0, engine="buildah",
    )  # fmt: skip


def enqueue(state: State, tmp_path: Path, name: str, now: float = 1.0) -> Run:
    return queue.enqueue(state, spec(name), tmp_path / "runs" / name, {}, now)


class Script:
    """What happens, in turn, each time that a follower waits; and the clock it sees."""

    def __init__(self, *steps: object) -> None:
        self.steps = list(steps)
        self.now = 100.0
        self.events: list[Event] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        step = self.steps.pop(0)
        assert callable(step)
        step()

    def follow(self, state: State, root: Path, name: str) -> Run:
        return follow.follow(
            state, root, name, self.events.append, clock=lambda: self.now, sleep=self.sleep
        )

    @property
    def lines(self) -> list[str]:
        return [event.line for event in self.events if isinstance(event, RunLog)]


def test_output_comes_in_whole_lines_and_ends_with_the_result(state: State, tmp_path: Path) -> None:
    run = enqueue(state, tmp_path, "a")
    folder = Path(run.folder)
    log = (folder / specs.LOG).open("a")

    def say(text: str) -> None:
        log.write(text)
        log.flush()

    def end() -> None:
        say("last\nunfinished")
        (folder / specs.RESULT).write_text('{"loss": NaN, "steps": 3}')
        state.finish_run("a", "succeeded", 109.0, 0, "")

    script = Script(
        lambda: say("one\ntw"),
        lambda: state.claim_run(104.0),
        lambda: say("o\n\n 10%\r 20%\r 30%\n"),
        end,
    )
    with log, only_one(queue.agent_lock(tmp_path)):
        ended = script.follow(state, tmp_path, "a")
    assert script.lines == ["one", "two", "", " 30%", "last", "unfinished"]
    assert isinstance(script.events[0], RunLog | RunStarted)
    last = script.events[-1]
    assert isinstance(last, RunFinished)
    assert (last.status, last.exit_code, last.seconds) == ("succeeded", 0, 5.0)
    assert last.result == {"loss": "NaN", "steps": 3}
    assert ended.over


def test_a_running_run_without_an_agent_is_lost_at_once(state: State, tmp_path: Path) -> None:
    enqueue(state, tmp_path, "a")
    state.claim_run(2.0)
    script = Script(lambda: None)
    assert script.follow(state, tmp_path, "a").status == "lost"
    last = script.events[-1]
    assert isinstance(last, RunFinished)
    assert (last.exit_code, "agent was killed" in last.fault) == (7, True)


def test_a_queued_run_waits_for_its_agent_with_patience(state: State, tmp_path: Path) -> None:
    enqueue(state, tmp_path, "a")
    script = Script(*[lambda: None] * 1000)
    ended = script.follow(state, tmp_path, "a")
    assert ended.status == "lost"
    assert "no agent took it up" in ended.fault
    assert script.now - 100.0 >= follow.PATIENCE


def test_settling_leaves_what_is_at_work_or_over(state: State, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        enqueue(state, tmp_path, name)
    state.claim_run(2.0)
    state.finish_run("a", "succeeded", 3.0, 0, "")
    state.claim_run(4.0)
    with only_one(queue.agent_lock(tmp_path)):
        queue.settle_lost(state, tmp_path, 5.0)
        assert [run.status for run in state.runs()].count("running") == 1
    queue.settle_lost(state, tmp_path, 5.0)
    assert sorted(run.status for run in state.runs()) == ["lost", "queued", "succeeded"]


def test_runs_are_found_by_the_start_of_their_name(state: State, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run last"):
        follow.find_run(state, "last")
    for now, name in enumerate(["1122-1", "1122-2", "1123-1", "1123"]):
        enqueue(state, tmp_path, name, float(now))
    assert follow.find_run(state, "last").id == "1123"
    assert follow.find_run(state, "1122-2").id == "1122-2"
    assert follow.find_run(state, "1123").id == "1123"  # its own name goes before a start
    with pytest.raises(UsageError, match="2 runs start with 1122"):
        follow.find_run(state, "1122")
    with pytest.raises(UsageError, match="there is no run zzz"):
        follow.find_run(state, "zzz")


def test_a_run_whose_folder_is_gone(state: State, tmp_path: Path) -> None:
    run = enqueue(state, tmp_path, "a")
    for file in Path(run.folder).iterdir():
        file.unlink()
    with pytest.raises(RunError, match="the log of the run a cannot be read"):
        follow.follow(state, tmp_path, "a", lambda event: None)
    Agent(tmp_path, threading.Event(), lambda: 5.0).work_off()
    lost = state.run("a")
    assert lost is not None
    assert lost.status == "failed"
    assert "cannot be read" in lost.fault


def test_an_agent_that_finds_nothing_ends(state: State, tmp_path: Path) -> None:
    Agent(tmp_path, threading.Event(), lambda: 5.0).work_off()
    assert not queue.agent_works(tmp_path)


def test_an_agent_settles_what_another_left_behind(state: State, tmp_path: Path) -> None:
    enqueue(state, tmp_path, "a")
    state.claim_run(2.0)
    stopping = threading.Event()
    stopping.set()
    enqueue(state, tmp_path, "b")
    Agent(tmp_path, stopping, lambda: 5.0).work_off()
    assert {run.id: run.status for run in state.runs()} == {"a": "lost", "b": "queued"}


def test_two_that_look_are_not_taken_for_a_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert is_held(path) is False
    with only_one(path):
        assert is_held(path) is True
    import fcntl

    with path.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert is_held(path) is False


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", '"text"', "\xff"])
def test_a_result_that_is_no_object_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / specs.RESULT).write_bytes(text.encode("latin-1"))
    assert specs.result(tmp_path) is None


def test_a_spec_is_read_back_as_it_was(tmp_path: Path) -> None:
    specs.write(spec("a"), tmp_path)
    assert specs.read(tmp_path) == spec("a")
    (tmp_path / specs.FILE).write_text("{}")
    with pytest.raises(RunError, match="cannot be read"):
        specs.read(tmp_path)


def test_the_command_is_the_images_own_with_the_settings_after_it() -> None:
    def image(**config: object) -> ImageConfig:
        return ImageConfig("sha256:0", {}, None, 0, "sha256:1", (), {"config": config})

    both = image(Entrypoint=["/sh", "-c"], Cmd=["x"])
    assert specs.command(both, {"a": "1", "b": "x=y z"}) == [
        "/sh", "-c", "x", "--set", "a=1", "--set", "b=x=y z"]  # fmt: skip
    with pytest.raises(RunError, match="says no command to run"):
        specs.command(image(), {})


def test_visible_gpus() -> None:
    assert [specs.visible_gpus(n) for n in (0, 1, 3)] == ["", "0", "0,1,2"]
