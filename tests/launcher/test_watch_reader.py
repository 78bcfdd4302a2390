"""What the agent's real lines mean: runs that begin and end, and which fault ends the agent."""

from __future__ import annotations

import sys

import pytest
from watched import ENDED, FAILED, LAUNCHER, QUOTA, TAKEN

sys.path.insert(0, str(LAUNCHER))

import faults
from watch_reader import QUESTIONS, Finding, Reader
from watch_runs import SETTLING, Outcome, Runs

TABLE = faults.Table.load(LAUNCHER / "faults.toml")
STATUS = "wandb: launch: agent a1 polling on queues q, running {} out of a maximum of 1 jobs\n"
JOB = "Vertex AI job projects/1/locations/us-central1/customJobs/17"


class Agent:
    """Lines as an agent prints them, and what was found in them."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.now = 0.0
        self.runs = Runs(idle_since=0.0)
        self.reader = Reader(TABLE, self.runs, self.found.append)

    def says(self, text: str) -> Agent:
        for line in text.splitlines():
            self.reader.line(line.rstrip(), self.now)
        return self

    def stops(self) -> list[tuple[str, bool]]:
        """Return the class of each fault, and whether it ends the agent."""
        self.reader.quiet()
        return [(one.fault.kind.name, one.fatal) for one in self.found]


def refused(words: str) -> str:
    lines = f"launch: Error running job: {words}".split("\n")
    return "".join(f"wandb: ERROR {line}\n" for line in lines)


def test_a_run_is_taken_and_ends_as_its_job_did() -> None:
    for state, outcome in (("SUCCEEDED", Outcome.SUCCEEDED), ("CANCELLED", Outcome.FAILED)):
        agent = Agent().says(TAKEN)
        assert (agent.runs.taken, agent.runs.running) == (1, 1)
        agent.says(f"wandb: launch: {JOB} is PENDING\nwandb: launch: {JOB} is {state}\n")
        agent.says("wandb: launch: Job finished with ID: 17\n")
        assert agent.runs.ended[outcome] == 1
        assert agent.runs.running == 0
        assert agent.stops() == []


def test_an_end_that_says_nothing_more_is_not_taken_for_success() -> None:
    agent = Agent().says(TAKEN + "wandb: launch: Job finished with ID: 17\n")
    assert agent.runs.ended[Outcome.UNKNOWN] == 1
    assert agent.runs.ended[Outcome.SUCCEEDED] == 0


def test_two_jobs_are_two_runs_whatever_else_is_printed() -> None:
    agent = Agent().says(TAKEN + ENDED + TAKEN + STATUS.format(1) + ENDED + STATUS.format(0))
    assert agent.runs.taken == agent.runs.ended[Outcome.SUCCEEDED] == 2


def test_a_queue_item_is_not_judged() -> None:
    item = f"""\
wandb: launch: Launch agent received job:
wandb: {{'runQueueItemId': 'I1',
wandb:  'runSpec': {{'notes': 'again, after '
wandb:                       '{QUOTA}'}}}}
wandb:\x20
"""
    agent = Agent().says(item)
    assert agent.stops() == []
    assert agent.says(f"wandb: ERROR {QUOTA}\n").stops() == [("quota", True)]


@pytest.mark.parametrize("words", [
    QUOTA,
    f'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n{QUOTA}\n',
    "Failed to create Vertex job: 403 Permission 'aiplatform.customJobs.create' denied on resource",
    f"{JOB} FAILED before it started: 8 RESOURCE_EXHAUSTED: Resources are insufficient in region: "
    "us-central1. Please try a different region or use a different accelerator.",
])  # fmt: skip
def test_a_place_that_refuses_ends_the_agent(words: str) -> None:
    agent = Agent().says(TAKEN + refused(words))
    ((_, fatal),) = agent.stops()
    assert fatal
    assert agent.runs.ended[Outcome.FAILED] == 1


@pytest.mark.parametrize("words", [
    "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\nKeyError: 3\n",
    f"{JOB} FAILED: 3 INVALID_ARGUMENT: The replica workerpool0-0 exited with a non-zero status "
    "of 1. Termination reason: Error.",
    f"{JOB} FAILED: 8 RESOURCE_EXHAUSTED: The replica workerpool0-0 ran out of memory and exited "
    "with a non-zero status of 137.",
    f"{JOB} FAILED: 13 INTERNAL: Internal error occurred for the current attempt.",
    "run.scheduling_strategy must be one of SPOT, FLEX_START, STANDARD, not None",
])  # fmt: skip
def test_what_a_run_fails_of_by_itself_leaves_the_agent_to_the_next(words: str) -> None:
    agent = Agent().says(TAKEN + refused(words) + TAKEN + ENDED)
    assert not any(fatal for _, fatal in agent.stops())
    assert agent.runs.ended[Outcome.FAILED] == agent.runs.ended[Outcome.SUCCEEDED] == 1


def test_a_submission_that_is_tried_again_is_no_fault() -> None:
    agent = Agent().says(TAKEN)
    agent.says("wandb: launch: run r1: not submitted (503 The service is unavailable); once more\n")
    agent.says(f"wandb: launch: {JOB}: its state cannot be read now: 500 Internal error\n")
    assert agent.says(ENDED).stops() == []
    assert agent.runs.ended[Outcome.SUCCEEDED] == 1


def test_an_error_of_several_lines_in_what_is_no_fault_is_none() -> None:
    error = """\
wandb: launch: run r1: not submitted (429 Quota exceeded for quota metric 'Requests' [reason: "RATE"
wandb: reason: "RATE_LIMIT_EXCEEDED"
wandb: domain: "googleapis.com"
wandb: ]); once more
"""
    agent = Agent().says(TAKEN + error)
    assert agent.stops() == []
    assert agent.says(f"wandb: ERROR {QUOTA}\n").stops() == [("quota", True)]


def test_a_job_that_cannot_start_has_failed() -> None:
    agent = Agent().says(TAKEN)
    agent.says(
        "wandb: ERROR launch: Terminating job 17 because it failed to start: no such thing\n"
    )
    assert agent.runs.ended[Outcome.FAILED] == 1
    assert agent.runs.running == 0


def test_a_preempted_run_is_neither_success_nor_failure_and_no_fault() -> None:
    agent = Agent().says(TAKEN + "wandb: launch: Run r1 was preempted, requeuing...\n")
    assert agent.runs.ended[Outcome.PREEMPTED] == 1
    assert agent.stops() == []


QUESTION = """\
wandb: ERROR launch: Error getting status for job 17
wandb: ERROR Traceback (most recent call last):
wandb: ERROR   File "a.py", line 1, in f
wandb: ERROR     g()
wandb: ERROR google.api_core.exceptions.ServiceUnavailable: 503 The service is unavailable.
wandb: ERROR
"""


def test_a_state_that_could_not_be_asked_for_is_no_fault_until_it_goes_on_for_long() -> None:
    agent = Agent().says(TAKEN)
    for _ in range(QUESTIONS - 1):
        agent.now += 10
        agent.says(QUESTION)
    assert agent.stops() == []
    agent.now += 10
    assert agent.says(QUESTION).stops() == [("unavailable", True)]


def test_single_questions_that_fail_do_not_add_up() -> None:
    agent = Agent().says(TAKEN)
    for _ in range(2 * QUESTIONS):
        agent.now += 600
        agent.says(QUESTION)
    assert agent.stops() == []


def test_the_agents_own_failure_ends_it() -> None:
    agent = Agent().says(
        "wandb: launch: Starting launch agent\n"
        "Traceback (most recent call last):\n"
        '  File "a.py", line 1, in f\n'
        "    g()\n"
        "ValueError: no\n"
    )
    assert agent.stops() == [("python_exception", True)]


def test_a_failure_right_after_a_failed_run_is_the_agents_own() -> None:
    agent = Agent().says(TAKEN + FAILED + f"{QUOTA}\n")
    assert agent.stops() == [("python_exception", False), ("quota", True)]


def test_arrs_own_agent_tells_its_runs_in_lines_of_their_own() -> None:
    agent = Agent().says("arr: run r1 taken\narr: run r1 succeeded\narr: run r2 taken\n")
    assert (agent.runs.taken, agent.runs.ended[Outcome.SUCCEEDED], agent.runs.running) == (2, 1, 1)
    agent.says("arr: run r2 failed: killed by SIGKILL\n")
    assert agent.runs.ended[Outcome.FAILED] == 1


@pytest.mark.parametrize(("words", "name"), [
    (QUOTA, "quota"),
    ("oom: the words of the run", "oom"),
    ("network: python_exception: x", "network"),
    ("out of memory: the kernel killed it; use a smaller batch, or a machine with more", "oom"),
    ("python_exception: ValueError: no such digit", "python_exception"),
])  # fmt: skip
def test_a_failed_run_of_arrs_own_agent_has_a_class_and_never_ends_it(
    words: str, name: str
) -> None:
    agent = Agent().says(f"arr: run r1 taken\narr: run r1 failed: {words}\n")
    assert agent.stops() == [(name, False)]
    assert agent.runs.ended[Outcome.FAILED] == 1


@pytest.mark.parametrize("words", ["cancelled", "exit code 3: about to fail", "exit code 1"])
def test_a_failed_run_without_a_class_is_counted_all_the_same(words: str) -> None:
    agent = Agent().says(f"arr: run r1 taken\narr: run r1 failed: {words}\n")
    assert (agent.stops(), agent.runs.ended[Outcome.FAILED]) == ([], 1)


def test_the_agents_own_count_settles_what_went_unsaid() -> None:
    agent = Agent().says(TAKEN + STATUS.format(0))
    assert agent.runs.running == 1  # it was taken a moment ago
    agent.now = SETTLING + 1
    agent.says(STATUS.format(0))
    assert agent.runs.running == 0
    assert agent.runs.ended[Outcome.UNKNOWN] == 1
    assert agent.runs.idle_since == agent.now


def test_an_agent_with_a_status_line_is_known_to_speak_regularly() -> None:
    assert not Agent().says("wandb: launch: Starting launch agent\n").reader.has_status
    assert Agent().says(STATUS.format(0)).reader.has_status
