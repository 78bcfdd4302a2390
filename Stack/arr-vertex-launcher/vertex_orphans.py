"""Jobs whose agent died without a word: found on Vertex AI, and put into the queue again.

An agent that is killed outright hands nothing over. But each job carries, in its environment, the
item and the agent that it comes from. So every agent looks, when it starts and now and then, for
jobs of its queues whose agent W&B has not heard of for a while and whose item is still claimed.

Nothing can be written to a job later. One that an agent has taken up still names the first item: if
that second agent is killed outright too, its job is not found.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import vertex_handover
from vertex_handover import Ask, Left, Unreachable

TRACE = "ARR_LAUNCH_TRACE"
"""In a job's environment: {"agent": its id, "spec": the item's}, as JSON."""
LONGEST = 32_670
"""Characters of one variable, as W&B has it for Vertex AI."""
DEAD_AFTER = timedelta(minutes=5)
EVERY = 30
"""Polls between two searches: five minutes."""
DAYS = 8
"""A job may run for seven."""

ITEM = """query GetRunQueueItem($projectName: String!, $entityName: String!, $runQueue: String!,
 $itemId: ID!) { project(name: $projectName, entityName: $entityName) { runQueue(name: $runQueue) {
 runQueueItem(id: $itemId) { id state associatedRunId } } } }"""
AGENT = """query LaunchAgent($agentId: ID!) { launchAgent(id: $agentId) { id name runQueues hostname
 agentStatus stopPolling heartbeatAt } }"""


def trace(agents: Any, spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the variable that tells a later agent where the job comes from.

    Empty if the item is too long for it, or if no agent runs the job (`wandb launch`).
    """
    if not agents.initialized():
        return {}
    kept = {key: value for key, value in spec.items() if key != "_wandb_api_key"}
    text = json.dumps({"agent": agents._instance._id, "spec": kept})
    return {TRACE: text} if len(text) <= LONGEST else {}


class Orphans:
    """The search; `seen` are the jobs that need not be looked at again."""

    def __init__(self, aiplatform: Any, label: str, agent: Any) -> None:
        self._aiplatform = aiplatform
        self._label = label
        self._agent = agent
        self._seen: set[str] = set()
        self._said = ""

    async def search(self, agent: Any) -> None:
        """Search until cancelled; what fails is said once, and tried again."""
        while True:
            try:
                await asyncio.to_thread(self._once, agent)
            except Exception as error:  # noqa: BLE001 - the agent's own work must go on
                if self._said != str(error):
                    self._said = str(error)
                    vertex_handover.say(f"cannot look for jobs that were left, retrying: {error}")
            await asyncio.sleep(EVERY * self._agent.AGENT_POLLING_INTERVAL)

    def _once(self, agent: Any) -> None:
        region = (agent.default_config.get("environment") or {}).get("region")
        if not region:
            raise Unreachable("the agent's configuration has no environment.region")
        ask = vertex_handover.asker(agent._base_url, agent._api.api_key or "", budget=60.0)
        since = (datetime.now(UTC) - timedelta(days=DAYS)).strftime("%Y-%m-%dT%H:%M:%SZ")
        wanted = f'labels.{self._label}:* AND create_time>"{since}"'
        for job in self._aiplatform.CustomJob.list(filter=wanted, location=region):
            if job.resource_name not in self._seen:
                self._look_at(job, agent, ask)

    def _look_at(self, job: Any, agent: Any, ask: Ask) -> None:
        container = job._gca_resource.job_spec.worker_pool_specs[0].container_spec
        variables = {entry.name: entry.value for entry in container.env}
        queue = variables.get("WANDB_LAUNCH_QUEUE_NAME", "")
        ours = variables.get("WANDB_LAUNCH_QUEUE_ENTITY") == agent._entity
        if not ours or queue not in agent._queues or TRACE not in variables:
            self._seen.add(job.resource_name)
            return
        origin, item = json.loads(variables[TRACE]), variables["WANDB_LAUNCH_TRACE_ID"]
        if origin["agent"] == agent._id:
            return
        if not self._claimed(agent, queue, item, ask):
            self._seen.add(job.resource_name)
        elif _dead(origin["agent"], ask):
            run = variables["WANDB_RUN_ID"]
            page = job._dashboard_uri()
            left = Left(item, queue, run, job.resource_name, page, origin["spec"])
            vertex_handover.hand_over(
                agent._entity, agent._project, [left], ask, vertex_handover.say
            )

    def _claimed(self, agent: Any, queue: str, item: str, ask: Ask) -> bool:
        asked = {
            "projectName": agent._project,
            "entityName": agent._entity,
            "runQueue": queue,
            "itemId": item,
        }
        found = (ask(ITEM, asked).get("project") or {}).get("runQueue") or {}
        return (found.get("runQueueItem") or {}).get("state") == "CLAIMED"


def _dead(agent: str, ask: Ask) -> bool:
    """Whether W&B has not heard of the agent for a while. One of which it cannot tell is alive."""
    found = ask(AGENT, {"agentId": agent}).get("launchAgent")
    if not found or found["agentStatus"] == "KILLED":
        return True
    try:
        heard = datetime.fromisoformat(found["heartbeatAt"])
    except (TypeError, ValueError) as error:
        raise Unreachable(f"W&B does not say when agent {agent} was last heard of") from error
    heard = heard if heard.tzinfo else heard.replace(tzinfo=UTC)
    return datetime.now(UTC) - heard > DEAD_AFTER
