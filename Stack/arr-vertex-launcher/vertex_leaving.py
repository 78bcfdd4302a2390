"""The agent's end: by a signal, by a stop from W&B, or by a failure of its loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from types import FrameType, ModuleType
from typing import Any

import vertex_handover

REGION = "GOOGLE_CLOUD_REGION"
_item: contextvars.ContextVar[str] = contextvars.ContextVar("item", default="")


class Leaving:
    """Keeps what the agent works on, and hands it over when the agent ends."""

    def __init__(
        self, agent: ModuleType, run_class: Any, orphans: Callable[[Any], Coroutine[Any, Any, None]]
    ) -> None:
        self._orphans = orphans
        self._class = agent.LaunchAgent
        self._run_class = run_class
        self._agent = agent
        self._error = agent.LaunchError
        self._specs: dict[str, dict[str, Any]] = {}
        self._failed: dict[str, str] = {}
        self._requeued: dict[str, bool] = {}
        """Item whose run was preempted -> whether the run is in the queue again."""

    def install(self) -> None:
        upstream_add = self._agent.launch_add
        upstream_task, upstream_loop = self._class._task_run_job, self._class.loop

        @functools.wraps(upstream_task)
        async def _task_run_job(agent: Any, launch_spec: Any, job: Any, *others: Any) -> Any:
            item = job["runQueueItemId"]
            self._specs[item] = launch_spec
            token = _item.set(item)
            try:
                await upstream_task(agent, launch_spec, job, *others)
                if self._requeued.get(item) is False:  # upstream takes it for done
                    raise self._error("it was preempted, and could not be queued again")
            except Exception as error:
                self._failed[item] = str(error)
                raise
            finally:
                _item.reset(token)

        @functools.wraps(upstream_add)
        def launch_add(*args: Any, **others: Any) -> Any:
            self._requeued[_item.get()] = False
            added = upstream_add(*args, **others)
            self._requeued[_item.get()] = True
            return added

        @functools.wraps(upstream_loop)
        async def loop(agent: Any) -> None:
            place = agent.default_config.setdefault("environment", {"type": "gcp"})
            place.setdefault("region", os.environ.get(REGION, ""))
            if not place["region"]:
                raise self._error(f"no region for the jobs: {REGION} is not set")
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, functools.partial(self._signalled, agent))
            search = asyncio.create_task(self._orphans(agent))
            try:
                await upstream_loop(agent)
            except Exception:
                if agent._jobs:
                    vertex_handover.write(traceback.format_exc())
                    self._end(agent, 1)
                raise
            finally:
                search.cancel()
            if agent._jobs:
                self._end(agent, 0)

        self._agent.launch_add = launch_add  # type: ignore[attr-defined]
        self._class._task_run_job = _task_run_job
        self._class.loop = loop

    def _signalled(self, agent: Any, number: int, frame: FrameType | None) -> None:
        # In the handler itself, as the event loop may be waiting for an answer that never comes.
        vertex_handover.say(f"{signal.Signals(number).name}: the agent ends")
        self._end(agent, 128 + number)

    def _end(self, agent: Any, code: int) -> None:
        """Hand over what runs, then end at once: upstream would spoil the items, for a minute."""
        for number in (signal.SIGTERM, signal.SIGINT):  # once is enough
            signal.signal(number, signal.SIG_IGN)
        say = vertex_handover.say
        try:
            jobs = [left for tracker in list(agent._jobs.values()) if (left := self._left(tracker))]
            ask = vertex_handover.asker(agent._base_url, agent._api.api_key or "")
            vertex_handover.hand_over(agent._entity, agent._project, jobs, ask, say)
            vertex_handover.sign_off(agent._id, ask, say)
            # The signal may have come in the middle of a print; the reader may have gone.
            with contextlib.suppress(RuntimeError, OSError):
                sys.stdout.flush()
        except BaseException:  # noqa: BLE001 - it ends, whatever happens
            say("what the agent leaves may be unwatched")
            vertex_handover.write(traceback.format_exc())
        finally:
            os._exit(code)

    def _left(self, tracker: Any) -> vertex_handover.Left | None:
        """Describe what is left of one item; None if nothing is.

        An item that may or may not have been acknowledged is left like any other: it has no job.
        """
        item, run = tracker.run_queue_item_id, tracker.run
        if item not in self._specs or self._requeued.get(item):
            return None
        job = run._job.resource_name if isinstance(run, self._run_class) else ""
        return vertex_handover.Left(
            item=item,
            queue=tracker.queue,
            run=tracker.run_id or "",
            job=job,
            page=run.get_page_link() if job else "",
            spec=self._specs[item],
            failed=self._failed.get(item, ""),
        )
