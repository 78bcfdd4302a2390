"""`arr doctor`"""

from __future__ import annotations

import dataclasses
import subprocess

import click

from arr import doctor
from arr.cli import options
from arr.errors import MissingTool
from arr.project import open_project


@click.command(short_help="Show what this machine has and lacks, and how to mend it.",
               epilog="Example: arr doctor --target local")  # fmt: skip
@click.option("--mend", is_flag=True, help="Install the Debian packages that are missing.")
@click.option("--also", default="", metavar="PACKAGES", help="Debian packages wanted besides.")
@click.option("--quiet", is_flag=True, help="Show only what is missing.")
@options.target
@options.as_json
def command(mend: bool, also: str, quiet: bool, target: str | None, as_json: bool) -> int:
    """Look at everything the target needs; name for each lack the command that mends it.

    Exit code 0: nothing is missing; 2: something is.
    """
    project = open_project({"target": target})
    checks = doctor.checks(project) + doctor.packages(also.split())
    if mend:
        install = doctor.install_command(checks)
        if install:
            _install(install)
            checks = doctor.checks(project) + doctor.packages(also.split())
    if as_json:
        options.print_json({"target": project.target,
                            "checks": [dataclasses.asdict(c) for c in checks]})  # fmt: skip
    else:
        for check in (c for c in checks if not (quiet and c.ok)):
            mark = click.style("ok  ", fg="green") if check.ok else click.style("LACK", fg="red")
            click.echo(f"{mark}  {check.name}: {check.detail}")
            if not check.ok and check.mend:
                click.echo(f"      {check.mend}")
    return 0 if all(check.ok for check in checks) else MissingTool.exit_code


def _install(install: list[str]) -> None:
    click.echo(f"+ {' '.join(install)}", err=True)
    sudo = install[: install.index("apt-get")]
    for argv in ([*sudo, "apt-get", "update", "-qq"], install):
        if subprocess.run(argv, check=False).returncode:
            raise MissingTool(f"{' '.join(argv)} failed", "See what it says above.")
