"""`arr runs`"""

from __future__ import annotations

import time

import click
import msgspec

from arr.cli import options
from arr.cli.render.text import duration, moment, table
from arr.jobs.queue import settle_lost
from arr.jobs.spec import result
from arr.project import open_project
from arr.state import Run


@click.command(short_help="List the training runs.", epilog="Example: arr runs --json")
@options.as_json
def command(as_json: bool) -> int:
    """List the runs of this clone, the newest first."""
    project = open_project({})
    settle_lost(project.state, project.root, time.time())
    runs = project.state.runs()
    if as_json:
        rows = [{**msgspec.to_builtins(r), "result": result(r.folder)} for r in runs]
        options.print_json({"runs": rows})
        return 0
    heads = ["RUN", "STATUS", "STARTED (UTC)", "TOOK", "ACCURACY", "SETTINGS", "NOTE"]
    cells = [_row(run) for run in runs]
    click.echo(table(heads, cells) if cells else "no run yet: `arr launch` starts one")
    return 0


def _row(run: Run) -> list[str]:
    took = (run.finished or time.time()) - run.started if run.started else None
    accuracy = (result(run.folder) or {}).get("accuracy")
    return [
        run.id,
        run.status,
        moment(run.started) if run.started else "-",
        duration(took),
        f"{accuracy:.1%}" if isinstance(accuracy, int | float) else "-",
        " ".join(f"{k}={v}" for k, v in run.settings.items()),
        run.fault.partition("\n")[0][:80],
    ]
