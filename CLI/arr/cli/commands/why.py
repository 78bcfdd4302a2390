"""`arr why`"""

from __future__ import annotations

import click

from arr.cli import options
from arr.project import open_project
from arr.stack.git import printable
from arr.why import Comparison, compare

_COLOURS = {"+": "green", "-": "red", "~": "yellow"}


@click.command(short_help="Show what differs from the last built image, file by file.",
               epilog="Example: arr why arr-trainer --against 1a2b3c4")  # fmt: skip
@click.argument("image")
@click.option("--against", metavar="TAG", help="The tag to compare with [the last built].")
@options.target
@options.as_json
def command(image: str, against: str | None, target: str | None, as_json: bool) -> int:
    """Show the inputs of IMAGE that differ from the last built tag: ~ changed + new - gone.

    The inputs of a built image are kept in the registry, so this works on any machine.
    """
    found = compare(open_project({"target": target}), image, against)
    if as_json:
        options.print_json(_json(found))
    else:
        click.echo(_text(found))
    return 0


def _text(found: Comparison) -> str:
    now = f"{found.image}:{found.tag}"
    if found.against is None:
        return f"{now} was never built for this registry: every input is new ({found.inputs} files)"
    if not found.differences:
        return f"{now} is built from the same inputs as {found.against}: nothing differs"
    lines = [f"{now} differs from {found.against} in:"]
    for difference, lines_changed in found.differences:
        what = printable(difference.name) if difference.kind == "file" else difference.phrase
        text = click.style(f"  {difference.sign} {what}", fg=_COLOURS[difference.sign])
        counts = f"  (+{lines_changed[0]} -{lines_changed[1]} lines)" if lines_changed else ""
        lines.append(text + counts)
    return "\n".join(lines)


def _json(found: Comparison) -> dict[str, object]:
    return {
        "image": found.image,
        "tag": found.tag,
        "against": found.against,
        "differences": [
            {
                "sign": difference.sign,
                "kind": difference.kind,
                "name": difference.name,
                "old": difference.old or None,
                "new": difference.new or None,
            }
            for difference, _lines in found.differences
        ],
    }
