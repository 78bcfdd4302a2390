"""`arr images`, `arr images history`"""

from __future__ import annotations

import time

import click

from arr.cli import options
from arr.cli.render.text import age, duration, moment, size, table
from arr.inventory import Stored, history, stored
from arr.project import open_project


@click.group(invoke_without_command=True, epilog="Example: arr images --json",
             short_help="List what the registry holds; the history of an image.")  # fmt: skip
@options.target
@options.as_json
@click.pass_context
def command(ctx: click.Context, target: str | None, as_json: bool) -> int:
    """List the images in the registry: tag, age, size, fingerprint, whether in the plan."""
    if ctx.invoked_subcommand:
        return 0
    rows = stored(open_project({"target": target}))
    if as_json:
        options.print_json({"images": [row.as_dict() for row in rows]})
        return 0
    now = time.time()
    cells = [_cells(row, now) for row in rows]
    heads = ["IMAGE", "TAG", "AGE", "SIZE", "FINGERPRINT", "IN PLAN", "ALSO"]
    click.echo(table(heads, cells) if cells else "the registry holds no image of this stack")
    return 0


def _cells(row: Stored, now: float) -> list[str]:
    return [
        row.image,
        row.tag,
        age(row.built_at, now),
        size(row.size) if row.size is not None else "-",
        (row.fingerprint or "-")[:16],
        "yes" if row.in_plan else "no",
        ", ".join(row.aliases),
    ]


@command.command("history", epilog="Example: arr images history arr-trainer")
@click.argument("image")
@options.target
@options.as_json
def show_history(image: str, target: str | None, as_json: bool) -> int:
    """Show the builds of IMAGE: when, tag, why, how long, by which commit."""
    rows = history(open_project({"target": target}), image)
    if as_json:
        options.print_json({"image": image, "builds": [row.as_dict() for row in rows]})
        return 0
    cells = [
        [moment(r.when) if r.when else "-", r.tag, r.outcome, duration(r.seconds),
         r.commit[:12], r.reason]
        for r in rows
    ]  # fmt: skip
    heads = ["WHEN (UTC)", "TAG", "OUTCOME", "TOOK", "COMMIT", "WHY"]
    click.echo(table(heads, cells) if cells else f"{image} was never built")
    return 0
