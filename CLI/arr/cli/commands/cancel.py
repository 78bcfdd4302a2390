"""`arr cancel`"""

from __future__ import annotations

import time

import click

from arr.jobs.follow import find_run, follow
from arr.project import open_project


@click.command(short_help="End a run.", epilog="Example: arr cancel last")
@click.argument("run")
def command(run: str) -> int:
    """End RUN: its id, the start of it, or `last`. It has 30 s to write a checkpoint.

    Cancelling a run that is over does nothing.
    """
    project = open_project({})
    found = find_run(project.state, run)
    if found.over:
        click.echo(f"run {found.id} is over already: {found.status}")
        return 0
    if found.status == "queued":
        project.state.finish_run(found.id, "cancelled", time.time(), None, "cancelled")
    project.state.ask_cancel(found.id)
    ended = follow(project.state, project.root, found.id, lambda event: None)
    click.echo(f"run {ended.id}: {ended.status}")
    return 0
