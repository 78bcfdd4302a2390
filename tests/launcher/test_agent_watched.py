"""The real agent under the real wrapper and watch, as in the image, and what goes wrong around it.

Each scene has a stage and an agent of its own. They are played side by side: most of the time goes
by in waiting.
"""

from __future__ import annotations

import json
import os
import signal
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes.fake_vertex import HELD, Call, Job, Step, refusal
from fakes.fake_wandb import Item
from fakes.server import Answer
from fakes.stage import IMAGE_FOLDER, AgentProcess, Stage

TABLE = tomllib.loads((IMAGE_FOLDER / "faults.toml").read_text())
GOOD = [Step("PENDING"), Step("RUNNING"), Step("SUCCEEDED")]
QUOTA = (
    "The following quota metrics exceed quota limits: "
    "aiplatform.googleapis.com/custom_model_training_preemptible_nvidia_l4_gpus"
)
STOCKOUT = "Resources are insufficient in region: us-central1. Try a different region."
GONE = Step("FAILED", error={"code": 8, "message": "STOCKOUT"})
OLD_QUOTA = "google.api_core.exceptions.ResourceExhausted: 429 Quota exceeded for aiplatform"
UNHURRIED = {"ARR_IDLE_TIMEOUT": "600", "ARR_GRACE": "15"}
SIDE_BY_SIDE = 4

Play = Callable[["Stage"], list["Ended"]]
scenes: dict[str, Play] = {}


def scene(play: Play) -> Play:
    scenes[play.__name__] = play
    return play


class Ended:
    """An agent that has ended, and the stage as it was then."""

    def __init__(self, stage: Stage, agent: AgentProcess) -> None:
        self.stage, self.agent = stage, agent
        agent.wait()
        self.items = [replace(item) for item in stage.wandb.items.values()]
        self.states = [job.states[-1] for job in stage.vertex.jobs.values()]
        self.report: dict[str, Any] = json.loads(agent.lines[-1])

    @property
    def how(self) -> tuple[int, str, str | None]:
        """The exit code, what ended it, and the class of the fault."""
        assert self.report["exit_code"] == self.agent.process.returncode, self.agent.output
        return self.report["exit_code"], self.report["end"], self.report["class"]

    @property
    def runs(self) -> dict[str, int]:
        """What there was of runs."""
        names = ("taken", "succeeded", "failed", "preempted", "unknown", "running")
        return {name: self.report[name] for name in names if self.report[name]}


Played = dict[str, Future[list[Ended]]]


@pytest.fixture(scope="module")
def played(launcher_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """The agents of each scene; they are there once it is over, and raise what went wrong."""

    def perform(play: Play, folder: Path) -> list[Ended]:
        with Stage(launcher_python, folder) as stage:
            agents = play(stage)
            assert stage.wandb.rejected == []
            assert stage.vertex.rejected == []
            return agents

    folders = {name: tmp_path_factory.mktemp(name) for name in scenes}
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        yield {name: pool.submit(perform, scenes[name], folders[name]) for name in scenes}


def until_it_runs(stage: Stage, agent: AgentProcess) -> None:
    stage.until("the job runs", lambda: "is RUNNING" in agent.output)


def process_of(watch: AgentProcess) -> int:
    """The agent's own process, which the watch has started."""
    pid = watch.process.pid
    (agent,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(agent)


def take_up(stage: Stage) -> AgentProcess:
    """Start another agent, which watches the job that there is to its end."""
    agent = stage.start_watched(**UNHURRIED)
    stage.until("it is taken up", lambda: "taking up" in agent.output)
    stage.vertex.go_on(stage.vertex.only(), Step("SUCCEEDED"))
    stage.until("the agent has noticed", lambda: "Job finished with ID" in agent.output)
    return agent


# The scenes, the longest ones first.


@scene
def two_items(stage: Stage) -> list[Ended]:
    """The first fails in the middle of its training, whose last words look alarming."""
    words = f"The replica workerpool0-0 exited with a non-zero status of 1. Last: {OLD_QUOTA}"
    scripts = [[Step("RUNNING"), Step("FAILED", error={"code": 3, "message": words})], GOOD]
    stage.vertex.script = lambda _: scripts.pop(0)
    stage.push("first")
    stage.push("second")
    return [Ended(stage, stage.start_watched(ARR_IDLE_TIMEOUT="45"))]


@scene
def hang(stage: Stage) -> list[Ended]:
    stage.vertex.script = lambda _: HELD
    stage.push()
    agent = stage.start_watched(**UNHURRIED | {"ARR_SILENCE_TIMEOUT": "45", "ARR_GRACE": "1"})
    until_it_runs(stage, agent)
    os.kill(process_of(agent), signal.SIGSTOP)
    return [Ended(stage, agent)]


@scene
def crash(stage: Stage) -> list[Ended]:
    stage.vertex.script = lambda _: HELD
    stage.push()
    agent = stage.start_watched(**UNHURRIED)
    until_it_runs(stage, agent)
    os.kill(process_of(agent), signal.SIGKILL)
    first = Ended(stage, agent)
    stage.wandb.agents["A1"].heartbeat -= timedelta(minutes=6)
    agent = take_up(stage)
    stage.stop(agent)
    return [first, Ended(stage, agent)]


@scene
def stop(stage: Stage) -> list[Ended]:
    stage.vertex.script = lambda _: HELD
    stage.push()
    agent = stage.start_watched(**UNHURRIED)
    until_it_runs(stage, agent)
    agent.process.terminate()
    first = Ended(stage, agent)
    agent = take_up(stage)
    agent.process.terminate()
    return [first, Ended(stage, agent)]


@scene
def preemption(stage: Stage) -> list[Ended]:
    scripts = [[Step("RUNNING", 2), GONE], GOOD]
    stage.vertex.script = lambda _: scripts.pop(0)
    stage.push()
    agent = stage.start_watched(**UNHURRIED)
    stage.until("it is done", lambda: "Job finished with ID" in agent.output)
    stage.stop(agent)
    return [Ended(stage, agent)]


@scene
def short_storm(stage: Stage) -> list[Ended]:
    refusals = [refusal(code, "Try again later.") for code in (503, 500)]
    stage.vertex.failing = lambda call: (
        refusals.pop(0) if call.method == "POST" and refusals else None
    )
    stage.push()
    agent = stage.start_watched(**UNHURRIED)
    stage.until("it is done", lambda: "Job finished with ID" in agent.output)
    stage.stop(agent)
    return [Ended(stage, agent)]


def refused(code: int, message: str) -> Play:
    """Each submit is refused in this way."""

    def failing(call: Call) -> Answer | None:
        return refusal(code, message) if call.method == "POST" else None

    def play(stage: Stage) -> list[Ended]:
        stage.vertex.failing = failing
        stage.push()
        return [Ended(stage, stage.start_watched(**UNHURRIED))]

    return play


def fails(code: int, message: str) -> Play:
    """The job waits for its machine, and fails."""

    def script(_: Job) -> list[Step]:
        return [Step("PENDING", 3), Step("FAILED", error={"code": code, "message": message})]

    def play(stage: Stage) -> list[Ended]:
        stage.vertex.script = script
        stage.push()
        return [Ended(stage, stage.start_watched(**UNHURRIED))]

    return play


# Class of the fault -> what happens, the words that the item keeps of it, how many times it was
# submitted.
FAULTS = {
    "quota": (refused(429, QUOTA), QUOTA, 1),
    "permission": (
        refused(403, "Permission 'aiplatform.customJobs.create' denied on resource '//x'"),
        "aiplatform.customJobs.create",
        1,
    ),
    "internal": (refused(500, "Internal error encountered."), "Internal error encountered", 3),
    "unavailable": (
        refused(503, "The service is currently unavailable."),
        "currently unavailable",
        3,
    ),
    "stockout": (fails(8, STOCKOUT), STOCKOUT, 1),
    "image_pull": (fails(5, "Failed to pull image: manifest unknown"), "manifest unknown", 1),
}
scenes.update({name: play for name, (play, _, _) in FAULTS.items()})


# What they show.


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_the_agent_with_the_code_of_its_class(played: Played, name: str) -> None:
    (found,), (_, words, submits) = played[name].result(), FAULTS[name]
    assert found.how == (TABLE[name]["exit_code"], "fault", name)
    assert found.runs == {"taken": 1, "failed": 1}
    (item,) = found.items
    assert (item.state, words in item.error) == ("FAILED", True), item.error
    assert len(found.stage.vertex.submits()) == submits
    assert found.stage.wandb.agents["A1"].status == "KILLED"
    assert f"FATAL FAULT: {name}" in found.agent.output


def test_of_two_items_the_first_fails_and_the_second_is_not_touched(played: Played) -> None:
    (found,) = played["two_items"].result()
    code, end, _ = found.how
    assert (code, end) == (0, "idle"), found.agent.output
    assert found.runs == {"taken": 2, "failed": 1, "succeeded": 1}
    assert OLD_QUOTA in found.agent.output
    assert "FATAL FAULT" not in found.agent.output
    assert found.items[1].state == "FINISHED"
    assert found.states == ["FAILED", "SUCCEEDED"]
    # Idle, it was ended by the watch: nothing is left behind.
    assert found.stage.wandb.agents["A1"].status == "KILLED"


def test_an_agent_that_hangs_is_ended_and_what_it_leaves_is_said(played: Played) -> None:
    (found,) = played["hang"].result()
    assert found.how == (124, "silence", None)
    assert found.runs == {"taken": 1, "running": 1}
    assert "no longer watches" in found.agent.output
    assert found.states == ["RUNNING"]


def test_an_agent_that_dies_is_told_of_and_the_next_one_takes_its_job_up(played: Played) -> None:
    found, following = played["crash"].result()
    assert found.how == (128 + signal.SIGKILL, "agent", None)
    assert found.runs == {"taken": 1, "running": 1}
    assert "no longer watches" in found.agent.output
    assert [item.state for item in found.items] == ["CLAIMED"]

    assert following.how == (0, "agent", None)
    assert_taken_up(following)


def test_a_stop_of_the_container_leaves_the_job_to_the_next_agent(played: Played) -> None:
    found, following = played["stop"].result()
    assert found.how == (128 + signal.SIGTERM, "signal", None)
    assert found.runs == {"taken": 1, "running": 1}
    assert "is left to the next agent" in found.agent.output
    assert [item.state for item in found.items] == ["FAILED", "PENDING"]
    assert found.states == ["RUNNING"]
    assert found.stage.wandb.agents["A1"].status == "KILLED"

    assert following.how == (128 + signal.SIGTERM, "signal", None)
    assert_taken_up(following)


def assert_taken_up(found: Ended) -> None:
    """The one job was watched to its end, by the item that took the first one's place."""
    assert found.runs == {"taken": 1, "succeeded": 1}
    first, second = found.items
    assert (first.state, second.state) == ("FAILED", "FINISHED")
    assert taken_up_with(first, second)
    assert len(found.stage.vertex.submits()) == 1


def taken_up_with(first: Item, second: Item) -> bool:
    return second.id in first.error and first.run == second.run


def test_a_preempted_run_is_no_fault_and_resumes(played: Played) -> None:
    (found,) = played["preemption"].result()
    assert found.how[:2] == (0, "agent")
    assert found.runs == {"taken": 2, "preempted": 1, "succeeded": 1}
    first, second = found.items
    assert (first.run, second.state) == (second.run, "FINISHED")
    assert found.states == ["FAILED", "SUCCEEDED"]
    assert "FATAL FAULT" not in found.agent.output


def test_a_short_storm_is_no_fault(played: Played) -> None:
    (found,) = played["short_storm"].result()
    assert found.how == (0, "agent", None)
    assert found.runs == {"taken": 1, "succeeded": 1}
    assert [item.state for item in found.items] == ["FINISHED"]
    assert len(found.stage.vertex.submits()) == 3
    assert found.agent.output.count("not submitted, retrying") == 2
