"""The real `wandb launch-agent`, from a queue item to a job on Vertex AI and its end."""

from __future__ import annotations

from fakes.fake_wandb import KEY
from fakes.stage import IMAGE, SECRET, Stage, resource_args


def test_an_item_becomes_a_spot_job_and_is_done(stage: Stage) -> None:
    item = stage.push()
    agent = stage.start()
    stage.until("the item is done", lambda: item.state == "FINISHED")
    stage.until("the agent has noticed", lambda: "Job finished with ID" in agent.output)
    assert stage.stop(agent) == 0, agent.output

    job = stage.vertex.only()
    assert job.states == ["QUEUED", "PENDING", "RUNNING", "SUCCEEDED"]
    assert job.spec["scheduling"]["strategy"] == "SPOT"
    assert job.spec["scheduling"]["timeout"] == "86400s"
    assert job.spec["scheduling"]["restartJobOnWorkerRestart"] is True
    container = job.spec["workerPoolSpecs"][0]["containerSpec"]
    assert container["imageUri"] == IMAGE
    assert not container.get("command")
    assert (
        job.env.items()
        >= {
            "ARR_TRAIN_STEPS": "20",
            "ARR_TRAIN_LEARNING_RATE": "0.001",
            "WANDB_API_KEY_SECRET": SECRET,
            "WANDB_BASE_URL": stage.wandb.url,
            "WANDB_PROJECT": "trial",
            "WANDB_ENTITY": "arr",
            "WANDB_NAME": "first",
            "WANDB_RUN_ID": item.run,
            "FROM_QUEUE": "yes",
        }.items()
    )
    assert item.error == ""
    assert stage.wandb.rejected == []
    assert stage.vertex.rejected == []
    # Google's own library looks up something about the account there; it is refused, and goes on.
    assert stage.vertex.outside <= {"iamcredentials.googleapis.com:443"}


def test_how_long_to_wait_is_passed_on_and_the_key_is_not(stage: Stage) -> None:
    run = {"scheduling_strategy": "FLEX_START", "max_wait_duration": "7200s"}
    args = resource_args(**run, disable_retries=True, restart_job_on_worker_restart=False)
    item = stage.push(resource_args=args)
    stage.start()
    stage.until("the item is done", lambda: item.state == "FINISHED")
    job = stage.vertex.only()
    assert {name: value for name, value in job.spec["scheduling"].items() if value} == {
        "timeout": "86400s",
        "strategy": "FLEX_START",
        "maxWaitDuration": "7200s",
        "disableRetries": True,
    }
    assert "WANDB_API_KEY" not in job.env
    for call in stage.vertex.calls:
        assert KEY.encode() not in call.body
