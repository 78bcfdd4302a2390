"""`arr doctor`"""

from __future__ import annotations

import dataclasses
import subprocess

import click

from arr import doctor
from arr.cli import options
from arr.errors import MissingTool
from arr.project import open_project
from arr.stack.stackfile import TARGETS


@click.command(short_help="Show what this machine has and lacks, and how to mend it.",
               epilog="Example: arr doctor --target local")  # fmt: skip
@click.option("--mend", is_flag=True, help="Install the Debian packages that are missing.")
@click.option("--also", default="", metavar="PACKAGES", help="Debian packages wanted besides.")
@click.option("--quiet", is_flag=True, help="Show only what is missing.")
@options.target
@options.as_json
def command(mend: bool, also: str, quiet: bool, target: str | None, as_json: bool) -> int:
    """Look at everything the target needs; name for each lack the command that mends it.

    Without --target, what the other target lacks is shown too. Exit code 0: nothing is missing for
    the target in use; 2: something is.
    """
    project = open_project({"target": target})
    checks = doctor.checks(project) + doctor.packages(also.split())
    if mend:
        install = doctor.install_command(checks)
        if install:
            _install(install)
            checks = doctor.checks(project) + doctor.packages(also.split())
    others = {} if target or quiet or mend else _of_others(project.target)
    if as_json:
        by_target = {name: [dataclasses.asdict(c) for c in found] for name, found in others.items()}
        rows = [dataclasses.asdict(check) for check in checks]
        options.print_json({"target": project.target, "checks": rows, "others": by_target})
    else:
        _show([check for check in checks if not (quiet and check.ok)])
        for name, found in others.items():
            click.echo(f"\nfor the target {name}, which is not in use here:")
            _show(found)
    return 0 if all(check.ok for check in checks) else MissingTool.exit_code


def _of_others(used: str) -> dict[str, list[doctor.Check]]:
    return {name: doctor.checks(open_project({"target": name})) for name in TARGETS if name != used}


def _show(checks: list[doctor.Check]) -> None:
    for check in checks:
        mark = click.style("ok  ", fg="green") if check.ok else click.style("LACK", fg="red")
        click.echo(f"{mark}  {check.name}: {check.detail}")
        if not check.ok and check.mend:
            click.echo(f"      {check.mend}")


def _install(install: list[str]) -> None:
    click.echo(f"+ {' '.join(install)}", err=True)
    sudo = install[: install.index("apt-get")]
    for argv in ([*sudo, "apt-get", "update", "-qq"], install):
        if subprocess.run(argv, check=False).returncode:
            raise MissingTool(f"{' '.join(argv)} failed", "See what it says above.")
