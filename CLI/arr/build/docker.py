"""The docker engine, by its BuildKit: through its own client, as no library speaks BuildKit."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arr.build.engine import (
    WHEELS,
    Container,
    Remote,
    Request,
    Source,
    Work,
    auth_file,
    build_args,
    options,
)
from arr.errors import BuildError
from arr.process import answer
from arr.registry.labels import FINGERPRINT_LABEL
from arr.stack.dockerfile import with_references


@dataclass(frozen=True)
class Docker:
    """`program` is a docker client that can do BuildKit; `host` its daemon, None for the usual."""

    program: str = "docker"
    host: str | None = None
    name: str = "docker"
    _imports: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def kept(self, name: str, fingerprint: str) -> str | None:
        form = f'{{{{.Id}}}} {{{{index .Config.Labels "{FINGERPRINT_LABEL}"}}}}'
        done = answer([self.program, "image", "inspect", "--format", form, name], self._environ())
        image_id, _, found = done.stdout.strip().partition(" ")
        return image_id if done.returncode == 0 and found == fingerprint else None

    def build(self, request: Request, work: Work) -> str:
        for source in request.sources.values():
            self._fetch(source, work)
        exact = {ref: source.reference for ref, source in request.sources.items()}
        text = with_references(request.dockerfile, exact)
        if request.wheels:
            text = _with_mount(text, request, self._wheels_image(request.wheels, work))
        dockerfile = work.scratch / "Dockerfile"
        dockerfile.write_text(text, "utf-8")
        id_file = work.scratch / "image-id"
        work.run(
            [
                self.program, "build", "--progress", "plain", "--network", "host",
                "--platform", request.platform, "--iidfile", str(id_file),
                "--file", str(dockerfile), "--tag", request.name,
                *options("--build-arg", build_args(request)), *options("--label", request.labels),
                str(request.context),
            ],
            self._environ(),
        )  # fmt: skip
        return id_file.read_text("utf-8").strip()

    def smoke(self, image_id: str, command: Sequence[str], work: Work) -> None:
        name = f"arr-smoke-{image_id.removeprefix('sha256:')[:12]}-{os.getpid()}"
        self.remove(name)
        try:
            work.run(
                [self.program, "run", "--rm", "--name", name, "--network", "none",
                 "--entrypoint", command[0], image_id, *command[1:]],
                self._environ(),
            )  # fmt: skip
        finally:
            self.remove(name)  # a client that was killed leaves its container running

    def push(self, image_id: str, reference: str, remote: Remote, work: Work) -> None:
        environ = self._environ(remote, work)
        work.run([self.program, "tag", image_id, reference], environ)
        work.send([self.program, "push", reference], environ)

    def run(self, container: Container, work: Work) -> int:
        self._fetch(container.source, work)
        self.remove(container.name)
        gpus = ["--gpus", str(container.gpus)] if container.gpus else []
        mounts = [f"{folder}:{path}" for folder, path in container.mounts.items()]
        argv = [
            self.program, "run", "--rm", "--name", container.name, "--network", "host",
            "--user", container.user, "--entrypoint", container.command[0],
            *options("--env", container.environ),
            *(word for name in container.passed for word in ("--env", name)),
            *gpus, *(o for m in mounts for o in ("--volume", m)),
            container.source.reference, *container.command[1:],
        ]  # fmt: skip
        try:
            code, _tail = work.children.run(
                argv, log=work.log, on_line=work.on_line, environ=self._environ()
            )
            return code
        finally:
            self.remove(container.name)

    def remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            subprocess.run(
                [self.program, "rm", "--force", name],
                env=self._environ(), capture_output=True, check=False,
            )  # fmt: skip

    def _fetch(self, source: Source, work: Work) -> None:
        if self._has(source.reference):
            return
        work.run([self.program, "pull", source.reference], self._environ(source.remote, work))

    def _wheels_image(self, wheels: Path, work: Work) -> str:
        """Have the wheelhouse as an image that a build can mount; it gets into no layer."""
        name = f"arr-wheels:{wheels.name[:32]}"
        with self._imports:
            if self._has(name):
                return name
            archive = work.scratch / "wheels.tar"
            work.run(["tar", "--create", "--file", str(archive), "--directory", str(wheels), "."])
            work.run([self.program, "import", str(archive), name], self._environ())
            archive.unlink()
        return name

    def _has(self, name: str) -> bool:
        done = answer([self.program, "image", "inspect", name], self._environ())
        if done.returncode and "o such image" not in done.stderr:
            words = done.stderr.strip()
            raise BuildError(f"docker cannot be asked for its images: {words}", "`arr doctor`")
        return done.returncode == 0

    def _environ(self, remote: Remote | None = None, work: Work | None = None) -> dict[str, str]:
        environ = {**os.environ, "DOCKER_BUILDKIT": "1"}
        if self.host:
            environ["DOCKER_HOST"] = self.host
        if remote and remote.credentials and work:
            file = auth_file(remote, work.scratch / "docker" / "config.json")
            environ["DOCKER_CONFIG"] = str(file.parent)
        return environ


def _with_mount(text: str, request: Request, image: str) -> str:
    """Return the Dockerfile with the wheelhouse mounted in each RUN: this BuildKit has no -v."""
    lines = text.split("\n")
    for instruction in request.dockerfile.instructions:
        if instruction.keyword != "RUN":
            continue
        line = lines[instruction.first - 1]
        keyword = line.lstrip()[:3]
        mount = f"--mount=type=bind,from={image},target={WHEELS}"
        lines[instruction.first - 1] = line.replace(keyword, f"{keyword} {mount}", 1)
    return "\n".join(lines)
