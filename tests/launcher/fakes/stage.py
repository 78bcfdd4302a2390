"""A stage for one launch: the two fakes, joined as training joins them, and the real agent."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .fake_vertex import REGION, FakeVertex, Job
from .fake_wandb import ENTITY, KEY, FakeWandb, Item

ROOT = Path(__file__).parents[3]
IMAGE_FOLDER = ROOT / "Stack" / "arr-vertex-launcher"
QUEUE = "vertex-ai-queue"
PROJECT = "trial"
SECRET = "projects/arr-project/secrets/wandb-api-key/versions/latest"
IMAGE = "us-central1-docker.pkg.dev/arr-project/arr/arr-trainer@sha256:" + "a" * 64
PATIENCE = 120.0
"""Seconds: on a busy machine an agent takes a quarter of a minute to start."""


def resource_args(**run: Any) -> dict[str, Any]:
    """The queue's configuration: one L4 machine; `run` is what the `run` block says beyond spot."""
    pool = {
        "machine_spec": {
            "machine_type": "g2-standard-8",
            "accelerator_type": "NVIDIA_L4",
            "accelerator_count": 1,
        },
        "replica_count": 1,
        "container_spec": {
            "image_uri": "${image_uri}",
            "env": [{"name": "FROM_QUEUE", "value": "yes"}],
        },
    }
    spec = {"worker_pool_specs": [pool], "staging_bucket": "gs://arr-staging"}
    block = {
        "scheduling_strategy": "SPOT",
        "timeout": 86400,
        "service_account": "training@arr-project.iam.gserviceaccount.com",
        "restart_job_on_worker_restart": True,
        **run,
    }
    return {"gcp-vertex": {"spec": spec, "run": block}}


class AgentProcess:
    """A running agent and its output so far."""

    def __init__(self, argv: Sequence[str | Path], environ: dict[str, str], cwd: Path) -> None:
        self.process = subprocess.Popen(
            argv, env=environ, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self.times: list[float] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self.lines.append(line.rstrip("\n"))
                self.times.append(time.monotonic())

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait(self) -> int:
        """Wait until it has ended by itself; return its exit code."""
        code = self.process.wait(PATIENCE)
        self.end()
        return code

    def end(self) -> None:
        """End it and what it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                break
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                continue
        self._reader.join(10)


class Stage:
    """`python` is the one that has the launcher's pins. Ends every agent that it has started."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python = python
        self.folder = folder
        self.wandb = FakeWandb()
        self.vertex = FakeVertex(python)
        self.agents: list[AgentProcess] = []
        self.wandb.add_queue(QUEUE, resource_args())
        self.vertex.entered = self.train

    def __enter__(self) -> Self:
        self.wandb.__enter__()
        self.vertex.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for agent in self.agents:
            agent.end()
        self.vertex.__exit__(kind, error, at)
        self.wandb.__exit__(kind, error, at)

    def train(self, job: Job, state: str) -> None:
        """What the training in the job's container tells W&B."""
        where = job.env["WANDB_PROJECT"], job.env["WANDB_RUN_ID"]
        if state == "RUNNING":
            self.wandb.start_run(*where)
        elif (ENTITY, *where) in self.wandb.runs and state in ("SUCCEEDED", "FAILED", "CANCELLED"):
            self.wandb.end_run(*where, "finished" if state == "SUCCEEDED" else "crashed")

    def push(self, name: str = "first", **spec: Any) -> Item:
        """Put a run of the trainer's image into the queue."""
        return self.wandb.push(
            QUEUE,
            {
                "docker": {"docker_image": IMAGE},
                "entity": ENTITY,
                "project": PROJECT,
                "name": name,
                "git": {},
                "overrides": {"run_config": {"steps": 20, "learning_rate": 0.001}},
                **spec,
            },
        )

    def environ(self, **more: str) -> dict[str, str]:
        """The whole environment of an agent: nothing of this process's own but PATH."""
        home = self.folder / "home"
        config = home / ".config" / "wandb" / "launch-config.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text("builder: {type: noop}\nstopped_run_timeout: 1\n")
        return {
            "PATH": f"{self.python.parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(IMAGE_FOLDER),
            "PYTHONDONTWRITEBYTECODE": "1",
            "WANDB_BASE_URL": self.wandb.url,
            "WANDB_API_KEY": KEY,
            "WANDB_API_KEY_SECRET": SECRET,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_LAUNCH_POLL_SECONDS": "0.3",
            "GOOGLE_CLOUD_REGION": REGION,
            "VERTEX_AI_ENDPOINT": self.vertex.url,
            "GCE_METADATA_HOST": self.vertex.address,
            "GCE_METADATA_IP": self.vertex.address,
            # Whatever would leave this machine is refused here, and recorded.
            "HTTPS_PROXY": self.vertex.url,
            "NO_PROXY": "127.0.0.1",
            **more,
        }

    def start(self, **environ: str) -> AgentProcess:
        """Start the agent by itself."""
        return self._start([self.python.parent / "wandb"], environ)

    def start_watched(self, **environ: str) -> AgentProcess:
        """Start the agent as the image does: under the wrapper, and so under the watch."""
        return self._start(["sh", IMAGE_FOLDER / "entrypoint-wrapper.sh", "wandb"], environ)

    def _start(self, program: list[str | Path], environ: dict[str, str]) -> AgentProcess:
        argv = [*program, "launch-agent", "-q", QUEUE, "-e", ENTITY]
        agent = AgentProcess(argv, self.environ(**environ), self.folder)
        self.agents.append(agent)
        return agent

    def until(self, what: str, true: Callable[[], Any], patience: float = PATIENCE) -> Any:
        """Wait until `true()` is; fails the test with the agents' output if it takes too long."""
        end = time.monotonic() + patience
        while not (found := true()):
            if time.monotonic() > end:
                outputs = "\n----\n".join(agent.output for agent in self.agents)
                rejected = [*self.wandb.rejected, *self.vertex.rejected]
                raise AssertionError(f"waited in vain: {what}\n{outputs}\nrejected: {rejected}")
            time.sleep(0.05)
        return found

    def stop(self, agent: AgentProcess) -> int:
        """Stop an agent as W&B's page does; return its exit code."""
        for known in self.wandb.agents.values():
            known.stop = True
        return agent.wait()
