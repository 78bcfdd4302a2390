"""A small stack that both engines build in seconds, and the means to look into what they made."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import repository
from repository import Executable, Files, Link, Repository

from arr.build import wheelhouse
from arr.build.engine import Engine, Remote
from arr.build.make import Workshop, make
from arr.events import Event
from arr.process import Children
from arr.registry.client import Registry
from arr.stack import inputs as inputses
from arr.stack import plan as plans
from arr.stack import stackfile
from arr.stack.git import Commit
from arr.stack.plan import Found, Presence, Step
from arr.state import State

WHEEL = "tiny-1.0-py3-none-any.whl"


def busybox() -> Executable:
    """A shell with all that goes with it in one file, from the Debian package busybox-static."""
    found = shutil.which("busybox")
    assert found, "the tests need busybox-static"
    return Executable(Path(found).read_bytes())


def base_files() -> Files:
    """An image of a shell alone. The folders are those that an engine would make for itself."""
    kept = ("dev", "mnt", "opt", "proc", "run", "sys", "tmp")
    return {
        "Dockerfile": "FROM scratch\nENV PATH=/bin\nCOPY Stack/base/busybox /bin/busybox\n"
        "COPY Stack/base/root/ /\n",
        "Dockerfile.dockerignore": "**\n!Stack/base\n",
        ".image-manifest": "Stack/base/root\nStack/base/busybox\n",
        "busybox": busybox(),
        "root/bin/sh": Link("busybox"),
        **{f"root/etc/{name}": "" for name in ("hostname", "hosts", "resolv.conf")},
        **{f"root/{name}/.keep": "" for name in kept},
    }


CHILD = """\
FROM base:latest
ARG FLAVOUR=plain
ARG UNSET
LABEL kind="child of base" flavour=$FLAVOUR
ENV GREETING="hello there" TASTE=$FLAVOUR
WORKDIR /app
COPY Stack/child/code/ /app/code/
COPY --chown=1000:1000 shared/*.txt /app/shared/
RUN busybox mkdir -p made && busybox chmod 700 made && echo "$FLAVOUR" > made/flavour
RUN busybox rm code/removed.txt && busybox ln -s code/run.sh start \\
    && busybox chown 1000:1000 made
USER 1000:1000
ENTRYPOINT ["/app/start", "--flag"]
CMD ["argument"]
"""

CHILD_IGNORE = """\
# everything but what is asked for
**
!Stack/child/code
!shared/*
**/*.log
!Stack/child/code/keep.log
**/__pycache__
"""

GRANDCHILD = f"""\
FROM child
USER 0:0
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
RUN test "$PIP_NO_INDEX" = 1 && busybox ls "$PIP_FIND_LINKS" > /seen \\
    && busybox grep -q {WHEEL} /seen && busybox rm /seen
run ["/bin/busybox", "test", "-f", "/mnt/{WHEEL}"]
USER 1000:1000
"""

ALONE = """\
FROM scratch AS first
COPY sub /sub/
FROM scratch
COPY --from=first /sub/kept.txt /kept.txt
"""

TOML = """
[images.base]
folder = "Stack/base"
smoke = ["sh", "-c", "true"]

[images.child]
folder = "Stack/child"
build_args = { FLAVOUR = "vanilla" }
smoke = ["sh", "-c", "test \\"$TASTE\\" = vanilla && test -x /app/code/run.sh"]

[images.grandchild]
folder = "Stack/grandchild"
requirements = "Stack/grandchild/requirements.txt"

[images.alone]
folder = "Stack/alone"
context = "Stack/alone"
"""

IMAGES = ("base", "child", "grandchild", "alone")


def whole_stack() -> Files:
    images: dict[str, Files] = {
        "base": base_files(),
        "child": {
            "Dockerfile": CHILD,
            "Dockerfile.dockerignore": CHILD_IGNORE,
            ".image-manifest": "Stack/child/code\nshared/*.txt\n",
            "code/run.sh": Executable(),
            "code/plain.txt": "committed\n",
            "code/removed.txt": "",
            "code/keep.log": "kept\n",
            "code/debug.log": "left out\n",
            "code/deep/down/trace.log": "left out\n",
            "code/deep/down/é name.txt": "",
            "code/__pycache__/x.pyc": b"\0\xff",
            "code/link": Link("deep/down"),
        },
        "grandchild": {
            "Dockerfile": GRANDCHILD,
            ".image-manifest": "Stack/grandchild/requirements.txt\n",
            "requirements.txt": "tiny==1.0\n",
        },
        "alone": {
            "Dockerfile": ALONE,
            "Dockerfile.dockerignore": "sub/*\n!sub/kept.txt\n",
            ".image-manifest": "Stack/alone/sub/kept.txt\n",
            "sub/kept.txt": "kept\n",
            "sub/left.txt": "",
        },
    }
    shared = {"shared/one.txt": "1\n", "shared/two.txt": "2\n", "shared/secret.key": "no\n"}
    return {**repository.stack_files(images, TOML), **shared, "README.md": "not in a context\n"}


def one_image(dockerfile: str, toml: str = "", **files: str) -> Files:
    """A stack of one image `solo`, which has a shell at /bin/sh."""
    own: Files = {
        "Dockerfile": f"FROM scratch\nCOPY busybox /bin/sh\nENV PATH=/bin\n{dockerfile}",
        ".image-manifest": "Stack/solo\n",
        "busybox": busybox(),
        **files,
    }
    table = f'[images.solo]\nfolder = "Stack/solo"\ncontext = "Stack/solo"\n{toml}'
    return repository.stack_files({"solo": own}, table)


def write_wheel(folder: Path, name: str = "tiny", version: str = "1.0") -> Path:
    """Write a wheel of pure Python, as pip takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "value = 1\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")
    return path


@dataclass
class Bench:
    """A workshop at one commit of a repository, and what it said."""

    shop: Workshop
    events: list[Event] = field(default_factory=list)

    def steps(self) -> list[Step]:
        """The plan of a registry that has nothing."""
        graph = self.shop.graph
        found = {node.name: Found(Presence.ABSENT) for node in graph}
        inputs = inputses.of_graph(graph, self.shop.commit, self.shop.pins)
        return plans.plan(graph, inputs, found, lambda _: None, lambda _: None, lambda *_: None)

    def step(self, image: str) -> Step:
        return next(step for step in self.steps() if step.image == image)

    def make(self, image: str, parents: Mapping[str, str] | None = None) -> str:
        return make(self.shop, self.step(image), parents or {})

    def make_all(self) -> dict[str, str]:
        digests: dict[str, str] = {}
        for step in self.steps():
            digests[step.image] = make(self.shop, step, digests)
        return digests

    def log(self, image: str) -> str:
        return (self.shop.logs / f"{image}.log").read_text("utf-8", "replace")

    def said(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def bench(
    commit: Commit,
    engine: Engine,
    registry: Registry,
    folder: Path,
    on_event: Callable[[Event], None] = lambda event: None,
    grace: float = 8.0,
) -> Bench:
    """Return a workshop with its logs, history and wheels below `folder`."""
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        on_event(event)

    (folder / "logs").mkdir(parents=True, exist_ok=True)
    shop = Workshop(
        engine=engine,
        registry=registry,
        remote=Remote(registry.prefix, registry.insecure),
        stack=stackfile.parse(commit.text(repository.STACK)),
        graph=repository.graph_of(commit),
        pins={},
        commit=commit,
        source_url="local",
        state=State(folder / "state"),
        launch=None,
        logs=folder / "logs",
        wheels=folder / "wheels",
        children=Children(grace),
        emit=emit,
        clock=time.time,
    )
    return Bench(shop, events)


def put_wheels(bench: Bench, requirements: str = "tiny==1.0\n") -> Path:
    """Put the wheelhouse where it would have been fetched to."""
    folder = bench.shop.wheels / wheelhouse.key(requirements, "3.11", "linux/amd64")
    write_wheel(folder)
    return folder


def commit_of(folder: Path, files: Files) -> Commit:
    return repository.make_repository(folder).commit(files)


def changed_work_tree(made: Repository) -> None:
    """Give the work tree what no image may have: other contents, other modes, more files."""
    made.checkout()
    code = made.root / "Stack/child/code"
    (code / "plain.txt").write_text("not committed\n")
    (code / "untracked.txt").write_text("not committed\n")
    (code / "run.sh").chmod(0o600)
    (made.root / "Stack/child/Dockerfile").write_text("FROM nothing\n")
    (made.root / "Stack/alone/sub/kept.txt").unlink()


# What is in an image

Entry = tuple[str, int, int, int, str]
"""Kind, permissions, user, group, and the content: a file's hash, or where a link leads."""


@dataclass(frozen=True)
class Contents:
    files: dict[str, Entry]
    config: dict[str, Any]


def layers(registry: Registry, repository_name: str, digest: str) -> list[bytes]:
    image = registry.config(repository_name, digest)
    return [registry.blob(repository_name, layer.digest) for layer in image.layers]


def contents(registry: Registry, repository_name: str, digest: str) -> Contents:
    """Read an image by our own client: its layers laid over one another, and its configuration."""
    files: dict[str, Entry] = {}
    for blob in layers(registry, repository_name, digest):
        with tarfile.open(fileobj=io.BytesIO(blob)) as layer:
            for member in layer:
                _lay(files, layer, member)
    raw = registry.config(repository_name, digest).raw
    return Contents(files, raw["config"] | {"platform": f"{raw['os']}/{raw['architecture']}"})


def _lay(files: dict[str, Entry], layer: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    path = member.name.strip("./") if member.name in (".", "./") else member.name.strip("/")
    folder, slash, name = path.rpartition("/")
    if name.startswith(".wh."):
        gone = f"{folder}{slash}{name.removeprefix('.wh.')}"
        for other in [f for f in files if f == gone or f.startswith(f"{gone}/")]:
            del files[other]
        return
    content = member.linkname
    if member.isfile():
        source = layer.extractfile(member)
        assert source is not None
        content = hashlib.sha256(source.read()).hexdigest()
    kinds = {tarfile.REGTYPE: "file", tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "link"}
    kind = kinds[member.type]
    files[path] = (kind, member.mode & 0o7777, member.uid, member.gid, content)
