"""Making one image: context, wheels, sources, build, smoke test, push, in that order."""

from __future__ import annotations

import contextlib
import errno
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from arr.build import base, wheelhouse
from arr.build.engine import LAYER_TIME, Engine, Remote, Request, Source, Work
from arr.errors import ArrError, BuildError, Interrupted
from arr.events import Emit, ImageDone, ImageFailed, ImageLog, ImageStep
from arr.process import Children
from arr.registry import records
from arr.registry.client import Registry
from arr.registry.labels import BUILT_AT, COMMIT, FINGERPRINT_LABEL, REASON, SECONDS
from arr.stack import context as contexts
from arr.stack.git import Commit
from arr.stack.graph import Graph, Node
from arr.stack.lock import Pin
from arr.stack.plan import Step
from arr.stack.stackfile import Stack
from arr.state import Build, State


@dataclass(frozen=True, slots=True)
class Workshop:
    """What making an image needs besides the image: where it comes from and where it goes."""

    engine: Engine
    registry: Registry
    remote: Remote
    stack: Stack
    graph: Graph
    pins: Mapping[str, Pin]
    commit: Commit
    source_url: str
    state: State
    launch: int | None
    logs: Path
    wheels: Path
    children: Children
    emit: Emit
    clock: Callable[[], float] = time.time
    one_base: threading.Lock = field(default_factory=threading.Lock)
    """Held while a base is made: images that share it must not make it twice."""


def make(shop: Workshop, step: Step, parents: Mapping[str, str]) -> str:
    """Build, smoke-test and push one image; return its digest. `parents` are their digests.

    The build is remembered whatever becomes of it. Raises BuildError or RegistryError.
    """
    started = shop.clock()
    log = shop.logs / f"{step.image}.log"
    at = _Place(shop, step, log)
    try:
        with tempfile.TemporaryDirectory(prefix="arr-build-") as scratch:
            work = Work(shop.children, log, at.say, Path(scratch))
            digest = _make(shop, step, parents, work, at, started)
    except BaseException as error:
        known = _in_words(error)
        stopped = isinstance(known, Interrupted | KeyboardInterrupt)
        if not stopped:
            at.failed(known, shop.clock() - started)
        with contextlib.suppress(ArrError):  # a full disk fails both: the first is the one to tell
            _remember(shop, step, started, "interrupted" if stopped else "failed", None, log)
        if known is error:
            raise
        raise known from error
    _remember(shop, step, started, "kept" if at.kept else "built", digest, log)
    shop.emit(
        ImageDone(
            at=shop.clock(),
            image=step.image,
            tag=step.tag,
            digest=digest,
            seconds=shop.clock() - started,
        )
    )
    return digest


def _make(
    shop: Workshop,
    step: Step,
    parents: Mapping[str, str],
    work: Work,
    at: _Place,
    started: float,
) -> str:
    node = shop.graph.node(step.image)
    image_id = shop.engine.kept(f"{step.repository}:{step.tag}", step.fingerprint)
    if image_id is None:
        image_id = _build(shop, step, node, parents, work, at)
    else:
        at.kept = True
        at.goes_to("kept", f"by {shop.engine.name}, so it need not be built")
    command = node.spec.smoke_for(shop.graph.target)
    if command:
        at.goes_to("smoke", " ".join(command))
        _smoke(shop, step, image_id, command, work)
    at.goes_to("push", f"{shop.remote.prefix}/{step.repository}:{step.tag}")
    return _push(shop, step, image_id, work, started)


def _build(
    shop: Workshop, step: Step, node: Node, parents: Mapping[str, str], work: Work, at: _Place
) -> str:
    at.goes_to("context")
    context = work.scratch / "context"
    context.mkdir()
    files = contexts.context_files(shop.commit, node.spec.context, node.ignore)
    contexts.write_context(shop.commit, files, context)
    wheels = _wheels(shop, node, work, at)
    sources = _sources(shop, node, parents, work, at)
    at.goes_to("build")
    return shop.engine.build(
        Request(
            f"{step.repository}:{step.tag}",
            node.dockerfile,
            context,
            sources,
            node.spec.build_args_for(shop.graph.target),
            _labels(shop, step),
            node.spec.platform,
            LAYER_TIME,
            wheels,
        ),
        work,
    )


def _wheels(shop: Workshop, node: Node, work: Work, at: _Place) -> Path | None:
    path = node.spec.requirements_for(shop.graph.target)
    if path is None:
        return None
    text = shop.commit.text(path)
    wheelhouse.require_pinned(text, path)
    at.goes_to("wheels", path)
    python = node.spec.python_for(shop.graph.target)
    return wheelhouse.fetch(text, python, node.spec.platform, shop.wheels, work)


def _sources(
    shop: Workshop, node: Node, parents: Mapping[str, str], work: Work, at: _Place
) -> dict[str, Source]:
    sources = {}
    for reference in node.bases:
        at.goes_to("base", f"{reference}: {shop.pins[reference]}")
        pin = shop.pins[reference]
        recipe = shop.stack.recipes.get(pin.recipe or "")
        with shop.one_base:
            sources[reference] = base.obtain(
                reference, pin, recipe, shop.registry, shop.remote, work
            )
    for reference, parent in node.parents.items():
        repository = shop.graph.node(parent).repository
        sources[reference] = published(shop.registry, shop.remote, repository, parents[parent])
    return sources


def published(registry: Registry, remote: Remote, repository: str, digest: str) -> Source:
    """Return an image of our registry as a source, by its digest."""
    config = registry.config(repository, digest)
    tag = config.labels.get(FINGERPRINT_LABEL, digest)[-7:]
    return Source(
        f"{remote.prefix}/{repository}@{digest}",
        f"localhost/{repository}:{tag}",
        config.digest,
        remote,
    )


def _smoke(shop: Workshop, step: Step, image_id: str, command: list[str], work: Work) -> None:
    try:
        shop.engine.smoke(image_id, command, work)
    except BuildError as error:
        raise BuildError(
            f"the smoke test of {step.image} failed, so its tag was not pushed: {error.message}",
            f"It ran: {' '.join(command)}",
        ) from error


def _push(shop: Workshop, step: Step, image_id: str, work: Work, started: float) -> str:
    """Push the record first: an image that is present is then never without its inputs."""
    now = shop.clock()
    annotations = {
        BUILT_AT: _iso(now),
        REASON: step.reason,
        SECONDS: f"{now - started:.1f}",
        COMMIT: shop.commit.id,
    }
    records.write(shop.registry, step.repository, step.tag, step.inputs.text, annotations)
    reference = f"{shop.remote.prefix}/{step.repository}:{step.tag}"
    shop.engine.push(image_id, reference, shop.remote, work)
    digest = shop.registry.head(step.repository, step.tag)
    if digest is None:
        raise BuildError(f"{reference} was pushed, but the registry does not have it", "")
    shop.state.add_label(digest, step.fingerprint)
    return digest


def _labels(shop: Workshop, step: Step) -> dict[str, str]:
    return {
        "org.opencontainers.image.title": step.image,
        "org.opencontainers.image.source": shop.source_url,
        "org.opencontainers.image.revision": shop.commit.id,
        "org.opencontainers.image.created": _iso(shop.commit.time),
        FINGERPRINT_LABEL: step.fingerprint,
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _remember(
    shop: Workshop, step: Step, started: float, outcome: str, digest: str | None, log: Path
) -> None:
    shop.state.add_build(
        Build(
            image=step.image,
            registry=shop.remote.prefix,
            repository=step.repository,
            tag=step.tag,
            fingerprint=step.fingerprint,
            commit_id=shop.commit.id,
            reason=step.reason,
            started=started,
            seconds=shop.clock() - started,
            outcome=outcome,
            inputs=step.inputs.text,
            digest=digest,
            log=str(log),
            launch=shop.launch,
        )
    )


def _in_words(error: BaseException) -> BaseException:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return BuildError(
            f"the disk is full: {error.filename or error}",
            "Make room, then run it again; finished images are kept.",
        )
    return error


@dataclass(slots=True)
class _Place:
    """Where the making of one image is, told as events."""

    shop: Workshop
    step: Step
    log: Path
    name: str = "waiting"
    kept: bool = False

    def goes_to(self, name: str, detail: str = "") -> None:
        self.name = name
        self.shop.children.require_running()
        self.shop.emit(
            ImageStep(
                at=self.shop.clock(),
                image=self.step.image,
                step=name,
                detail=detail,
                usual_seconds=self.step.usual_seconds,
            )
        )

    def say(self, line: str) -> None:
        self.shop.emit(ImageLog(at=self.shop.clock(), image=self.step.image, line=line))

    def failed(self, error: BaseException, seconds: float) -> None:
        text = error.message if isinstance(error, ArrError) else repr(error)
        if not isinstance(error, ArrError):  # a fault of ours: the log says where
            with contextlib.suppress(OSError), self.log.open("a", encoding="utf-8") as file:
                traceback.print_exception(error, file=file)
        hint = error.hint if isinstance(error, ArrError) else ""
        self.shop.emit(
            ImageFailed(
                at=self.shop.clock(),
                image=self.step.image,
                step=self.name,
                error=f"{text}\n{hint}".strip(),
                log=str(self.log),
                tail=last_lines(self.log, 50),
                seconds=seconds,
            )
        )


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a log; none if it was never written."""
    try:
        text = path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-count:]
