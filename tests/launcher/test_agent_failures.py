"""The real agent when something fails: the item says why, and no run is lost."""

from __future__ import annotations

import os
import signal
from datetime import timedelta

import pytest
from fakes.fake_vertex import HELD, Call, Job, Step, refusal
from fakes.fake_wandb import Item, Operation
from fakes.server import Answer
from fakes.stage import Stage, resource_args

QUOTA = (
    "The following quota metrics exceed quota limits: "
    "aiplatform.googleapis.com/custom_model_training_preemptible_nvidia_l4_gpus"
)
FORBIDDEN = "Permission 'aiplatform.customJobs.create' denied on resource '//aiplatform'"
STOCKOUT = "Resources are insufficient in region: us-central1. Try a different region."
NO_IMAGE = "Failed to pull image: manifest unknown"


def refuse_submits(stage: Stage, *refusals: Answer) -> None:
    """Refuse the next submits, in this order, and let all later ones pass."""
    left = list(refusals)

    def failing(call: Call) -> Answer | None:
        return left.pop(0) if call.method == "POST" and left else None

    stage.vertex.failing = failing


def done(stage: Stage, item: Item) -> Item:
    stage.until("the item is over", lambda: item.state in ("FINISHED", "FAILED"))
    return item


def test_without_a_region_the_agent_does_not_start_and_touches_no_item(stage: Stage) -> None:
    item = stage.push()
    agent = stage.start(GOOGLE_CLOUD_REGION="")
    assert agent.wait() == 1
    assert "no region for the jobs: GOOGLE_CLOUD_REGION is not set" in agent.output
    assert (item.state, stage.vertex.submits()) == ("PENDING", [])


def test_an_item_that_fails_says_why_and_the_next_one_is_not_touched(stage: Stage) -> None:
    ends = {
        "stockout": {"code": 8, "message": STOCKOUT},
        "image": {"code": 5, "message": NO_IMAGE},
    }
    stage.vertex.script = lambda job: (
        [Step("PENDING", 2), Step("FAILED", error=ends[job.resource["displayName"]])]
        if job.resource["displayName"] in ends
        else [Step("RUNNING"), Step("SUCCEEDED")]
    )
    agent = stage.start()
    for name, code, message in (("quota", 429, QUOTA), ("permission", 403, FORBIDDEN)):
        refuse_submits(stage, refusal(code, message))
        item = done(stage, stage.push(name))
        assert (item.state, message in item.error) == ("FAILED", True), item
    assert len(stage.vertex.submits()) == 2, "a refusal is final"
    for name, message in (("stockout", STOCKOUT), ("image", NO_IMAGE)):
        item = done(stage, stage.push(name))
        assert (item.state, message in item.error) == ("FAILED", True), item
    assert done(stage, stage.push("good")).state == "FINISHED"
    for message in (QUOTA, FORBIDDEN, STOCKOUT, NO_IMAGE):
        assert message in agent.output
    assert stage.stop(agent) == 0
    assert stage.wandb.rejected == []
    assert stage.vertex.rejected == []


def test_what_cannot_be_asked_for_is_refused_before_anything_is_bought(stage: Stage) -> None:
    leaky = resource_args()
    pool = leaky["gcp-vertex"]["spec"]["worker_pool_specs"][0]
    pool["container_spec"]["env"].append({"name": "LEAK", "value": "${WANDB_API_KEY}"})
    unsaid = resource_args()
    del unsaid["gcp-vertex"]["run"]["scheduling_strategy"]
    stage.start()
    for args, words in (
        (unsaid, "scheduling_strategy must be one of"),
        (resource_args(scheduling_strategy="PREEMPTIBLE"), "not 'PREEMPTIBLE'"),
        (resource_args(strategy="SPOT"), "nothing reads strategy"),
        (leaky, "writes the agent's W&B key in clear"),
    ):
        item = done(stage, stage.push(resource_args=args))
        assert (item.state, words in item.error) == ("FAILED", True), item
    assert stage.vertex.submits() == []

    stage.vertex.alter = lambda job: job["jobSpec"]["scheduling"].update(strategy="STANDARD")
    item = done(stage, stage.push("altered"))
    assert "with the strategy STANDARD, not SPOT: it was cancelled" in item.error
    job = stage.vertex.only()
    assert any(call.path.endswith(f"{job.number}:cancel") for call in stage.vertex.calls)
    stage.vertex.failing = lambda call: (
        refusal(403, "denied") if call.path.endswith(":cancel") else None
    )
    item = done(stage, stage.push("kept"))
    assert "IT MAY RUN ON, cancelling it failed: 403" in item.error

    stage.vertex.alter = lambda job: job["jobSpec"]["scheduling"].update(strategy="ON_DEMAND")
    standard = resource_args(scheduling_strategy="STANDARD")
    item = done(stage, stage.push("dear", resource_args=standard))
    assert item.state == "FINISHED", "it is what was asked for, by its old name"


def test_a_storm_at_submit_is_weathered_without_a_second_job(stage: Stage) -> None:
    stage.start()
    storm = refusal(503, "The service is currently unavailable.")
    refuse_submits(stage, storm, refusal(500, "Internal error encountered."))
    item = done(stage, stage.push())
    assert (item.state, len(stage.vertex.submits())) == ("FINISHED", 3)

    def made_all_the_same(call: Call) -> Answer | None:
        if call.method == "POST" and len(stage.vertex.submits()) == 4:
            stage.vertex._create(call)
            return storm
        return None

    stage.vertex.failing = made_all_the_same
    item = done(stage, stage.push("again"))
    assert (item.state, len(stage.vertex.jobs)) == ("FINISHED", 2)

    refuse_submits(stage, storm, storm, storm)
    item = done(stage, stage.push("lost"))
    assert (item.state, "currently unavailable" in item.error) == ("FAILED", True)


def test_a_storm_while_a_job_runs_loses_nothing(stage: Stage) -> None:
    stage.vertex.script = lambda _: HELD
    agent = stage.start()
    item = stage.push()
    job = stage.until("the job runs", lambda: item.run and running(stage))
    asked = len(stage.vertex.calls)
    stage.vertex.failing = lambda _: refusal(503, "The service is currently unavailable.")
    stage.until("it has been asked", lambda: len(stage.vertex.calls) > asked + 3)
    stage.vertex.failing = lambda _: None
    stage.vertex.go_on(job, Step("SUCCEEDED"))
    assert done(stage, item).state == "FINISHED"
    stage.until("the agent has noticed", lambda: "Job finished with ID" in agent.output)
    assert len(stage.vertex.jobs) == 1


def running(stage: Stage) -> Job | None:
    jobs = list(stage.vertex.jobs.values())
    return jobs[-1] if jobs and "RUNNING" in jobs[-1].states else None


def test_a_preempted_run_is_queued_again_and_resumes(stage: Stage) -> None:
    gone = Step("FAILED", error={"code": 8, "message": "STOCKOUT"})
    scripts = [[Step("RUNNING", 3), gone], [Step("RUNNING", 3), Step("SUCCEEDED")]]
    stage.vertex.script = lambda _: scripts.pop(0)
    agent = stage.start()
    first = stage.push()
    stage.until("two jobs", lambda: len(stage.vertex.jobs) == 2)
    second = stage.until("the second item", lambda: list(stage.wandb.items.values())[1:])[0]
    assert done(stage, second).state == "FINISHED"
    assert "was preempted, requeuing" in agent.output
    assert [job.env["WANDB_RUN_ID"] for job in stage.vertex.jobs.values()] == [first.run] * 2
    resumed = list(stage.vertex.jobs.values())[1]
    assert resumed.env["WANDB_RESUME"] == "allow"
    assert resumed.spec["scheduling"]["strategy"] == "SPOT"
    assert stage.wandb.rejected == []


def test_a_preempted_run_that_cannot_be_queued_again_fails(stage: Stage) -> None:
    stage.vertex.script = lambda _: [
        Step("RUNNING", 3),
        Step("FAILED", error={"code": 8, "message": "STOCKOUT"}),
    ]
    stage.vertex.entered = lambda job, state: (
        stage.wandb.start_run("trial", job.env["WANDB_RUN_ID"]) if state == "RUNNING" else None
    )
    gone = Answer(200, {"errors": [{"message": "no such queue"}]})
    stage.wandb.failing = lambda operation: (
        gone if operation.name == "pushToRunQueueByName" else None
    )
    agent = stage.start()
    item = done(stage, stage.push())
    assert item.error == "it was preempted, and could not be queued again"
    assert f"Error running job: {item.error}" in agent.output


def test_a_pending_spot_job_outlives_the_start_time_out(stage: Stage) -> None:
    stage.vertex.script = lambda _: [Step("PENDING", 30), Step("RUNNING"), Step("SUCCEEDED")]
    stage.start(WANDB_LAUNCH_START_TIMEOUT="1")
    assert done(stage, stage.push()).state == "FINISHED"

    stage.vertex.script = lambda _: [Step("PENDING", 10**9)]
    item = stage.push("standard", resource_args=resource_args(scheduling_strategy="STANDARD"))
    assert "failed to start within 1.0 seconds" in done(stage, item).error


def test_a_run_that_was_stopped_on_the_page_frees_the_agent(stage: Stage) -> None:
    stage.vertex.script = lambda _: HELD
    agent = stage.start()
    item = stage.push()
    stage.until("the job runs", lambda: item.run and running(stage))
    stage.wandb.runs["arr", "trial", item.run].stopped = True
    assert done(stage, item).state == "FINISHED"
    stage.until("the agent has noticed", lambda: "Job finished with ID" in agent.output)
    assert stage.vertex.only().states[-2:] == ["CANCELLING", "CANCELLED"]


@pytest.mark.parametrize("way", ["SIGINT", "page"])
def test_a_job_that_an_agent_leaves_is_taken_up_by_the_next(stage: Stage, way: str) -> None:
    stage.vertex.script = lambda _: HELD
    agent = stage.start()
    item = stage.push()
    job = stage.until("the job runs", lambda: item.run and running(stage))
    if way == "page":
        assert stage.stop(agent) == 0
    else:
        number = signal.Signals[way]
        os.killpg(agent.process.pid, number)  # as the watch does: wandb-core gets it too
        assert agent.wait() == 128 + number
    assert item.state == "FAILED"
    assert "The agent has ended" in item.error
    assert job.resource["name"] in item.error
    assert stage.wandb.agents["A1"].status == "KILLED"
    assert "left to the next agent" in agent.output
    (waiting,) = [other for other in stage.wandb.items.values() if other is not item]
    assert waiting.state == "PENDING"

    second = stage.start()
    stage.until("it is taken up", lambda: "taking up" in second.output)
    assert (waiting.state, waiting.run) == ("CLAIMED", item.run)
    stage.vertex.go_on(job, Step("SUCCEEDED"))
    assert done(stage, waiting).state == "FINISHED"
    stage.until("the agent has noticed", lambda: "Job finished with ID" in second.output)
    assert len(stage.vertex.jobs) == 1
    assert len(stage.vertex.submits()) == 1


def test_an_item_that_is_just_being_taken_is_not_lost(stage: Stage) -> None:
    agent = stage.start()

    def stop_now(operation: Operation) -> None:
        if operation.name == "ackRunQueueItem" and len(stage.wandb.agents) == 1:
            agent.process.terminate()

    stage.wandb.failing = stop_now
    item = stage.push()
    assert agent.wait() == 128 + signal.SIGTERM
    assert (item.state, "no job yet" in item.error) == ("FAILED", True), item
    stage.start()
    (waiting,) = [other for other in stage.wandb.items.values() if other is not item]
    assert done(stage, waiting).state == "FINISHED"
    assert len(stage.vertex.jobs) == 1
    assert stage.wandb.rejected == []


def test_a_job_that_ended_while_nobody_watched_is_told_of(stage: Stage) -> None:
    stage.vertex.script = lambda _: HELD
    agent = stage.start()
    item = stage.push()
    job = stage.until("the job runs", lambda: item.run and running(stage))
    agent.process.terminate()
    agent.wait()
    stage.vertex.go_on(job, Step("FAILED", error={"code": 3, "message": "exited with status 1"}))
    (waiting,) = [other for other in stage.wandb.items.values() if other is not item]
    second = stage.start()
    stage.until("the agent says so", lambda: "exited with status 1" in second.output)
    done(stage, waiting)
    assert len(stage.vertex.jobs) == 1


def test_a_job_that_was_preempted_while_nobody_watched_goes_on(stage: Stage) -> None:
    scripts = [HELD, [Step("RUNNING"), Step("SUCCEEDED")]]
    stage.vertex.script = lambda _: scripts.pop(0)
    agent = stage.start()
    item = stage.push()
    job = stage.until("the job runs", lambda: item.run and running(stage))
    agent.process.terminate()
    agent.wait()
    stage.vertex.go_on(job, Step("FAILED", error={"code": 8, "message": "STOCKOUT"}))
    second = stage.start()
    stage.until("it has run", lambda: "is SUCCEEDED" in second.output)
    assert "was preempted, requeuing" in second.output
    assert [job.env["WANDB_RUN_ID"] for job in stage.vertex.jobs.values()] == [item.run] * 2
    assert [item.state for item in stage.wandb.items.values()].count("CLAIMED") == 0


def test_an_agent_that_fails_itself_hands_over_as_well(stage: Stage) -> None:
    stage.vertex.script = lambda _: HELD
    agent = stage.start()
    item = stage.push()
    stage.until("the job runs", lambda: item.run and running(stage))
    gone = Answer(200, {"errors": [{"message": "this agent was removed"}]})
    stage.wandb.failing = lambda operation: gone if operation.name == "LaunchAgent" else None
    assert agent.wait() == 1
    assert "\nTraceback (most recent call last):\n" in agent.output
    assert "this agent was removed" in agent.output
    assert [each.state for each in stage.wandb.items.values()] == ["FAILED", "PENDING"]
    assert stage.wandb.agents["A1"].status == "KILLED"


def test_an_agent_that_cannot_hand_over_says_so(stage: Stage) -> None:
    stage.vertex.script = lambda _: HELD
    agent = stage.start()
    item = stage.push()
    job = stage.until("the job runs", lambda: item.run and running(stage))

    def down(_: Operation) -> Answer | None:
        return Answer(503, {"errors": [{"message": "down"}]})

    stage.wandb.failing = down
    agent.process.terminate()
    assert agent.wait() == 128 + signal.SIGTERM
    assert "IS LEFT UNWATCHED" in agent.output
    assert f"training/{job.number}" in agent.output


def test_what_a_killed_agent_left_is_found_and_taken_up(stage: Stage) -> None:
    stage.vertex.script = lambda _: HELD
    agent = stage.start()
    item = stage.push()
    job = stage.until("the job runs", lambda: item.run and running(stage))
    os.killpg(agent.process.pid, signal.SIGKILL)
    agent.wait()
    assert item.state == "CLAIMED"

    second = stage.start()
    stage.until("it has looked", lambda: len(stage.wandb.named("GetRunQueueItem")) == 1)
    assert item.state == "CLAIMED", "W&B has heard of the first agent just now: it may be alive"
    stage.wandb.agents["A1"].heartbeat -= timedelta(minutes=6)
    stage.until("it is taken up", lambda: "taking up" in second.output)
    assert item.state == "FAILED"
    stage.vertex.go_on(job, Step("SUCCEEDED"))
    waiting = next(other for other in stage.wandb.items.values() if other is not item)
    assert done(stage, waiting).state == "FINISHED"
    assert (waiting.run, len(stage.vertex.submits())) == (item.run, 1)
    assert stage.wandb.rejected == []
    assert stage.vertex.rejected == []
