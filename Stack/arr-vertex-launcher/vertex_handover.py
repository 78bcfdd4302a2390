"""When the agent ends while jobs run on: their items go back into the queue for the next agent.

A job on Vertex AI needs no agent to go on. What an agent leaves behind would be an item claimed for
ever and a job that nobody watches. So the item is put into the queue again, with its run id and the
job's name, and the old item is failed with a message that says so. The next agent takes the job up.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LEFT_JOB = "_arr_left_job"
"""Key of a queue item: the job that an earlier agent left; empty if it may not have one yet."""
BUDGET = 8.0
"""Seconds for all of it: Cloud Run gives ten between TERM and KILL."""
CALL = 4.0

PUSH = """mutation pushToRunQueueByName($entityName: String!, $projectName: String!,
 $queueName: String!, $runSpec: JSONString!) { pushToRunQueueByName(input: {entityName: $entityName,
 projectName: $projectName, queueName: $queueName, runSpec: $runSpec}) { runQueueItemId } }"""
FAIL = """mutation failRunQueueItem($runQueueItemId: ID!, $message: String!, $stage: String!) {
 failRunQueueItem(input: {runQueueItemId: $runQueueItemId, message: $message, stage: $stage}) {
 success } }"""
STATUS = """mutation updateLaunchAgent($agentId: ID!, $agentStatus: String) {
 updateLaunchAgent(input: {launchAgentId: $agentId, agentStatus: $agentStatus}) { success } }"""


class Unreachable(Exception):
    """W&B did not answer, or refused."""


@dataclass(frozen=True, slots=True)
class Left:
    """An item whose run the agent leaves.

    `run` and `job` are empty before it has them; `failed` says why, if the item failed.
    """

    item: str
    queue: str
    run: str
    job: str
    page: str
    spec: dict[str, Any]
    failed: str = ""


Ask = Callable[[str, dict[str, Any]], dict[str, Any]]


def asker(base_url: str, key: str, budget: float = BUDGET) -> Ask:
    """Return a function that sends one operation to W&B's API and returns its answer.

    All that it is asked takes `budget` seconds at most.

    It does not go through wandb-core, which may have been ended by the same signal.
    """
    end = time.monotonic() + budget
    token = base64.b64encode(f"api:{key}".encode()).decode()

    def ask(query: str, variables: dict[str, Any]) -> dict[str, Any]:
        left = min(CALL, end - time.monotonic())
        if left <= 0:
            raise Unreachable(f"no time left of {budget:g} seconds")
        request = urllib.request.Request(
            f"{base_url.rstrip('/')}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json", "Authorization": f"Basic {token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=left) as answer:
                body = json.load(answer)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Unreachable(str(error)) from error
        if not isinstance(body, dict) or body.get("errors") or not body.get("data"):
            raise Unreachable(str(body)[:300])
        return dict(body["data"])

    return ask


def hand_over(
    entity: str, project: str, jobs: list[Left], ask: Ask, say: Callable[[str], None]
) -> None:
    """Put the items of `jobs` back into their queues; whatever fails is said, nothing is raised."""
    for left in jobs:
        if left.failed:  # it may be that W&B has not been told yet; it must not be tried again
            _fail(left, left.failed, ask, say)
            continue
        what = f"run {left.run}: " if left.run else f"item {left.item}: "
        what += f"Vertex AI job {left.job}" if left.job else "no job yet"
        try:
            new = _requeue(entity, project, left, ask)
        except Unreachable as error:
            say(
                f"{what} IS LEFT UNWATCHED, its item {left.item} stays claimed: {error}. "
                f"See or cancel it: {left.page or 'Vertex AI, custom jobs'}"
            )
            continue
        say(f"{what} is left to the next agent, which takes it up with item {new}")
        _fail(left, f"The agent has ended; taken up with the new item {new}: {what}", ask, say)


def sign_off(agent: str, ask: Ask, say: Callable[[str], None]) -> None:
    """Tell W&B that the agent has ended; what fails is said."""
    try:
        ask(STATUS, {"agentId": agent, "agentStatus": "KILLED"})
    except Unreachable as error:
        say(f"W&B does not know that this agent has ended: {error}")


def _fail(left: Left, message: str, ask: Ask, say: Callable[[str], None]) -> None:
    try:
        asked = {"runQueueItemId": left.item, "message": message, "stage": "agent"}
        answer = ask(FAIL, asked).get("failRunQueueItem") or {}
        if not answer.get("success"):
            raise Unreachable("W&B did not close it")
    except Unreachable as error:
        say(f"the item {left.item} of run {left.run} stays claimed: {error}")


def _requeue(entity: str, project: str, left: Left, ask: Ask) -> str:
    spec = {**left.spec, LEFT_JOB: left.job}
    if left.run:
        spec["run_id"] = left.run
    answer = ask(
        PUSH,
        {
            "entityName": entity,
            "projectName": project,
            "queueName": left.queue,
            "runSpec": json.dumps(spec),
        },
    ).get("pushToRunQueueByName")
    if not answer or not answer.get("runQueueItemId"):
        raise Unreachable(f"the queue {left.queue} did not take the item")
    return str(answer["runQueueItemId"])


def say(line: str) -> None:
    """Write a line to stderr as `write` does."""
    write(f"arr: {line}\n")


def write(text: str) -> None:
    """Write to stderr, whatever the signal interrupted: no buffer, no lock, no failure."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode(errors="replace"))
