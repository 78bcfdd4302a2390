"""The real agent under the real wrapper and watch, as in the image."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from fakes.fake_vertex import HELD, Step, refusal
from fakes.stage import AgentProcess, Stage

GOOD = [Step("PENDING"), Step("RUNNING", 2), Step("SUCCEEDED")]


def report(agent: AgentProcess) -> dict[str, Any]:
    """The watch's last line."""
    found: dict[str, Any] = json.loads(agent.lines[-1])
    return found


def test_two_items_one_after_the_other_of_which_the_first_fails(stage: Stage) -> None:
    why = {"code": 3, "message": "The replica workerpool0-0 exited with a non-zero status of 1."}
    scripts = [[Step("RUNNING", 2), Step("FAILED", error=why)], GOOD]
    stage.vertex.script = lambda _: scripts.pop(0)
    first, second = stage.push("first"), stage.push("second")
    agent = stage.start_watched(ARR_IDLE_TIMEOUT="25")
    assert agent.wait() == 0, agent.output
    assert why["message"] in agent.output
    assert (first.run != second.run, second.state) == (True, "FINISHED")
    counts = report(agent)
    assert (counts["taken"], counts["failed"], counts["succeeded"]) == (2, 1, 1)
    # Idle, it was ended by the watch: nothing is left behind.
    assert stage.wandb.agents["A1"].status == "KILLED"
    assert stage.wandb.rejected == []
    assert stage.vertex.rejected == []


def test_a_quota_ends_the_agent_and_the_item_is_not_tried_for_ever(stage: Stage) -> None:
    quota = "The following quota metrics exceed quota limits: custom_model_training_cpus"
    stage.vertex.failing = lambda call: refusal(429, quota) if call.method == "POST" else None
    item = stage.push()
    agent = stage.start_watched()
    assert agent.wait() not in (0, 1, 78)
    assert report(agent)["failed"] == 1
    assert (item.state, quota in item.error) == ("FAILED", True)
    assert list(stage.wandb.items.values()) == [item]


def test_a_stop_of_the_container_leaves_the_job_to_the_next_agent(stage: Stage) -> None:
    stage.vertex.script = lambda _: HELD
    item = stage.push()
    agent = stage.start_watched()
    stage.until("the job runs", lambda: "is RUNNING" in agent.output)
    agent.process.send_signal(signal.SIGTERM)
    assert agent.wait() == 128 + signal.SIGTERM, agent.output
    (waiting,) = [other for other in stage.wandb.items.values() if other is not item]
    assert (item.state, waiting.state) == ("FAILED", "PENDING")

    second = stage.start_watched()
    stage.until("it is taken up", lambda: "taking up" in second.output)
    stage.vertex.go_on(stage.vertex.only(), Step("SUCCEEDED"))
    stage.until("the agent has noticed", lambda: "Job finished with ID" in second.output)
    second.process.send_signal(signal.SIGTERM)
    assert second.wait() == 128 + signal.SIGTERM
    assert waiting.state == "FINISHED"
    assert (report(second)["succeeded"], report(second)["running"]) == (1, 0)


def test_an_agent_that_hangs_is_ended_and_what_it_leaves_is_said(stage: Stage) -> None:
    stage.vertex.script = lambda _: HELD
    item = stage.push()
    agent = stage.start_watched(ARR_SILENCE_TIMEOUT="25", ARR_GRACE="1")
    stage.until("the job runs", lambda: "is RUNNING" in agent.output)
    watch = agent.process.pid
    (hanging,) = Path(f"/proc/{watch}/task/{watch}/children").read_text().split()
    os.kill(int(hanging), signal.SIGSTOP)
    assert agent.wait() == 124, agent.output
    assert report(agent)["running"] == 1
    assert "no longer watches" in agent.output
    assert item.state == "CLAIMED", "the next agent's search finds it, see test_agent_failures"
