"""The local queue: runs wait in `.arr/state.db` until an agent takes them up."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from arr.errors import RunError
from arr.exclusive import is_held
from arr.jobs import spec as specs
from arr.jobs import watched
from arr.jobs.spec import RunSpec
from arr.state import Run, State

LOST = "its agent was killed, or the machine went down: how it ended is not known"
NOT_TAKEN = "no agent took it up: the end of .arr/agent.log may say why; launch it again"


def new_id(now: float) -> str:
    """Return a name for a run that sorts by time: `1122-164501-3f7a`."""
    return f"{datetime.fromtimestamp(now):%m%d-%H%M%S}-{secrets.token_hex(2)}"


def enqueue(state: State, spec: RunSpec, folder: Path, settings: dict[str, str], now: float) -> Run:
    """Put a run on the queue; its folder is made and given to the user that it runs as."""
    try:
        folder.mkdir(parents=True)
        specs.write(spec, folder)
        (folder / specs.LOG).touch()
        _hand_over(folder, spec.user)
    except OSError as error:
        raise RunError(
            f"the run's folder {folder} cannot be made: {error}", "Make room, or mend its owner."
        ) from error
    run = Run(
        id=spec.id,
        image=spec.image,
        reference=spec.reference,
        folder=str(folder),
        status="queued",
        settings=settings,
        created=now,
    )
    state.add_run(run)
    return run


def _hand_over(folder: Path, user: str) -> None:
    """Let the image's user write into the run's folder, when arr itself runs as root."""
    if os.geteuid() != 0:
        return
    uid, _, gid = user.partition(":")
    if uid.isdigit():
        os.chown(folder, int(uid), int(gid) if gid.isdigit() else int(uid))
    else:
        folder.chmod(0o777)


def start_agent(root: Path, launcher: Path | None = None) -> None:
    """Start an agent for the clone's queue, on its own: it outlives this command.

    With a `launcher` (watched.launcher) it runs under that one's watch, and judges failures by its
    table. The lock is the agent's own, not the watch's: whichever of the two is killed, it tells
    whether anyone is at work.

    Harmless when one is at work: the new one waits for it, finds the queue empty, and ends.
    """
    package = Path(__file__).resolve().parents[2]
    inherited = os.environ.get("PYTHONPATH")
    path = f"{package}{os.pathsep}{inherited}" if inherited else str(package)
    environ = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-m", "arr.jobs.agent", str(root)]
    if launcher:
        command = watched.command(launcher, [*command, str(launcher)])
        environ = watched.environ(launcher, environ)
    with (root / ".arr" / "agent.log").open("ab") as log:
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=root, env=environ,
            start_new_session=True,
        )  # fmt: skip


def agent_lock(root: Path) -> Path:
    """The file that the agent at work holds locked."""
    return root / ".arr" / "agent.lock"


def agent_works(root: Path) -> bool:
    """Whether an agent is at work on this clone's queue."""
    return is_held(agent_lock(root))


def settle_lost(state: State, root: Path, now: float) -> None:
    """Record as lost each run that is called running although no agent is at work on it."""
    for run in state.runs():
        if run.status == "running":
            settle(state, root, run, now)


def settle(state: State, root: Path, run: Run, now: float) -> None:
    """Record the run as lost if no agent is at work; one that ended by itself stays as it is."""
    if not agent_works(root):
        state.finish_run(run.id, "lost", now, None, LOST if run.started else NOT_TAKEN)
