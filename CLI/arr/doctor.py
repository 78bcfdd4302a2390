"""What this machine has and lacks for a target, with the command that mends it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from arr.build import find
from arr.errors import ArrError, ConfigError, MissingTool
from arr.project import Project
from arr.registry.auth import find_credentials
from arr.registry.client import Registry

ROOM = 8 * 2**30
"""Bytes that the four images, their wheels and a registry take on the local target."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `package` is the Debian package that brings it, if one does."""

    name: str
    ok: bool
    detail: str
    mend: str = ""
    package: str | None = None


def checks(project: Project) -> list[Check]:
    """Look at everything that the project's target needs. Nothing is started or changed."""
    found = _of_machine(project)
    if project.settings.registry.url or project.target != "local":
        found.append(_registry(project))
    found.append(_lock(project))
    return found


def _of_machine(project: Project) -> list[Check]:
    found = [_python(), _program("git", "git", "reads the commit")]
    if project.target == "local":
        found += [*_engine(project), *_local_registry(project), *_base_maker(project)]
        found.append(_disk(project.root))
    return found


def packages(names: list[str]) -> list[Check]:
    """Look whether Debian packages are installed."""
    found = []
    query = shutil.which("dpkg-query")
    for name in names:
        detail = _package_state(query, name) if query else "there is no dpkg-query to ask"
        ok = detail == "installed"
        found.append(Check(name, ok, detail, f"sudo apt-get install {name}", name))
    return found


def _package_state(query: str, name: str) -> str:
    asked = subprocess.run(
        [query, "--show", "--showformat=${db:Status-Status}", name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return "installed" if asked.stdout == "installed" else "not installed"


def require(project: Project) -> None:
    """Raise MissingTool that names everything this machine lacks, before anything is started.

    What the stack or the registry lacks is told by the plan, with exit codes of its own.
    """
    lacking = [check for check in _of_machine(project) if not check.ok]
    if not lacking:
        return
    packages = sorted({check.package for check in lacking if check.package})
    mends = [f"sudo apt-get install {' '.join(packages)}"] if packages else []
    mends += [check.mend for check in lacking if check.mend and not check.package]
    raise MissingTool(
        "this machine lacks what the launch needs; nothing was started:\n"
        + "\n".join(f"  {check.name}: {check.detail}" for check in lacking),
        "\n".join(mends),
    )


def install_command(lacking: list[Check]) -> list[str] | None:
    """Return the command that installs the missing packages; None without the rights to do so.

    Raises MissingTool, naming the command for an administrator, if there are no rights.
    """
    packages = sorted({check.package for check in lacking if not check.ok and check.package})
    if not packages:
        return None
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if shutil.which("apt-get") is None:
        raise MissingTool(
            f"this machine lacks {', '.join(packages)} and has no apt-get",
            "Install these Debian packages' programs by your system's own means.",
        )
    if os.geteuid() == 0:
        return install
    may = shutil.which("sudo") and subprocess.run(
        ["sudo", "--non-interactive", "true"], capture_output=True, check=False
    )
    if not may or may.returncode:
        raise MissingTool(
            f"this machine lacks {', '.join(packages)}, and you may not install packages",
            f"Ask an administrator: sudo apt-get install {' '.join(packages)}",
        )
    return ["sudo", *install]


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Check("python", sys.version_info >= (3, 11), version, "Use Python 3.11 or later.")


def _program(name: str, package: str, what_for: str) -> Check:
    path = shutil.which(name)
    return Check(
        name,
        path is not None,
        path or f"not installed; it {what_for}",
        f"sudo apt-get install {package}",
        package,
    )


def _engine(project: Project) -> list[Check]:
    found = find.choose(project.settings.engine)
    if not found.problem:
        return [Check("engine", True, f"{found.name} {found.detail}")]
    if found.name == "docker":
        package = "docker.io"
    else:
        package = "uidmap" if "uidmap" in found.problem else "buildah"
    mend = f"sudo apt-get install {package}"
    return [Check("engine", False, found.problem, mend, package)]


def _local_registry(project: Project) -> list[Check]:
    if project.settings.registry.url:
        return []
    return [_program("docker-registry", "docker-registry", "is the embedded registry")]


def _base_maker(project: Project) -> list[Check]:
    """mmdebstrap, if any base of the target is made and not pulled."""
    try:
        made = any(pin.recipe for pin in project.pins.values())
    except ArrError:
        return []
    if not made:
        return []
    return [_program("mmdebstrap", "mmdebstrap", "makes the base from Debian's packages")]


def _disk(root: Path) -> Check:
    free = shutil.disk_usage(root).free
    images_there = (root / ".arr" / "registry").is_dir()
    return Check(
        "disk",
        free > ROOM or images_there,
        f"{free / 2**30:.0f} GiB free",
        f"Make room: the four images, wheels and registry take about {ROOM / 2**30:.0f} GiB.",
    )


def _registry(project: Project) -> Check:
    url = project.settings.registry.url
    if url is None:
        return Check("registry", False, "none is set", "Set registry.url in arr.toml.")
    host = url.partition("://")[2].partition("/")[0]
    try:
        with Registry(
            url, credentials=lambda: find_credentials(host, project.environ, Path.home())
        ) as registry:
            registry.ping()
    except ArrError as error:
        return Check("registry", False, error.message, error.hint)
    return Check("registry", True, url)


def _lock(project: Project) -> Check:
    command = f"arr lock --update --target {project.target}"
    try:
        missing = sorted(
            {base for node in project.graph for base in node.bases if base not in project.pins}
        )
    except ConfigError as error:
        return Check("lock", False, error.message, error.hint)
    except ArrError as error:
        return Check("stack", False, error.message, error.hint)
    if missing:
        return Check("lock", False, f"not pinned: {', '.join(missing)}", command)
    return Check("lock", True, "every base is pinned")
