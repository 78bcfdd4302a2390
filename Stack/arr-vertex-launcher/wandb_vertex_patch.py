"""Gives W&B's launch agent what its Vertex AI runner lacks. Applied by sitecustomize.

Of vertex_runner: launch_vertex_job (scheduling, environment, taking up a job that is already there)
and VertexSubmittedRun.get_status (states by enum) are wrapped; of the agent: loop, _task_run_job
and launch_add (what it leaves when it ends is handed over). Nothing of upstream is copied. It
applies to the releases of wandb that it was tested with, and only if all that it touches looks as
it did then; otherwise the process ends with code 78 before the agent has started.

`python -m wandb_vertex_patch` tells whether it applies here: code 0, or 78.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

import vertex_request

TESTED = ("0.31.0",)
NOT_APPLIED = 78
"""The exit code: EX_CONFIG of sysexits.h."""

AGENT = "wandb.sdk.launch.agent.agent"
RUNNER = "wandb.sdk.launch.runner.vertex_runner"
# What is wrapped or called, and its parameters when that was written.
SIGNATURES = {
    f"{RUNNER}:launch_vertex_job": "launch_project spec_args run_args environment synchronous",
    f"{RUNNER}:event_loop_thread_exec": "func",
    f"{RUNNER}:VertexSubmittedRun.__init__": "self job",
    f"{RUNNER}:VertexSubmittedRun.get_status": "self",
    f"{AGENT}:LaunchAgent.initialized": "",
    f"{AGENT}:LaunchAgent.loop": "self",
    f"{AGENT}:LaunchAgent._task_run_job": (
        "self launch_spec job default_config api thread_id job_tracker"
    ),
}
ATTRIBUTES = {
    AGENT: ("AGENT_POLLING_INTERVAL", "LaunchError", "launch_add"),
    RUNNER: ("LaunchError", "Status", "WANDB_RUN_ID_KEY"),
}
JOB = frozenset({"list", "get", "cancel", "submit", "_sync_gca_resource", "_dashboard_uri"})
SUBMIT = frozenset({"scheduling_strategy", "max_wait_duration", "disable_retries"})


class NotApplicable(Exception):
    """The patch does not fit what is installed, or a setting of it is missing; says which."""


def check(environment: Mapping[str, str]) -> tuple[ModuleType, ModuleType]:
    """Return the agent's and the runner's module if all is as it was. Raises NotApplicable."""
    wandb = _module("wandb")
    if wandb.__version__ not in TESTED:
        raise NotApplicable(f"wandb is {wandb.__version__}; tested with {', '.join(TESTED)}")
    jobs = _module("google.cloud.aiplatform")
    agent, runner = _module(AGENT), _module(RUNNER)
    for path, expected in SIGNATURES.items():
        found = _parameters(path)
        if found != expected.split():
            raise NotApplicable(f"{path} takes ({', '.join(found)}), not ({expected})")
    for module in (agent, runner):
        for name in ATTRIBUTES[module.__name__]:
            if not hasattr(module, name):
                raise NotApplicable(f"{module.__name__} has no {name}")
    if missing := JOB - set(dir(jobs.CustomJob)):
        raise NotApplicable(
            f"google-cloud-aiplatform's CustomJob has no {', '.join(sorted(missing))}"
        )
    missing = SUBMIT - inspect.signature(jobs.CustomJob.submit).parameters.keys()
    if missing:
        raise NotApplicable(f"google-cloud-aiplatform cannot set {', '.join(sorted(missing))}")
    try:
        vertex_request.require_secret(environment.get(vertex_request.SECRET, ""))
    except vertex_request.RequestError as error:
        raise NotApplicable(str(error)) from error
    return agent, runner


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise NotApplicable(f"{name} cannot be imported: {error}") from error


def _parameters(path: str) -> list[str]:
    module, _, names = path.partition(":")
    found: Any = sys.modules[module]
    for name in names.split("."):
        found = getattr(found, name, None)
    if not callable(found):
        raise NotApplicable(f"{path} is not there")
    return list(inspect.signature(found).parameters)


def apply(environment: Mapping[str, str]) -> None:
    """Check and patch. If that cannot be done the process ends with code 78 and says why."""
    try:
        agent, runner = check(environment)
        import vertex_agent

        vertex_agent.install(agent, runner, environment)
    except NotApplicable as error:
        _end(str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, no agent without the patch
        _end(repr(error))
    print(f"arr: scheduling patch applied to wandb {TESTED[-1]}", file=sys.stderr, flush=True)  # noqa: T201


def _end(reason: str) -> NoReturn:
    text = (
        f"arr: the agent does not start: {reason}\n"
        "arr: unpatched it would train on-demand, at full price. Use the pins of requirements.txt, "
        "or test the patch with what is installed and add it to TESTED in wandb_vertex_patch.py."
    )
    print(text, file=sys.stderr, flush=True)  # noqa: T201
    os._exit(NOT_APPLIED)  # sys.exit could be caught by whoever imports the agent


def spec_that_applies(name: str) -> ModuleSpec:
    """Return the import spec of the agent's module, which is patched once it has been executed."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        _end(f"{name} is not there")
    execute: Callable[[ModuleType], None] = spec.loader.exec_module

    def execute_and_apply(module: ModuleType) -> None:
        execute(module)
        apply(os.environ)

    spec.loader.exec_module = execute_and_apply  # type: ignore[method-assign]
    return spec


def main() -> None:
    """Import the agent as it imports itself: sitecustomize must apply the patch, and says so."""
    try:
        agent = _module(AGENT)
    except NotApplicable as error:
        _end(str(error))
    if not hasattr(agent.LaunchAgent.loop, "__wrapped__"):
        _end("sitecustomize.py of this folder is not on Python's path, nothing was applied")


if __name__ == "__main__":
    main()
