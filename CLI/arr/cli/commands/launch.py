"""`arr launch`"""

from __future__ import annotations

import click

from arr.cli import options
from arr.cli.render.progress import face
from arr.launch import Options, launch
from arr.project import open_project


@click.command(short_help="Take the commit to a running training job: plan, build, run.",
               epilog="Example: arr launch --set steps=50 --detach")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
@click.option(
    "--detach", is_flag=True, help="Return once the run is queued; `arr logs -f` follows."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="A setting of the training run; may be given often.")  # fmt: skip
@options.building
@options.target
def command(
    dry_run: bool,
    detach: bool,
    settings: tuple[str, ...],
    engine: str | None,
    jobs: str | None,
    allow_dirty: bool,
    progress: str,
    target: str | None,
) -> int:
    """Plan, build what is stale, push it, move :latest, and run the training image.

    Ends with the run's result and the run's own exit code. Ctrl-C ends what is running; launching
    again goes on from there.
    """
    project = open_project({"target": target, "engine.name": engine, "build.jobs": jobs})
    wanted = Options(
        dry_run=dry_run,
        allow_dirty=allow_dirty,
        detach=detach,
        settings=options.pairs(settings),
    )
    with face(progress) as emit:
        return launch(project, wanted, emit)
