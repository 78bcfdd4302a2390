"""`arr plan`"""

from __future__ import annotations

import time

import click

from arr.cli import options
from arr.cli.render import plan as render
from arr.planning import make_plan, open_registry, planned, prepare
from arr.project import open_project

STALE = 10


@click.command(short_help="Show which images are stale, and why. Builds nothing.",
               epilog="Example: arr plan arr-trainer --json")  # fmt: skip
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@options.target
@options.as_json
def command(images: tuple[str, ...], target: str | None, as_json: bool) -> int:
    """Show for each image its tag, whether the registry has it, what would be done, and why.

    Builds nothing and needs no engine. Exit code 0: nothing is stale; 10: something is.
    """
    project = open_project({"target": target})
    prepare(project)
    with open_registry(project, start=False) as registry:
        plan = make_plan(project, registry, images)
    event = planned(plan, time.time())
    if as_json:
        options.print_json(render.as_json(event))
    else:
        click.echo(render.text(event))
    return STALE if plan.stale else 0
