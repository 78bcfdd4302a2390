"""What an engine does, and what it is told: the Protocol that docker and buildah meet."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from arr.errors import BuildError, RegistryError
from arr.process import Children, OnLine, describe_exit
from arr.registry.auth import Credentials
from arr.stack.dockerfile import Dockerfile

WHEELS = "/mnt"
"""Where a build sees the wheelhouse: a folder that bases have, so that no layer gets a new one."""

LAYER_TIME = 1704067200
"""The time of every file in a layer, in seconds since the epoch. One fixed moment and not the
commit's time, which is in a label: a layer that does not change then has one digest whichever
commit it was built from, on every machine, with or without a build cache."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A registry as an engine reaches it: what references start with, and how."""

    prefix: str
    insecure: bool
    credentials: Credentials | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """An image that a FROM names, exactly.

    `reference` is by digest; `local_name` names it the same on every machine, so that histories
    (and so digests) do not depend on the registry's address; `config_digest` is its image id.
    """

    reference: str
    local_name: str
    config_digest: str
    remote: Remote | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One build: everything that decides its result. `epoch` is the time of the layers' files."""

    name: str
    dockerfile: Dockerfile
    context: Path
    sources: Mapping[str, Source]
    build_args: Mapping[str, str]
    labels: Mapping[str, str]
    platform: str
    epoch: int
    wheels: Path | None


@dataclass(frozen=True, slots=True)
class Work:
    """Where a step's output goes, and the children it may start."""

    children: Children
    log: Path
    on_line: OnLine
    scratch: Path

    def run(self, argv: Sequence[str], environ: Mapping[str, str] | None = None) -> list[str]:
        """Run a program to its end and return its last lines. Raises BuildError if it fails."""
        code, tail = self.run_code(argv, environ)
        if code:
            raise failure(argv, code, tail)
        return tail

    def send(self, argv: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        """Run a program that pushes. Raises RegistryError if it fails."""
        code, tail = self.run_code(argv, environ)
        if code:
            problem = failure(argv, code, tail)
            raise RegistryError(problem.message, problem.hint)

    def run_code(
        self, argv: Sequence[str], environ: Mapping[str, str] | None = None
    ) -> tuple[int, list[str]]:
        """Run a program to its end; return its exit code and its last lines."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"+ {' '.join(argv)}\n")
        return self.children.run(argv, log=self.log, on_line=self.on_line, environ=environ)


@dataclass(frozen=True, slots=True)
class Container:
    """A container to run: `command` is the whole command line, `mounts` host folder -> path."""

    name: str
    source: Source
    command: Sequence[str]
    environ: Mapping[str, str]
    passed: Sequence[str]
    """Names of variables that go in with the value they have here: no command line shows it."""
    gpus: int
    mounts: Mapping[Path, str]
    user: str


class Engine(Protocol):
    """What makes and runs images. Every call returns when its work is done, and raises if not."""

    @property
    def name(self) -> str: ...

    def kept(self, name: str, fingerprint: str) -> str | None:
        """Return the id of the image `name` in the engine's store; None unless it is that content.

        So what was built once is not built again when a registry lost it.
        """
        ...

    def build(self, request: Request, work: Work) -> str:
        """Build; return the id of the image in the engine's own store. Raises BuildError."""
        ...

    def smoke(self, image_id: str, command: Sequence[str], work: Work) -> None:
        """Run `command` in the image. Raises BuildError if it does not end in 0."""
        ...

    def push(self, image_id: str, reference: str, remote: Remote, work: Work) -> None:
        """Send the image to `reference`. Raises RegistryError; called again it sends what lacks."""
        ...

    def run(self, container: Container, work: Work) -> int:
        """Run a container to its end, passing its output on; return its exit code."""
        ...

    def remove(self, name: str) -> None:
        """Remove the container `name`; if there is none, return silently."""
        ...


def options(flag: str, values: Mapping[str, str]) -> list[str]:
    """Return `--flag name=value` for each of `values`, as both engines' programs take them."""
    return [word for name, value in values.items() for word in (flag, f"{name}={value}")]


def build_args(request: Request) -> dict[str, str]:
    """The image's own build arguments, the layers' time, and where pip finds the wheels.

    The last two only where the Dockerfile declares them: engines warn of an argument in vain.
    """
    ours = {"SOURCE_DATE_EPOCH": str(request.epoch)}
    if request.wheels:
        ours |= {"PIP_FIND_LINKS": WHEELS, "PIP_NO_INDEX": "1"}
    declared = request.dockerfile.arguments
    return {**request.build_args, **{k: v for k, v in ours.items() if k in declared}}


def auth_file(remote: Remote, path: Path) -> Path:
    """Write the credentials into a file only this user reads; a command line shows them to all."""
    assert remote.credentials is not None
    pair = f"{remote.credentials.username}:{remote.credentials.password}".encode()
    host = remote.prefix.partition("/")[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps({"auths": {host: {"auth": b64encode(pair).decode()}}}), "utf-8")
    return path


def failure(argv: Sequence[str], code: int, tail: Sequence[str]) -> BuildError:
    """Return the error for a program that failed: its own last words, and what to do."""
    last = next((line.strip() for line in reversed(tail) if line.strip()), "")
    program = Path(argv[0]).name
    verb = next((a for a in argv[1:] if a in ("build", "push", "pull", "run", "from")), "")
    words = f"{program} {verb}".strip()
    return BuildError(f"{words} failed ({describe_exit(code)}): {last}", advice(tail))


def advice(tail: Sequence[str]) -> str:
    """What to do about the commonest failures, by the words that programs use for them."""
    text = "\n".join(tail).lower()
    if "no space left on device" in text:
        return "The disk is full: make room, then run it again; finished images are kept."
    if "cannot connect to the docker daemon" in text:
        return "Start docker (`sudo systemctl start docker`), or use `--engine buildah`."
    if "connection refused" in text or "connection reset" in text:
        return "The registry or the network went away: run it again; finished images are kept."
    if "500 internal server error" in text:
        return "The registry itself failed, as it does on a full disk: its own log says more."
    if "no matching distribution found" in text:
        return "A pin of the requirements is not to be had: correct it in the image's requirements."
    if "cannot allocate memory" in text or "out of memory" in text:
        return "The machine ran out of memory: build fewer images at once with `--jobs 1`."
    return ""
