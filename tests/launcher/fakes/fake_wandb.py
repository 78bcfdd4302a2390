"""W&B's API as the launch agent uses it: queues, items, runs and agents, over GraphQL.

An operation that is not in OPERATIONS, or that comes with other variables, is refused and recorded
in `rejected`. States of an item: PENDING, LEASED (given out), CLAIMED (acknowledged), FINISHED,
FAILED. The service closes a claimed item when its run ends; the agent makes no call for it.
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .server import Answer, Call, Fake

ENTITY = "arr"
PROJECT = "model-registry"
KEY = "k" * 40

OPERATIONS = {
    "Viewer": "",
    "ProjectRunQueues": "entity projectName",
    "createLaunchAgent": "entity project queues hostname agentConfig version",
    "EntityIsTeam": "entity",
    "LaunchAgent": "agentId",
    "updateLaunchAgent": "agentId agentStatus",
    "popFromRunQueue": "entity project queueName launchAgentId",
    "ackRunQueueItem": "itemId runId",
    "failRunQueueItem": "runQueueItemId message stage filePaths?",
    "pushToRunQueueByName": "entityName projectName queueName runSpec priority? "
    "templateVariableValues?",
    "RunStoppedStatus": "projectName entityName runId",
    "RunState": "entity project name",
    "UpsertBucket": "name? project? entity? groupName? description? displayName? notes? commit? "
    "config? host? debug? program? repo? jobType? state? sweep? tags? summaryMetrics? id? "
    "writersGroup? storageBucket?",
    "CreateRunFiles": "entity project run files",
    "OrganizationCoreWeaveOrganizationID": "entityName",
    "ServerFeaturesQuery": "",
    "GetDefaultEntity": "",
    "GetRunQueueItem": "projectName entityName runQueue itemId",
}


@dataclass
class Item:
    id: str
    queue: str
    spec: dict[str, Any]
    state: str = "PENDING"
    run: str = ""
    agent: str = ""
    error: str = ""
    stage: str = ""


@dataclass
class Agent:
    id: str
    name: str
    queues: list[str]
    config: dict[str, Any]
    version: str
    status: str = "POLLING"
    stop: bool = False
    heartbeat: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class Run:
    state: str = "running"
    stopped: bool = False


@dataclass
class Operation:
    name: str
    variables: dict[str, Any] = field(default_factory=dict)


class FakeWandb(Fake):
    """`failing` may turn an operation away: it returns the answer, or None to let it pass."""

    def __init__(self) -> None:
        super().__init__()
        self.queues: dict[str, dict[str, Any]] = {}
        self.items: dict[str, Item] = {}
        self.agents: dict[str, Agent] = {}
        self.runs: dict[tuple[str, str, str], Run] = {}
        self.operations: list[Operation] = []
        self.uploads: dict[str, bytes] = {}
        self.failing: Callable[[Operation], Answer | None] = lambda _: None
        self._numbers = itertools.count(1)

    # What tests do.

    def add_queue(self, name: str, resource_args: dict[str, Any]) -> None:
        self.queues[name] = resource_args

    def push(self, queue: str, spec: dict[str, Any]) -> Item:
        """Put an item into the queue; the service adds the queue's own resource arguments."""
        with self.lock:
            full = copy.deepcopy(spec)
            full["resource"] = "gcp-vertex"
            merged = copy.deepcopy(self.queues[queue])
            merged.update(full.get("resource_args") or {})
            full["resource_args"] = merged
            number = next(self._numbers)
            # As W&B's own: uppercase and an equals sign, which no label of Google's may have.
            item = Item(
                base64.b64encode(f"RunQueueItem:{number:06d}".encode()).decode(), queue, full
            )
            self.items[item.id] = item
            return item

    def start_run(self, project: str, run: str, entity: str = ENTITY) -> None:
        """The training has called wandb.init."""
        with self.lock:
            self.runs[entity, project, run] = Run()

    def end_run(
        self, project: str, run: str, state: str = "finished", entity: str = ENTITY
    ) -> None:
        """The training's run has ended: its claimed items are closed with it."""
        with self.lock:
            self.runs[entity, project, run].state = state
            for item in self.items.values():
                if item.run == run and item.state == "CLAIMED":
                    item.state = "FINISHED"

    def named(self, operation: str) -> list[dict[str, Any]]:
        return [each.variables for each in list(self.operations) if each.name == operation]

    # What the service does.

    def answer(self, call: Call) -> Answer:
        expected = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
        if call.path.startswith("/sdk/otel/"):
            return Answer(200)
        if call.path == "/graphql" and call.method == "POST":
            if call.headers.get("authorization") != expected:
                return Answer(401, {"errors": [{"message": "not logged in"}]})
            return self._graphql(call.json())
        if re.fullmatch(r"/files/[^/]+/[^/]+/[^/]+/file_stream", call.path):
            return Answer(200, {"exitcode": None, "limits": {}})
        if call.path.startswith("/uploads/") and call.method == "PUT":
            self.uploads[call.path.removeprefix("/uploads/")] = call.body
            return Answer(200)
        self.reject(f"{call.method} {call.path}")
        return Answer(404, {"errors": [{"message": "not found"}]})

    def _graphql(self, body: dict[str, Any]) -> Answer:
        found = re.match(r"\s*(?:query|mutation)\s+(\w+)", body["query"])
        operation = Operation(found[1] if found else "", body.get("variables") or {})
        self.operations.append(operation)
        if wrong := self._wrong(operation):
            self.reject(wrong)
            return Answer(400, {"errors": [{"message": wrong}]})
        if refused := self.failing(operation):
            return refused
        handler = getattr(self, f"_{operation.name}", None)
        return Answer(200, {"data": handler(operation.variables) if handler else {}})

    def _wrong(self, operation: Operation) -> str:
        if operation.name not in OPERATIONS:
            return f"unknown operation {operation.name!r}"
        words = OPERATIONS[operation.name].split()
        needed = {word for word in words if not word.endswith("?")}
        given = set(operation.variables)
        if needed - given or given - {word.removesuffix("?") for word in words}:
            return f"{operation.name} with {sorted(given)}, not {OPERATIONS[operation.name]}"
        return ""

    def _Viewer(self, _: Any) -> Any:
        return {"viewer": {"id": "V1", "entity": ENTITY, "username": ENTITY}}

    def _ProjectRunQueues(self, _: Any) -> Any:
        queues = [
            {"id": f"Q-{name}", "name": name, "createdBy": ENTITY, "access": "PROJECT"}
            for name in self.queues
        ]
        return {"project": {"runQueues": queues}}

    def _createLaunchAgent(self, given: Any) -> Any:
        number = len(self.agents) + 1
        names = [queue.removeprefix("Q-") for queue in given["queues"]]
        config = json.loads(given["agentConfig"])
        agent = Agent(f"A{number}", f"agent{number}x", names, config, given["version"])
        self.agents[agent.id] = agent
        return {"createLaunchAgent": {"launchAgentId": agent.id}}

    def _EntityIsTeam(self, _: Any) -> Any:
        return {"entity": {"id": "E1", "isTeam": True}}

    def _LaunchAgent(self, given: Any) -> Any:
        agent = self.agents[given["agentId"]]
        return {
            "launchAgent": {
                "id": agent.id,
                "name": agent.name,
                "runQueues": [f"Q-{name}" for name in agent.queues],
                "hostname": "h",
                "agentStatus": agent.status,
                "stopPolling": agent.stop,
                "heartbeatAt": agent.heartbeat.strftime("%Y-%m-%dT%H:%M:%S"),
            }
        }

    def _updateLaunchAgent(self, given: Any) -> Any:
        agent = self.agents[given["agentId"]]
        agent.status, agent.heartbeat = given["agentStatus"], datetime.now(UTC)
        return {"updateLaunchAgent": {"success": True}}

    def _popFromRunQueue(self, given: Any) -> Any:
        for item in self.items.values():
            if item.queue == given["queueName"] and item.state == "PENDING":
                item.state, item.agent = "LEASED", given["launchAgentId"]
                spec = copy.deepcopy(item.spec)
                return {"popFromRunQueue": {"runQueueItemId": item.id, "runSpec": spec}}
        return {"popFromRunQueue": None}

    def _ackRunQueueItem(self, given: Any) -> Any:
        item = self.items[given["itemId"]]
        good = item.state == "LEASED"
        if good:
            item.state, item.run = "CLAIMED", given["runId"]
        return {"ackRunQueueItem": {"success": good}}

    def _failRunQueueItem(self, given: Any) -> Any:
        item = self.items[given["runQueueItemId"]]
        item.state, item.error, item.stage = "FAILED", given["message"], given["stage"]
        return {"failRunQueueItem": {"success": True}}

    def _pushToRunQueueByName(self, given: Any) -> Any:
        if given["queueName"] not in self.queues:
            return {"pushToRunQueueByName": None}
        item = self.push(given["queueName"], json.loads(given["runSpec"]))
        return {
            "pushToRunQueueByName": {"runQueueItemId": item.id, "runSpec": json.dumps(item.spec)}
        }

    def _GetRunQueueItem(self, given: Any) -> Any:
        item = self.items.get(given["itemId"])
        found = item and {"id": item.id, "state": item.state, "associatedRunId": item.run}
        return {"project": {"runQueue": {"runQueueItem": found}}}

    def _RunStoppedStatus(self, given: Any) -> Any:
        run = self.runs.get((given["entityName"], given["projectName"], given["runId"]))
        return {"project": {"run": {"stopped": run.stopped} if run else None}}

    def _RunState(self, given: Any) -> Any:
        run = self.runs.get((given["entity"], given["project"], given["name"]))
        return {"project": {"run": {"state": run.state} if run else None}}

    def _UpsertBucket(self, given: Any) -> Any:
        project = given.get("project") or PROJECT
        bucket = {
            "id": "B1",
            "name": given.get("name"),
            "displayName": given.get("displayName") or given.get("name"),
            "description": None,
            "config": "{}",
            "sweepName": None,
            "historyLineCount": 0,
            "project": {
                "id": "P1",
                "name": project,
                "entity": {"id": "E1", "name": given.get("entity") or ENTITY},
            },
        }
        return {"upsertBucket": {"inserted": True, "bucket": bucket}}

    def _CreateRunFiles(self, given: Any) -> Any:
        files = [
            {"name": name, "uploadUrl": f"{self.url}/uploads/{name}"} for name in given["files"]
        ]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def _OrganizationCoreWeaveOrganizationID(self, _: Any) -> Any:
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def _ServerFeaturesQuery(self, _: Any) -> Any:
        return {"serverInfo": {"features": []}}
