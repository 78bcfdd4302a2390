"""`arr logs`"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from arr.cli.render.progress import face
from arr.errors import RunError
from arr.jobs import spec as specs
from arr.jobs.follow import find_run
from arr.jobs.follow import follow as follow_run
from arr.project import open_project


@click.command(short_help="Show the output of a run, or follow it.",
               epilog="Example: arr logs last -f")  # fmt: skip
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run is over.")
def command(run: str, follow: bool) -> int:
    """Print the output of RUN: its id, the start of it, or `last`.

    Ctrl-C ends the following, never the run: `arr cancel` does that.
    """
    project = open_project({})
    found = find_run(project.state, run)
    if follow:
        with face("plain") as emit:
            follow_run(project.state, project.root, found.id, emit)
        return 0
    try:
        with (Path(found.folder) / specs.LOG).open("rb") as log:
            shutil.copyfileobj(log, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    except FileNotFoundError as error:
        raise RunError(f"the log of run {found.id} is gone: {found.folder}") from error
    return 0
