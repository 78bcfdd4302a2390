"""The patch itself: what wandb_vertex_patch puts around W&B's Vertex AI runner and its agent."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import vertex_request
import vertex_state
from vertex_handover import LEFT_JOB
from vertex_leaving import Leaving
from vertex_orphans import Orphans, trace

ENDPOINT = "VERTEX_AI_ENDPOINT"
POLL = "WANDB_LAUNCH_POLL_SECONDS"
ATTEMPTS = 3

_wanted: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("wanted")


def install(agent: Any, runner: ModuleType, environment: Mapping[str, str]) -> None:
    """Patch the two modules. Whoever calls has checked that they look as expected."""
    from google.cloud import aiplatform

    # REST, as the tests have it: HTTP proxies work, and one error has one form. Another endpoint
    # than the region's own is that of a Private Service Connect.
    aiplatform.init(api_transport="rest", api_endpoint=environment.get(ENDPOINT))
    if environment.get(POLL):
        agent.AGENT_POLLING_INTERVAL = float(environment[POLL])
    secret = vertex_request.require_secret(environment[vertex_request.SECRET])
    Jobs(aiplatform, runner, agent).install(secret)
    orphans = Orphans(aiplatform, runner.WANDB_RUN_ID_KEY, agent)
    Leaving(agent, runner.VertexSubmittedRun, orphans.search).install()


class Jobs:
    """Custom jobs, as the runner makes and watches them."""

    def __init__(
        self,
        aiplatform: Any,
        runner: ModuleType,
        agent: Any,
    ) -> None:
        self._aiplatform = aiplatform
        self._runner = runner
        self._agent = agent
        self._thread = runner.event_loop_thread_exec

    def install(self, secret: str) -> None:
        runner, thread, upstream = self._runner, self._thread, self._runner.launch_vertex_job

        def event_loop_thread_exec(func: Any) -> Any:
            wanted = _wanted.get(None)
            if wanted is not None and getattr(func, "__name__", "") in ("submit", "run"):
                func = functools.partial(func, **wanted)
            return thread(func)

        @functools.wraps(upstream)
        async def launch_vertex_job(
            launch_project: Any,
            spec_args: dict[str, Any],
            run_args: dict[str, Any],
            environment: Any,
            synchronous: bool = False,
        ) -> Any:
            wanted = self._prepare(launch_project, spec_args, run_args, secret)

            async def submit() -> Any:
                token = _wanted.set(wanted)
                try:
                    return await upstream(
                        launch_project, spec_args, run_args, environment, synchronous
                    )
                finally:
                    _wanted.reset(token)

            return await self._take_up_or(submit, wanted, launch_project, environment)

        async def get_status(run: Any) -> Any:
            return await self._status(run)

        runner.event_loop_thread_exec = event_loop_thread_exec  # type: ignore[attr-defined]
        runner.launch_vertex_job = launch_vertex_job  # type: ignore[attr-defined]
        runner.VertexSubmittedRun.get_status = get_status

    def _prepare(
        self, project: Any, spec: dict[str, Any], run: dict[str, Any], secret: str
    ) -> dict[str, Any]:
        """Fill the job's environment, in place; return what submit gets beyond upstream's."""
        own = {vertex_request.SECRET: secret, **trace(self._agent.LaunchAgent, project.launch_spec)}
        hidden = {
            "the agent's W&B key": project.api.api_key or "",
            "a W&B key of the item": project.launch_spec.get("_wandb_api_key") or "",
        }
        try:
            scheduling = vertex_request.scheduling_of(run)
            settings = vertex_request.settings_of(project.override_config)
            vertex_request.fill_environment(spec, {**settings, **own})
            vertex_request.refuse_hidden({"spec": spec, "run": run, "name": project.name}, hidden)
        except vertex_request.RequestError as error:
            raise self._runner.LaunchError(str(error)) from error
        types = _types()
        return {
            "scheduling_strategy": types.Scheduling.Strategy[scheduling.strategy],
            "max_wait_duration": scheduling.max_wait_duration,
            "disable_retries": scheduling.disable_retries,
        }

    async def _take_up_or(
        self, submit: Callable[[], Any], wanted: dict[str, Any], project: Any, environment: Any
    ) -> Any:
        """Return the run's job if there is one, else submit it, at most three times.

        A refusal that may pass (500, 503, no connection) may have made the job all the same.
        """
        mark = project.launch_spec.pop(LEFT_JOB, None)
        look = mark is not None or bool(project.launch_spec.get("run_id"))
        for attempt in range(1, ATTEMPTS + 1):
            if look and (job := await self._left(project.run_id, mark, environment)):
                self._tell(f"run {project.run_id}: taking up {_name(job)}, which is there already")
                return self._runner.VertexSubmittedRun(job)
            look = True
            try:
                run = await submit()
            except Exception as error:
                if attempt == ATTEMPTS or not may_pass(error):
                    raise
                self._tell(f"run {project.run_id}: not submitted, retrying: {error}")
                await asyncio.sleep(self._agent.AGENT_POLLING_INTERVAL * attempt)
            else:
                return await self._checked(run, wanted["scheduling_strategy"], project.run_id)
        raise AssertionError("unreachable")

    async def _left(self, run_id: str, mark: str | None, environment: Any) -> Any:
        """Return the run's job: the one that the item names, or one that is not over; or None."""
        credentials = await environment.get_credentials()
        where = {
            "project": environment.project,
            "location": environment.region,
            "credentials": credentials,
        }
        custom = self._aiplatform.CustomJob
        try:
            if mark:
                return await self._thread(custom.get)(mark, **where)
            jobs = await self._thread(custom.list)(
                filter=f'labels.{self._runner.WANDB_RUN_ID_KEY}="{run_id}"', **where
            )
        except Exception as error:
            raise self._runner.LaunchError(
                f"cannot tell whether run {run_id} already has a job on Vertex AI: {error}"
            ) from error
        alive = [j for j in jobs if not vertex_state.is_over(j._gca_resource)]
        return alive[0] if alive else None

    async def _checked(self, run: Any, strategy: Any, run_id: str) -> Any:
        """Return the submitted run if Vertex AI took the strategy; else cancel its job.

        STANDARD is what it falls back to, by whatever name: there is nothing dearer.
        """
        found = run._job._gca_resource.job_spec.scheduling.strategy
        if found == strategy or strategy.name == "STANDARD":
            self._tell(
                f"run {run_id}: submitted {_name(run._job)} ({strategy.name}), "
                f"{run.get_page_link()}"
            )
            return run
        try:
            await self._thread(run._job.cancel)()
            end = "it was cancelled"
        except Exception as error:  # noqa: BLE001 - it is said, with what to do
            end = f"IT MAY RUN ON, cancelling it failed: {error}. Cancel it: {run.get_page_link()}"
        raise self._runner.LaunchError(
            f"Vertex AI made {_name(run._job)} with the strategy {found.name}, not "
            f"{strategy.name}: {end}"
        )

    async def _status(self, run: Any) -> Any:
        """Return the job's state. One that cannot be read now is as it was; see `may_pass`.

        The agent asks twice a poll, and tells W&B why a job failed only if the first one says so:
        the second gets the same answer.
        """
        job, error_of = run._job, self._runner.LaunchError
        last, found = getattr(run, "_arr_last", (0.0, None))
        if found and time.monotonic() - last < self._agent.AGENT_POLLING_INTERVAL / 2:
            return found
        try:
            await self._thread(job._sync_gca_resource)()
        except Exception as error:
            if may_pass(error) or getattr(error, "code", None) == 429:
                self._once(run, f"{_name(job)}: its state cannot be read, retrying: {error}")
                return self._runner.Status(_state(job._gca_resource))
            raise error_of(
                f"{_name(job)} cannot be watched any more and may go on: {error}. "
                f"See or cancel it: {run.get_page_link()}"
            ) from error
        resource = job._gca_resource
        state = _state(resource)
        if state in ("failed", "preempted") or (state == "stopped" and not resource.start_time):
            reason = vertex_state.reason_of(resource)
            if state != "preempted":
                raise error_of(f"{_name(job)} {reason}")
            self._once(run, f"{_name(job)} was preempted, requeuing its run: {reason}")
        else:
            self._once(run, f"{_name(job)} is {resource.state.name.removeprefix('JOB_STATE_')}")
        found = self._runner.Status(state)
        run._arr_last = time.monotonic(), found
        return found

    def _once(self, run: Any, line: str) -> None:
        if getattr(run, "_arr_said", None) != line:
            run._arr_said = line
            self._tell(line)

    def _tell(self, line: str) -> None:
        self._agent.wandb.termlog(f"launch: {line}")


def _types() -> Any:
    """The protobuf types of custom jobs; imported late, they take most of a second."""
    from google.cloud.aiplatform_v1 import types

    return types


def may_pass(error: BaseException) -> bool:
    """Whether an error of Google's client is of the kind that a later try may not meet.

    A 429 is not: for a new job it is the quota.
    """
    import google.api_core.exceptions as api
    import google.auth.exceptions as auth
    import requests

    if isinstance(error, api.GoogleAPICallError):
        return isinstance(error, api.ServerError)
    passing = (api.RetryError, auth.TransportError, auth.RefreshError, requests.RequestException)
    return isinstance(error, (*passing, ConnectionError, TimeoutError))


def _state(resource: Any) -> str:
    return vertex_state.state_of(resource, resource.job_spec.scheduling.strategy.name)


def _name(job: Any) -> str:
    return f"Vertex AI job {job.resource_name}"
