"""The stack that is measured: four small images, in arr's form and in chartpress's.

base <- dev <- train        base <- tool
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PARENTS = {"base": None, "dev": "base", "train": "dev", "tool": "base"}
PAYLOAD = 8 * 1024 * 1024
SHELL = Path("/bin/busybox")

_IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "bench"), ("EMAIL", "bench@example.org"))
}

# A cheap RUN in each, and what changes most often last.
_DOCKERFILES = {
    "base": """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
COPY payload /opt/payload
COPY base.txt /opt/base.txt
""",
    "dev": "RUN mkdir -p /opt/dev\nCOPY dev.txt /opt/dev/dev.txt\n",
    "train": "RUN mkdir -p /app\nCOPY code /app\n",
    "tool": "RUN mkdir -p /opt/tool\nCOPY tool.txt /opt/tool/tool.txt\n",
}
_COPIED = {
    "base": ("busybox", "payload", "base.txt"),
    "dev": ("dev.txt",),
    "train": ("code",),
    "tool": ("tool.txt",),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One repository with the stack. `name` begins the names of its images.

    Each tool has a repository, a name and a payload of its own: no tool finds another's work in
    the cache of an engine that they share.
    """

    root: Path
    name: str
    environ: Mapping[str, str]

    def image(self, part: str) -> str:
        return f"{self.name}-{part}"

    def folder(self, part: str) -> str:
        return f"Stack/{self.image(part)}"

    def change_code(self, line: str) -> None:
        """Add a line to the leaf's code and commit it."""
        self._add_line(f"{self.folder('train')}/code/train.py", line)

    def change_base(self, line: str) -> None:
        """Add a line to a file of the base and commit it."""
        self._add_line(f"{self.folder('base')}/base.txt", line)

    def _add_line(self, path: str, line: str) -> None:
        with (self.root / path).open("a") as file:
            file.write(f"# {line}\n")
        self.git("commit", "--quiet", "--message", line, "--", path)

    def git(self, *args: str) -> None:
        environ = {**self.environ, **_IDENTITY}
        subprocess.run(["git", *args], cwd=self.root, env=environ, check=True)


def make_sample(root: Path, name: str, host: str, environ: Mapping[str, str]) -> Sample:
    """Write and commit the stack, for images `host/name-*`."""
    sample = Sample(root, name, environ)
    for part in PARENTS:
        _write_image(sample, part)
    tables = [
        f'[images.{sample.image(p)}]\nfolder = "{sample.folder(p)}"\ncontext = "{sample.folder(p)}"'
        for p in PARENTS
    ]
    _write(root / "Stack" / "stack.toml", "\n\n".join(tables) + "\n")
    _write(root / "Stack" / "stack.lock", "version = 1\n")
    _write(root / ".gitignore", ".arr/\n")
    _write(root / "chartpress.yaml", _chartpress(sample, host))
    _write(root / "chart" / "Chart.yaml", "name: chart\nversion: 0.0.1-set.by.chartpress\n")
    values = "".join(f'{sample.image(part)}: ""\n' for part in PARENTS)
    _write(root / "chart" / "values.yaml", values)
    sample.git("init", "--quiet", "--initial-branch=main")
    sample.git("add", ".")
    sample.git("commit", "--quiet", "--message", "a stack of four images")
    return sample


def _write_image(sample: Sample, part: str) -> None:
    folder = sample.root / sample.folder(part)
    parent = PARENTS[part]
    start = f"FROM {sample.image(parent)}:latest\n" if parent else ""
    _write(folder / "Dockerfile", start + _DOCKERFILES[part])
    _write(folder / "Dockerfile.dockerignore", "*\n" + "".join(f"!{c}\n" for c in _COPIED[part]))
    listed = [f"{sample.folder(part)}/{copied}" for copied in _COPIED[part]]
    _write(folder / ".image-manifest", "".join(f"{path}\n" for path in listed))
    if part == "base":
        shutil.copy(SHELL, folder / "busybox")
        (folder / "payload").write_bytes(random.Random(sample.name).randbytes(PAYLOAD))
        _write(folder / "base.txt", f"# {sample.name}\n")
    elif part == "train":
        _write(folder / "code" / "train.py", f"# {sample.name}\n")
        _write(folder / "code" / "model.py", "# a second file\n")
    else:
        _write(folder / f"{part}.txt", f"# {sample.name}\n")


def _chartpress(sample: Sample, host: str) -> str:
    """Each image with its own folder, as chartpress has it by default.

    The tag `latest` beside its own makes FROM find the parent; the network is as in the other
    tools' builds.
    """
    lines = ["charts:", "  - name: chart", f"    imagePrefix: {host}/", "    images:"]
    for part in PARENTS:
        name, folder = sample.image(part), sample.folder(part)
        lines += [
            f"      {name}:",
            f"        contextPath: {folder}",
            f"        valuesPath: {name}",
            f"        extraBuildCommandOptions: [--network, host, --tag, '{name}:latest']",
        ]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def environment(home: Path, programs: Path, docker_host: str, registry: str) -> dict[str, str]:
    """The environment of every tool: nothing of the user's settings decides a measurement."""
    own = ("ARR_", "GIT_", "DOCKER_", "BUILDAH_", "CHARTPRESS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return kept | {
        "HOME": str(home),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "DOCKER_HOST": docker_host,
        "DOCKER_BUILDKIT": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "ARR_REGISTRY_URL": registry,
    }
