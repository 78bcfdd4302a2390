"""What the patch reads from a queue item, and what a job's state means to the agent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.stage import IMAGE_FOLDER, ROOT, SECRET

sys.path.insert(0, str(IMAGE_FOLDER))
import vertex_request
import vertex_state
from vertex_request import RequestError, Scheduling


def test_scheduling_is_read_from_the_run_block() -> None:
    run = {"scheduling_strategy": "FLEX_START", "max_wait_duration": "7200s", "timeout": 60}
    assert vertex_request.scheduling_of(run) == Scheduling("FLEX_START", 7200, False)
    run = {"scheduling_strategy": "SPOT", "max_wait_duration": 0, "disable_retries": True}
    assert vertex_request.scheduling_of(run) == Scheduling("SPOT", 0, True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scheduling_strategy": None}, "must be one of SPOT"),
        ({"scheduling_strategy": "spot"}, "not 'spot'"),
        ({"max_wait_duration": "2h"}, "not '2h'"),
        ({"max_wait_duration": -1}, "not -1"),
        ({"max_wait_duration": True}, "not True"),
        ({"disable_retries": "no"}, "not 'no'"),
        ({"max_wait": 3}, "nothing reads max_wait;"),
    ],
)
def test_a_run_block_that_means_nothing_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        vertex_request.scheduling_of({"scheduling_strategy": "SPOT", **change})


def test_settings_become_what_training_reads() -> None:
    config = {"steps": 20, "model": "tiny.json", "_wandb": {}, "warmup": None, "tf32": True}
    assert vertex_request.settings_of(config) == {
        "ARR_TRAIN_STEPS": "20",
        "ARR_TRAIN_MODEL": "tiny.json",
        "ARR_TRAIN_TF32": "true",
    }
    with pytest.raises(RequestError, match="'a b'"):
        vertex_request.settings_of({"a b": 1})


def pools(*environments: list[dict[str, str]]) -> dict[str, Any]:
    return {"worker_pool_specs": [{"container_spec": {"env": env}} for env in environments]}


def test_every_pool_gets_the_settings_and_loses_the_key() -> None:
    key, kept = {"name": "WANDB_API_KEY", "value": "k"}, {"name": "A", "value": "1"}
    spec = pools([kept, key], [key, {"name": "S", "value": "old"}])
    vertex_request.fill_environment(spec, {"S": SECRET})
    new = {"name": "S", "value": SECRET}
    assert spec == pools([kept, new], [new])


@pytest.mark.parametrize(
    "job",
    [
        {"spec": pools([{"name": "OTHER", "value": "https://user:key-in-clear@host"}])},
        {"spec": pools([]), "run": {"experiment": "key-in-clear"}},
    ],
)
def test_a_key_elsewhere_in_the_job_is_refused(job: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="writes the key in clear"):
        vertex_request.refuse_hidden(job, {"the key": "key-in-clear", "another": ""})


def test_every_state_that_vertex_ai_has_means_something(launcher_python: Path) -> None:
    code = (
        "import json; from google.cloud.aiplatform_v1.types import JobState; "
        "print(json.dumps([state.name for state in JobState]))"
    )
    found = subprocess.run(
        [launcher_python, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert set(json.loads(found.stdout)) == set(vertex_state.STATES)
    agents_own = {"unknown", "starting", "running", "failed", "finished", "stopping", "stopped"}
    assert set(vertex_state.STATES.values()) == agents_own


def job(state: str, *, started: bool = True, code: int = 0, message: str = "") -> Any:
    return SimpleNamespace(
        state=SimpleNamespace(name=f"JOB_STATE_{state}"),
        start_time="then" if started else None,
        error=SimpleNamespace(code=code, message=message),
    )


@pytest.mark.parametrize(
    ("given", "strategy", "state"),
    [
        (job("PENDING"), "STANDARD", "starting"),
        (job("PENDING"), "SPOT", "unknown"),
        (job("QUEUED"), "FLEX_START", "unknown"),
        (job("SUCCEEDED"), "SPOT", "finished"),
        (job("CANCELLED"), "SPOT", "stopped"),
        (job("EXPIRED"), "SPOT", "failed"),
        (job("FAILED", code=8), "SPOT", "preempted"),
        (job("FAILED", code=14, message="the VM was preempted"), "SPOT", "preempted"),
        (job("FAILED", code=8), "STANDARD", "failed"),
        (job("FAILED", code=8, started=False), "SPOT", "failed"),
        (job("FAILED", code=3, message="exited with a non-zero status of 1"), "SPOT", "failed"),
    ],
)
def test_what_a_state_means_to_the_agent(given: Any, strategy: str, state: str) -> None:
    assert vertex_state.state_of(given, strategy) == state


def test_why_a_job_ended_is_said_in_vertex_ais_words() -> None:
    given = job("FAILED", started=False, code=8, message="Resources are insufficient")
    reason = "FAILED before it started: 8 RESOURCE_EXHAUSTED: Resources are insufficient"
    assert vertex_state.reason_of(given) == reason
    assert "gives no reason" in vertex_state.reason_of(job("EXPIRED"))
