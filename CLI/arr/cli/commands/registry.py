"""`arr registry`"""

from __future__ import annotations

import click

from arr.cli import options
from arr.planning import embedded
from arr.project import open_project


@click.group(short_help="Start, stop or look at the embedded registry.",
             epilog="Example: arr registry stop")  # fmt: skip
def command() -> None:
    """The embedded registry: Debian's docker-registry on a loopback port, data in .arr/registry."""


@command.command("start", epilog="Example: arr registry start")
def start() -> int:
    """Start it, if it does not run; commands that need it do so by themselves."""
    click.echo(embedded(open_project({})).start())
    return 0


@command.command("stop", epilog="Example: arr registry stop")
def stop() -> int:
    """Stop it; what it holds stays."""
    stopped = embedded(open_project({})).stop()
    click.echo("stopped" if stopped else "it was not running")
    return 0


@command.command("status", epilog="Example: arr registry status --json")
@options.as_json
def status(as_json: bool) -> int:
    """Say whether it runs, and where."""
    own = embedded(open_project({}))
    url = own.find()
    if as_json:
        options.print_json({"url": url, "folder": str(own.folder)})
    else:
        click.echo(f"running at {url}" if url else "not running")
    return 0
