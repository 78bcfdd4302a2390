"""`arr lock`"""

from __future__ import annotations

import click

from arr.cli import options
from arr.locking import update
from arr.project import open_project


@click.command(short_help="Show what the bases are pinned to; pin them anew.",
               epilog="Example: arr lock --update --target local")  # fmt: skip
@click.option("--update", "anew", is_flag=True, help="Pin the bases anew and write stack.lock.")
@options.target
@options.as_json
def command(anew: bool, target: str | None, as_json: bool) -> int:
    """Show what each base is pinned to on the target; with --update, pin it anew.

    A base moves only when stack.lock is changed and committed: every image on it is then stale.
    """
    project = open_project({"target": target})
    pins = update(project, lambda text: click.echo(text, err=True)) if anew else None
    pins = project.lock.for_target(project.target) if pins is None else pins
    if as_json:
        rows = {name: {"identity": pin.identity(), "how": str(pin)} for name, pin in pins.items()}
        options.print_json({"target": project.target, "bases": rows})
        return 0
    for name, pin in sorted(pins.items()):
        click.echo(f"{name}: {pin}")
    used = {base for node in project.graph for base in node.bases}
    for base in sorted(used - set(pins)):
        click.echo(f"{base}: not pinned for {project.target}")
    return 0
