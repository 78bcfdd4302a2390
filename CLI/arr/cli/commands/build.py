"""`arr build`"""

from __future__ import annotations

import click

from arr.cli import options
from arr.cli.render.progress import face
from arr.launch import Options, launch
from arr.project import open_project


@click.command(short_help="Build the images that are stale, parents first, and push them.",
               epilog="Example: arr build arr-trainer --engine buildah")  # fmt: skip
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@options.building
@options.target
def command(
    images: tuple[str, ...],
    engine: str | None,
    jobs: str | None,
    allow_dirty: bool,
    progress: str,
    target: str | None,
) -> int:
    """Build the given images, or all, and what they build FROM, where they are stale."""
    project = open_project({"target": target, "engine.name": engine, "build.jobs": jobs})
    with face(progress) as emit:
        return launch(project, Options(images, run=False, allow_dirty=allow_dirty), emit)
