"""The patch applies, or the process ends: with what wandb it was tested, and with no other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.stage import IMAGE_FOLDER, SECRET, Stage

AGENT = """
import wandb
AGENT_POLLING_INTERVAL = 10
class LaunchError(Exception): ...
def launch_add(**_): ...
class LaunchAgent:
    @classmethod
    def initialized(cls): ...
    async def loop(self): ...
    async def _task_run_job(
        self, launch_spec, job, default_config, api, thread_id, job_tracker): ...
"""
RUNNER = """
WANDB_RUN_ID_KEY = "wandb-run-id"
class LaunchError(Exception): ...
class Status: ...
def event_loop_thread_exec(func): ...
class VertexSubmittedRun:
    def __init__(self, job): ...
    async def get_status(self): ...
async def launch_vertex_job(
    launch_project, spec_args, run_args, environment, synchronous=False): ...
"""
CLOUD = """
def init(**_): ...
class CustomJob:
    _sync_gca_resource = _dashboard_uri = cancel = list = get = None
    def submit(self, *, timeout=None, scheduling_strategy=None, max_wait_duration=None,
        disable_retries=False): ...
"""
START = "import wandb.sdk.launch.agent.agent; print('the agent starts')"


def made_up(folder: Path, version: str, agent: str, runner: str, cloud: str | None) -> Path:
    """Write packages that look like wandb and Google's client as far as the patch looks."""
    launch = "wandb/sdk/launch"
    files = {
        "wandb/__init__.py": f"__version__ = {version!r}\ntermlog = print\n",
        "wandb/sdk/__init__.py": "",
        f"{launch}/__init__.py": "",
        f"{launch}/agent/__init__.py": "",
        f"{launch}/agent/agent.py": agent,
        f"{launch}/runner/__init__.py": "",
        f"{launch}/runner/vertex_runner.py": runner,
    }
    if cloud is not None:
        files["google/cloud/aiplatform/__init__.py"] = cloud
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def start(folder: Path, secret: str | None = SECRET) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{IMAGE_FOLDER}:{folder}"}
    environ |= {} if secret is None else {"WANDB_API_KEY_SECRET": secret}
    return subprocess.run(
        [sys.executable, "-S", "-c", f"import sitecustomize\n{START}"],
        env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_it_applies_to_what_it_was_tested_with(tmp_path: Path) -> None:
    found = start(made_up(tmp_path, "0.31.0", AGENT, RUNNER, CLOUD))
    assert (found.returncode, found.stdout) == (0, "the agent starts\n"), found.stderr
    assert "scheduling patch applied" in found.stderr


@pytest.mark.parametrize(
    ("version", "agent", "runner", "cloud", "words"),
    [
        ("0.23.0", AGENT, RUNNER, CLOUD, "wandb is 0.23.0"),
        ("0.31.1", AGENT, RUNNER, CLOUD, "wandb is 0.31.1"),
        ("0.31.0", AGENT, RUNNER.replace("run_args", "run"), CLOUD, "launch_vertex_job takes"),
        ("0.31.0", AGENT, RUNNER.replace("get_status", "status"), CLOUD, "get_status is not there"),
        ("0.31.0", AGENT.replace("_task_run_job", "_run"), RUNNER, CLOUD, "is not there"),
        ("0.31.0", AGENT, RUNNER, CLOUD.replace("scheduling_", "x"), "set scheduling_strategy"),
        ("0.31.0", AGENT.replace("launch_add", "add"), RUNNER, CLOUD, "has no launch_add"),
        ("0.31.0", AGENT, RUNNER, CLOUD.replace("_sync_", "_"), "has no _sync_gca_resource"),
        ("0.31.0", AGENT, RUNNER, None, "google.cloud.aiplatform cannot be imported"),
        ("0.31.0", AGENT, "import nothing_like_it", CLOUD, "vertex_runner cannot be imported"),
    ],
)
def test_the_agent_does_not_start_with_anything_else(
    tmp_path: Path, version: str, agent: str, runner: str, cloud: str | None, words: str
) -> None:
    found = start(made_up(tmp_path, version, agent, runner, cloud))
    assert (found.returncode, found.stdout) == (78, "")
    assert "the agent does not start" in found.stderr
    assert words in found.stderr
    assert "on-demand, at full price" in found.stderr


@pytest.mark.parametrize("secret", [None, "", "wandb-api-key", "k" * 40])
def test_the_agent_does_not_start_without_the_name_of_the_secret(
    tmp_path: Path, secret: str | None
) -> None:
    found = start(made_up(tmp_path, "0.31.0", AGENT, RUNNER, CLOUD), secret)
    assert (found.returncode, found.stdout) == (78, "")
    assert "WANDB_API_KEY_SECRET" in found.stderr
    assert "kkk" not in found.stderr


def test_the_real_agent_ends_before_w_and_b_hears_of_it(stage: Stage) -> None:
    agent = stage.start(WANDB_API_KEY_SECRET="")
    assert agent.wait() == 78
    assert "the agent does not start" in agent.output
    assert stage.wandb.agents == {}


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wandb_vertex_patch"],
        env={"PYTHONPATH": f"{IMAGE_FOLDER}:{folder}", "WANDB_API_KEY_SECRET": SECRET},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_image_can_be_checked_without_an_agent(tmp_path: Path) -> None:
    assert check(made_up(tmp_path / "good", "0.31.0", AGENT, RUNNER, CLOUD)).returncode == 0
    assert check(made_up(tmp_path / "old", "0.23.0", AGENT, RUNNER, CLOUD)).returncode == 78
    hidden = made_up(tmp_path / "hidden", "0.31.0", AGENT, RUNNER, CLOUD)
    for name in ("wandb_vertex_patch.py", "vertex_request.py"):
        shutil.copy(IMAGE_FOLDER / name, hidden)
    found = subprocess.run(
        [sys.executable, "-m", "wandb_vertex_patch"],
        cwd=hidden, env={}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 78
    assert "sitecustomize.py" in found.stderr


def test_other_processes_import_nothing_for_it() -> None:
    def modules(path: str) -> set[str]:
        code = "import sys; print(*sys.modules)"
        found = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        return set(found.stdout.split())

    assert modules(str(IMAGE_FOLDER)) - modules("") == {"sitecustomize"}
