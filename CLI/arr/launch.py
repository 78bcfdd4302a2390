"""A launch: from a commit to a running training job, as a list of steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from arr import doctor
from arr.build import cascade, find
from arr.build.cascade import Result
from arr.build.engine import Engine, Remote
from arr.build.make import Workshop, make
from arr.errors import ArrError, BuildError, ConfigError, DirtyError, Interrupted
from arr.events import (
    AliasesMoved,
    Emit,
    Event,
    ImageLog,
    ImageSkipped,
    Notice,
    RunLog,
    RunQueued,
)
from arr.exclusive import only_one
from arr.jobs import follow, queue, watched
from arr.jobs.submit import submit
from arr.planning import Plan, make_plan, open_registry, planned
from arr.process import Children
from arr.project import Project
from arr.registry import aliases
from arr.registry.auth import find_credentials
from arr.registry.client import Registry
from arr.state import Run


@dataclass(frozen=True, slots=True)
class Options:
    """What a launch was asked for. `settings` go to the training run."""

    images: Sequence[str] = ()
    run: bool = True
    dry_run: bool = False
    allow_dirty: bool = False
    detach: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)


def launch(
    project: Project, options: Options, emit: Emit, clock: Callable[[], float] = time.time
) -> int:
    """Plan, build what is stale, move `:latest`, and run the training; return the exit code.

    Raises an ArrError for what stops it; what was finished by then is kept, and the next launch
    goes on from there.
    """
    _require_target(project)
    if options.run:
        project.graph.node(project.settings.run.image)
    if options.dry_run:
        with open_registry(project, start=False) as found:
            emit(planned(make_plan(project, found, options.images), clock()))
        return 0
    doctor.require(project)
    launcher = None
    if options.run:
        launcher = watched.launcher(project.commit, project.arr_folder / "launcher")
    with (
        only_one(project.arr_folder / "launch.lock", lambda who: _say_waiting(who, emit, clock)),
        open_registry(project, start=True) as registry,
    ):
        assert registry is not None
        plan = make_plan(project, registry, options.images)
        emit(planned(plan, clock()))
        _require_committed(plan, options.allow_dirty, emit, clock)
        number = project.state.start_launch(clock(), plan.commit, plan.target)
        emit = _recorded(emit, project, number)
        run, outcome = None, "failed"
        try:
            run = _carry_out(project, registry, plan, options, number, emit, clock)
            outcome = "done"
        except (KeyboardInterrupt, Interrupted):
            outcome = "interrupted"
            raise
        finally:
            project.state.finish_launch(number, clock(), outcome, run.id if run else None)
    if run is None:
        return 0
    emit(RunQueued(at=clock(), run=run.id, image=run.reference, folder=run.folder))
    queue.start_agent(project.root, launcher)
    if options.detach:
        return 0
    return watch(project, run.id, emit)


def _carry_out(
    project: Project,
    registry: Registry,
    plan: Plan,
    options: Options,
    number: int,
    emit: Emit,
    clock: Callable[[], float],
) -> Run | None:
    """Build what is stale, move `:latest`, and queue the run if one is wanted."""
    if not plan.stale and not options.run:
        _move_aliases(registry, plan, _all_present(plan), emit, clock)
        return None
    engine = find.find(project.settings.engine, project.root)
    result = _build(project, registry, plan, engine, number, emit, clock)
    if not result.complete:
        raise _failed(result)
    _move_aliases(registry, plan, result, emit, clock)
    if not options.run:
        return None
    return submit(
        plan.graph.node(project.settings.run.image),
        result.digests[project.settings.run.image],
        registry,
        remote(project, registry),
        engine,
        project.settings.run,
        options.settings,
        project.state,
        project.arr_folder / "runs",
        clock(),
    )


def _all_present(plan: Plan) -> Result:
    return Result({step.image: step.found.digest or "" for step in plan.steps})


def watch(project: Project, run: str, emit: Emit) -> int:
    """Follow a run to its end and return its exit code; Ctrl-C cancels it."""
    try:
        ended = follow.follow(project.state, project.root, run, emit)
    except (KeyboardInterrupt, Interrupted):
        emit(Notice(at=time.time(), text=f"cancelling the run {run} ..."))
        project.state.ask_cancel(run)
        ended = follow.follow(project.state, project.root, run, lambda event: None)
        emit(follow.finished(ended, time.time()))
    return follow.exit_code(ended)


def _say_waiting(holder: str, emit: Emit, clock: Callable[[], float]) -> None:
    text = f"another launch is at work in this clone ({holder}): waiting for its end"
    emit(Notice(at=clock(), text=text))


def _require_target(project: Project) -> None:
    if project.target != "local":
        raise ConfigError(
            f"this version launches on the target local only, not on {project.target}",
            f"`arr plan --target {project.target}` shows what would be built.",
        )


def _require_committed(
    plan: Plan, allow_dirty: bool, emit: Emit, clock: Callable[[], float]
) -> None:
    if not plan.dirty:
        return
    files = "\n".join(f"  {change}" for change in plan.dirty)
    if not allow_dirty:
        raise DirtyError(
            f"these inputs have changes that are not in the commit {plan.commit[:12]}:\n{files}",
            "Commit them, or launch what is committed with --allow-dirty.",
        )
    text = f"built from the committed content of {plan.commit[:12]}, without the changes in:"
    emit(Notice(at=clock(), text=f"{text}\n{files}"))


def _build(
    project: Project,
    registry: Registry,
    plan: Plan,
    engine: Engine,
    number: int,
    emit: Emit,
    clock: Callable[[], float],
) -> Result:
    children = Children()
    logs = project.arr_folder / "logs" / str(number)
    logs.mkdir(parents=True, exist_ok=True)
    shop = Workshop(
        engine=engine,
        registry=registry,
        remote=remote(project, registry),
        stack=project.stack,
        graph=plan.graph,
        pins=project.pins,
        commit=project.commit,
        source_url=project.source_url(),
        state=project.state,
        launch=number,
        logs=logs,
        wheels=project.wheels,
        children=children,
        emit=_one_at_a_time(emit),
        clock=clock,
    )
    return cascade.carry_out(
        plan.steps,
        lambda step, parents: make(shop, step, parents),
        project.settings.build.jobs,
        lambda image, parent: shop.emit(
            ImageSkipped(at=clock(), image=image, because=f"its parent {parent} was not made")
        ),
        children.stop,
    )


def remote(project: Project, registry: Registry) -> Remote:
    """Return the registry as engines reach it, with the credentials that arr itself uses."""
    host = registry.prefix.partition("/")[0]
    wanted = not registry.insecure
    credentials = find_credentials(host, project.environ, Path.home()) if wanted else None
    return Remote(registry.prefix, registry.insecure, credentials)


def _move_aliases(
    registry: Registry, plan: Plan, result: Result, emit: Emit, clock: Callable[[], float]
) -> None:
    digests = {step.repository: result.digests[step.image] for step in plan.steps}
    moved = aliases.move(registry, digests)
    if moved:
        emit(AliasesMoved(at=clock(), images=moved))


def _failed(result: Result) -> BuildError:
    lines = [
        f"  {image}: {error}".replace("\n", "\n    ") for image, error in result.failed.items()
    ]
    lines += [f"  {image}: skipped, since {p} failed" for image, p in result.skipped.items()]
    first = next(iter(result.failed.values()))
    error = BuildError(
        "not every image was made, so :latest was not moved and nothing was run:\n"
        + "\n".join(lines),
        "Mend it and launch again: images that were finished are kept.",
    )
    if isinstance(first, ArrError):
        error.exit_code = first.exit_code
    return error


def _recorded(emit: Emit, project: Project, number: int) -> Emit:
    """Also keep what happens in the history; the lines of logs are kept in their files."""

    def both(event: Event) -> None:
        if not isinstance(event, ImageLog | RunLog):
            project.state.add_event(number, event.at, msgspec.json.encode(event))
        emit(event)

    return both


def _one_at_a_time(emit: Emit) -> Emit:
    """Let several threads emit."""
    lock = threading.Lock()

    def locked(event: Event) -> None:
        with lock:
            emit(event)

    return locked
