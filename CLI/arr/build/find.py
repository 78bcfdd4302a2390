"""Which engine this machine has: asked for what it can do, never assumed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from arr.build.buildah import Buildah
from arr.build.docker import Docker
from arr.build.engine import Engine
from arr.config import EngineSettings
from arr.errors import MissingTool

INSTALL = "sudo apt-get install buildah"


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found out of one engine; `problem` is empty when it can be used."""

    name: str
    detail: str
    problem: str
    program: str = ""


def find(settings: EngineSettings, root: Path) -> Engine:
    """Return the engine that the settings name, else docker, else buildah.

    Raises MissingTool with the command that installs one.
    """
    found = choose(settings)
    if not found.problem:
        return _engine(found, settings, root)
    raise MissingTool(
        f"no engine that can build images was found: {found.problem}",
        INSTALL if settings.name != "docker" else "Start docker, or use `--engine buildah`.",
    )


def choose(settings: EngineSettings) -> Probe:
    """Return what was found of the engine that `find` would take; its problem if there is none."""
    probes = [probe_docker, probe_buildah]
    if settings.name:
        probes = [probe_docker if settings.name == "docker" else probe_buildah]
    problems = []
    for probe in probes:
        found = probe()
        if not found.problem:
            return found
        problems.append(f"{found.name}: {found.problem}")
    return Probe(settings.name or "buildah", "", "; ".join(problems))


def probe_docker() -> Probe:
    """Look for a docker client that can do BuildKit and whose daemon answers."""
    problem = "not installed"
    for folder in os.get_exec_path():
        program = Path(folder) / "docker"
        if not os.access(program, os.X_OK):
            continue
        done = _ask(str(program), "version", "--format", "{{.Client.Version}} {{.Server.Version}}")
        versions = done.stdout.split()
        if done.returncode or len(versions) != 2:
            problem = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no daemon"
            continue
        client, server = versions
        if _has_buildkit(str(program), client):
            return Probe("docker", f"client {client}, daemon {server}", "", str(program))
        problem = f"the client {client} has no buildx, which its BuildKit needs"
    return Probe("docker", "", problem)


def probe_buildah() -> Probe:
    """Look for buildah, and for what it needs to run without root."""
    program = shutil.which("buildah")
    if program is None:
        return Probe("buildah", "", "not installed")
    done = _ask(program, "--version")
    version = re.search(r"\d+\.\d+\S*", done.stdout)
    if done.returncode or version is None:
        return Probe("buildah", "", f"`buildah --version` fails: {done.stderr.strip()}")
    if os.geteuid() != 0 and shutil.which("newuidmap") is None:
        return Probe("buildah", version[0], "without root it needs the package uidmap")
    return Probe("buildah", version[0], "", program)


def _engine(found: Probe, settings: EngineSettings, root: Path) -> Engine:
    if found.name == "docker":
        return Docker(found.program)
    return Buildah(root / settings.store if settings.store else None)


def _has_buildkit(program: str, client: str) -> bool:
    """A client before 23 brings BuildKit itself; a later one needs the plugin buildx."""
    major = re.match(r"\d+", client)
    if major and int(major[0]) < 23:
        return True
    return _ask(program, "buildx", "version").returncode == 0


def _ask(*argv: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(argv, 1, "", str(error))
