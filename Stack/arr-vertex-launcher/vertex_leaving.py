"""The agent's end: by a signal, by a stop from W&B, or by a failure of its loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from types import FrameType, ModuleType
from typing import Any

import vertex_handover


class Leaving:
    """Keeps what the agent works on, and hands it over when the agent ends."""

    def __init__(
        self, agent: ModuleType, run_class: Any, orphans: Callable[[Any], Coroutine[Any, Any, None]]
    ) -> None:
        self._orphans = orphans
        self._class = agent.LaunchAgent
        self._run_class = run_class
        self._specs: dict[str, dict[str, Any]] = {}
        self._failed: dict[str, str] = {}

    def install(self) -> None:
        upstream_task, upstream_loop = self._class._task_run_job, self._class.loop

        @functools.wraps(upstream_task)
        async def _task_run_job(agent: Any, launch_spec: Any, job: Any, *others: Any) -> Any:
            item = job["runQueueItemId"]
            self._specs[item] = launch_spec
            try:
                return await upstream_task(agent, launch_spec, job, *others)
            except Exception as error:
                self._failed[item] = str(error)
                raise

        @functools.wraps(upstream_loop)
        async def loop(agent: Any) -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, functools.partial(self._signalled, agent))
            search = asyncio.create_task(self._orphans(agent))
            try:
                await upstream_loop(agent)
            except Exception:
                if agent._jobs:
                    traceback.print_exc()
                    self._end(agent, 1)
                raise
            finally:
                search.cancel()
            if agent._jobs:
                self._end(agent, 0)

        self._class._task_run_job = _task_run_job
        self._class.loop = loop

    def _signalled(self, agent: Any, number: int, frame: FrameType | None) -> None:
        # In the handler itself, as the event loop may be waiting for an answer that never comes.
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        vertex_handover.say(f"{signal.Signals(number).name}: the agent ends")
        self._end(agent, 128 + number)

    def _end(self, agent: Any, code: int) -> None:
        """Hand over what runs, then end at once: upstream would spoil the items, for a minute."""
        jobs = [left for tracker in list(agent._jobs.values()) if (left := self._left(tracker))]
        ask = vertex_handover.asker(agent._base_url, agent._api.api_key or "")
        vertex_handover.hand_over(agent._entity, agent._project, jobs, ask, vertex_handover.say)
        vertex_handover.sign_off(agent._id, ask, vertex_handover.say)
        with contextlib.suppress(RuntimeError):  # the signal came in the middle of a print
            sys.stdout.flush()
        os._exit(code)

    def _left(self, tracker: Any) -> vertex_handover.Left | None:
        """Describe what is left of one item; None if it was never ours.

        An item that was not acknowledged has no run id yet; W&B gives it out again by itself.
        """
        item, run = tracker.run_queue_item_id, tracker.run
        if not tracker.run_id or item not in self._specs:
            return None
        job = run._job.resource_name if isinstance(run, self._run_class) else ""
        return vertex_handover.Left(
            item=item,
            queue=tracker.queue,
            run=tracker.run_id,
            job=job,
            page=run.get_page_link() if job else "",
            spec=self._specs[item],
            failed=self._failed.get(item, ""),
        )
