"""The buildah engine: no daemon, and reproducible images."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arr.build.engine import (
    WHEELS,
    Container,
    Remote,
    Request,
    Source,
    Work,
    auth_file,
    build_args,
    failure,
    options,
)
from arr.errors import BuildError
from arr.process import answer
from arr.registry.labels import FINGERPRINT_LABEL
from arr.stack.dockerfile import with_references


@dataclass(frozen=True)
class Buildah:
    """Builds in `store`, or in the user's own storage when it is None."""

    store: Path | None = None
    name: str = "buildah"
    _pulls: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def kept(self, name: str, fingerprint: str) -> str | None:
        found = self._inspect(f"localhost/{name}")
        labels = (found["OCIv1"].get("config") or {}).get("Labels") or {} if found else {}
        same = labels.get(FINGERPRINT_LABEL) == fingerprint
        return str(found["FromImageID"]) if found and same else None

    def build(self, request: Request, work: Work) -> str:
        for source in request.sources.values():
            self._fetch(source, work)
        exact = {ref: source.local_name for ref, source in request.sources.items()}
        dockerfile = work.scratch / "Dockerfile"
        # Labels as one instruction: of --label, buildah makes a step and a commit each.
        text = with_references(request.dockerfile, exact).rstrip("\n") + _label(request.labels)
        dockerfile.write_text(text, "utf-8")
        id_file = work.scratch / "image-id"
        mounts = ["--volume", f"{request.wheels}:{WHEELS}:ro"] if request.wheels else []
        work.run(
            self._command(
                # --force-rm: a build that fails leaves no container mounted in the store.
                "build", "--layers", "--force-rm", "--isolation", "chroot", "--network", "host",
                "--format", "oci", "--pull=never", "--http-proxy=false", "--identity-label=false",
                "--platform", request.platform,
                "--timestamp", str(request.epoch), "--iidfile", str(id_file),
                "--file", str(dockerfile), "--tag", f"localhost/{request.name}",
                *mounts, *options("--build-arg", build_args(request)), str(request.context),
            ),
        )  # fmt: skip
        return id_file.read_text("utf-8").strip().removeprefix("sha256:")

    def smoke(self, image_id: str, command: Sequence[str], work: Work) -> None:
        container = f"arr-smoke-{image_id[:12]}-{secrets.token_hex(4)}"
        try:
            self._create(container, image_id)
            work.run(
                self._command("run", "--isolation", "chroot", container, "--", *command),
            )
        finally:
            self.remove(container)

    def push(self, image_id: str, reference: str, remote: Remote, work: Work) -> None:
        argv = self._command(
            "push", "--format", "oci", *self._reach(remote, work), image_id,
            f"docker://{reference}",
        )  # fmt: skip
        work.send(argv)

    def run(self, container: Container, work: Work) -> int:
        if container.gpus:
            raise BuildError(
                "buildah cannot give a run GPUs", "Use docker: `--engine docker`, or run.gpus = 0."
            )
        self._fetch(container.source, work)
        self.remove(container.name)
        self._create(container.name, container.source.local_name)
        self._pass(container)
        mounts = [f"{folder}:{path}:rw" for folder, path in container.mounts.items()]
        argv = self._command(
            "run", "--isolation", "chroot", "--network", "host", "--user", container.user,
            *options("--env", container.environ),
            *(o for m in mounts for o in ("--volume", m)),
            container.name, "--", *container.command,
        )  # fmt: skip
        try:
            code, tail = work.children.run(
                argv, log=work.log, on_line=work.on_line, keeper="buildah"
            )
            return _own_exit_code(code, tail)
        finally:
            self.remove(container.name)

    def remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            subprocess.run(self._command("rm", name), capture_output=True, check=False)

    def _create(self, container: str, image: str) -> None:
        argv = self._command(
            "from", "--pull=never", "--http-proxy=false", "--name", container, image
        )
        done = answer(argv)
        if done.returncode:
            raise failure(argv, done.returncode, done.stderr.splitlines())

    def _pass(self, container: Container) -> None:
        """Give it the variables of `passed` that are set here: `run` itself drops bare names."""
        names = [name for name in container.passed if name in os.environ]
        if not names:
            return
        argv = self._command("config", *(o for n in names for o in ("--env", n)), container.name)
        done = answer(argv)
        if done.returncode:
            raise failure(argv, done.returncode, done.stderr.splitlines())

    def _fetch(self, source: Source, work: Work) -> None:
        """Have the image under its local name, pulling it by digest unless it is here already."""
        with self._pulls:
            if self._image_id(source.local_name) == source.config_digest:
                return
            reach = self._reach(source.remote, work) if source.remote else []
            argv = self._command("pull", *reach, f"docker://{source.reference}")
            work.run(argv)
            image_id = self._image_id(source.reference)
            if image_id is None or image_id != source.config_digest:
                raise BuildError(
                    f"{source.reference} came as image {image_id}, not {source.config_digest}",
                    "Its registry answers with other content than its digest names.",
                )
            work.run(
                self._command("tag", image_id.removeprefix("sha256:"), source.local_name),
            )

    def _image_id(self, name: str) -> str | None:
        found = self._inspect(name)
        return f"sha256:{found['FromImageID']}" if found else None

    def _inspect(self, name: str) -> dict[str, Any] | None:
        """What buildah knows of an image in its store; None if it is not there."""
        done = answer(self._command("inspect", "--type", "image", name))
        return None if done.returncode else json.loads(done.stdout)

    def _reach(self, remote: Remote, work: Work) -> list[str]:
        options = ["--tls-verify=false"] if remote.insecure else []
        if remote.credentials:
            options += ["--authfile", str(auth_file(remote, work.scratch / "auth.json"))]
        return options

    def _command(self, verb: str, *args: str) -> list[str]:
        # Rootless, buildah's own choice may be vfs, which copies gigabytes for every layer.
        storage = ["--storage-driver", "overlay"]
        if self.store:
            storage += ["--root", str(self.store / "root"), "--runroot", str(self.store / "run")]
        return ["buildah", *storage, verb, *args]


def _own_exit_code(code: int, tail: Sequence[str]) -> int:
    """The program's own exit code: buildah gives 1 for one that a signal ended, and names it."""
    found = re.search(r"^subprocess exited on (.+)$", "\n".join(tail[-3:]), re.MULTILINE)
    names = {(signal.strsignal(n) or "").lower(): int(n) for n in signal.valid_signals()}
    number = names.get(found[1].strip()) if found else None
    return 128 + number if code == 1 and number else code


def _label(labels: Mapping[str, str]) -> str:
    """Return a LABEL instruction, on a line of its own, that says exactly these labels."""
    quoted = {k: re.sub(r'(["\\\\$])', r"\\\1", v) for k, v in labels.items()}
    return "\nLABEL " + " ".join(f'{k}="{v}"' for k, v in quoted.items()) + "\n"
