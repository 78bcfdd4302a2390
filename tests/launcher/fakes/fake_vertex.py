"""Vertex AI's custom jobs over REST, and the metadata server that gives a token for them.

A body is read with the real protobuf type; an unknown field or value is refused with 400 and
recorded. A job goes on one step each time its state is asked for, by its script.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .server import Answer, Call, Fake

CLOUD_PROJECT = "arr-project"
REGION = "us-central1"
TOKEN = "meta-token"
CODES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    409: "ALREADY_EXISTS", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE",
}  # fmt: skip
OVER = {"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"}


@dataclass(frozen=True)
class Step:
    """A state, how many times it is seen before the next, and the error that it comes with."""

    state: str
    polls: int = 1
    error: dict[str, Any] | None = None


GOOD = (Step("QUEUED"), Step("PENDING"), Step("RUNNING", 2), Step("SUCCEEDED"))
HELD = (Step("PENDING"), Step("RUNNING", 10**9))


@dataclass
class Job:
    number: int
    resource: dict[str, Any]
    script: list[Step]
    states: list[str] = field(default_factory=list)
    seen: int = 0

    @property
    def env(self) -> dict[str, str]:
        pool = self.resource["jobSpec"]["workerPoolSpecs"][0]
        return {each["name"]: each["value"] for each in pool["containerSpec"]["env"]}

    @property
    def spec(self) -> dict[str, Any]:
        return dict(self.resource["jobSpec"])


def refusal(code: int, message: str, details: Iterable[dict[str, Any]] = ()) -> Answer:
    """An error as Google's services give it."""
    error = {"code": code, "message": message, "status": CODES[code], "details": list(details)}
    return Answer(code, {"error": error})


class FakeVertex(Fake):
    """`script` is what new jobs go through; `failing` may refuse a call instead of carrying it out.

    `entered` is told when a job enters a state.
    """

    def __init__(self, python: Path) -> None:
        super().__init__()
        self.jobs: dict[int, Job] = {}
        self.script: Callable[[Job], Iterable[Step]] = lambda _: GOOD
        self.failing: Callable[[Call], Answer | None] = lambda _: None
        self.entered: Callable[[Job, str], None] = lambda job, state: None
        self.alter: Callable[[dict[str, Any]], None] = lambda resource: None
        """What the service does to a new job beside making it."""
        self.outside: set[str] = set()
        """What was asked for beyond this machine, through the proxy that this is too."""
        self._reader = subprocess.Popen(
            [python, Path(__file__).with_name("custom_job_reader.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, at)
        self._reader.communicate()

    def __enter__(self) -> Self:
        return super().__enter__()

    @property
    def created(self) -> list[dict[str, Any]]:
        return [job.resource for job in self.jobs.values()]

    def only(self) -> Job:
        """The one job that there is."""
        (job,) = self.jobs.values()
        return job

    def go_on(self, job: Job, *steps: Step) -> None:
        """Replace what is left of a job's script."""
        with self.lock:
            job.script = list(steps)
            job.seen = 0

    def submits(self) -> list[Call]:
        return [c for c in list(self.calls) if c.method == "POST" and c.path.endswith("customJobs")]

    def answer(self, call: Call) -> Answer:
        if call.method == "CONNECT":
            self.outside.add(call.headers["host"])
            return Answer(502)
        if call.path == "/" or call.path.startswith("/computeMetadata/"):
            return self._metadata(call)
        parent = f"/v1/projects/{CLOUD_PROJECT}/locations/{REGION}/customJobs"
        found = re.fullmatch(rf"{parent}(?:/(\d+)(:cancel)?)?", call.path)
        if not found:
            self.reject(f"{call.method} {call.path}")
            return refusal(404, f"no such method: {call.path}")
        if call.headers.get("authorization") != f"Bearer {TOKEN}":
            return refusal(401, "Request had invalid authentication credentials.")
        if refused := self.failing(call):
            return refused
        if not found[1]:
            return self._create(call) if call.method == "POST" else self._list(call)
        job = self.jobs.get(int(found[1]))
        if job is None:
            return refusal(404, f"CustomJob {call.path} is not found.")
        if found[2]:
            if job.script[-1].state != "CANCELLED":  # once is as good as twice
                job.script, job.seen = [Step("CANCELLING"), Step("CANCELLED")], 0
            return Answer(200)
        return Answer(200, self._step(job))

    def _metadata(self, call: Call) -> Answer:
        account = "/computeMetadata/v1/instance/service-accounts/default/"
        email = "agent@arr-project.iam.gserviceaccount.com"
        texts: dict[str, Any] = {
            "/": b"computeMetadata/",
            "/computeMetadata/v1/project/project-id": CLOUD_PROJECT.encode(),
            "/computeMetadata/v1/universe/universe-domain": b"googleapis.com",
            account: {"aliases": ["default"], "email": email, "scopes": []},
            f"{account}token": {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"},
        }
        if call.path not in texts:
            self.reject(f"{call.method} {call.path}")
            return Answer(404)
        return Answer(200, texts[call.path], {"Metadata-Flavor": "Google"})

    def _create(self, call: Call) -> Answer:
        assert self._reader.stdin is not None
        assert self._reader.stdout is not None
        print(json.dumps(call.body.decode()), file=self._reader.stdin, flush=True)
        read = json.loads(self._reader.stdout.readline())
        if "error" in read:
            self.reject(read["error"])
            return refusal(400, f"Invalid JSON payload received. {read['error']}")
        number = 1000 + len(self.jobs)
        name = f"projects/{CLOUD_PROJECT}/locations/{REGION}/customJobs/{number}"
        # What Google's type has read, with what the service adds.
        sent = {k: v for k, v in read["job"].items() if v not in ("", None, [], {})}
        sent |= {"name": name, "state": "JOB_STATE_PENDING", "createTime": "2026-11-01T00:00:00Z"}
        self.alter(sent)
        job = Job(number, sent, [])
        job.script = list(self.script(job))
        self.jobs[number] = job
        return Answer(200, copy.deepcopy(job.resource))

    def _list(self, call: Call) -> Answer:
        (wanted,) = call.query.get("filter") or [""]
        found = re.fullmatch(
            r'labels\.([a-z-]+)(?:="([^"]*)"|:\* AND create_time>"\d{4}-\d\d-\d\dT[\d:]+Z")', wanted
        )
        if not found:
            self.reject(f"filter {wanted}")
            return refusal(400, f"Invalid filter: {wanted}")
        jobs = [
            job.resource
            for job in self.jobs.values()
            if found[2] in (None, job.resource.get("labels", {}).get(found[1]))
        ]
        return Answer(200, {"customJobs": copy.deepcopy(jobs)})

    def _step(self, job: Job) -> dict[str, Any]:
        if job.script:
            step = job.script[0]
            if job.seen == 0:
                self._enter(job, step)
            job.seen += 1
            if job.seen >= step.polls and len(job.script) > 1:
                job.script.pop(0)
                job.seen = 0
        return copy.deepcopy(job.resource)

    def _enter(self, job: Job, step: Step) -> None:
        job.resource["state"] = f"JOB_STATE_{step.state}"
        job.states.append(step.state)
        if step.state == "RUNNING":
            job.resource["startTime"] = "2026-11-01T00:01:00Z"
        if step.state in OVER:
            job.resource["endTime"] = "2026-11-01T00:02:00Z"
        if step.error:
            job.resource["error"] = step.error
        self.entered(job, step.state)
