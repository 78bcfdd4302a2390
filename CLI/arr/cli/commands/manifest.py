"""`arr manifest check`, `arr manifest show`"""

from __future__ import annotations

import click

from arr.cli import options
from arr.errors import ManifestError
from arr.project import open_project
from arr.stack import check as checks
from arr.stack import manifest as manifests
from arr.stack.git import printable


@click.group(short_help="Check the manifests against the Dockerfiles; show what they select.",
             epilog="Example: arr manifest check")  # fmt: skip
def command() -> None:
    """The manifests: which committed files decide each image."""


@command.command("check", epilog="Example: arr manifest check arr-trainer")
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@options.target
@options.as_json
def check(images: tuple[str, ...], target: str | None, as_json: bool) -> int:
    """Compare each manifest with what its Dockerfile can bring in, both ways.

    A file that can get into the image but is not listed is an error (exit code 2): the image would
    go stale without anyone knowing. A listed file that nothing uses is a warning.
    """
    project = open_project({"target": target})
    nodes = [project.graph.node(name) for name in images] or list(project.graph)
    findings = [checks.check(node, project.graph, project.commit) for node in nodes]
    if as_json:
        rows = [
            {
                "image": f.image,
                "manifest": f.manifest,
                "unlisted": [{"path": printable(u.path), "line": u.line} for u in f.unlisted],
                "unused": [printable(path) for path in f.unused],
            }
            for f in findings
        ]
        options.print_json({"images": rows})
        return ManifestError.exit_code if any(f.unlisted for f in findings) else 0
    for finding in findings:
        for path in finding.unused:
            text = f"warning: {finding.manifest} lists {printable(path)}, which nothing uses"
            click.secho(text, fg="yellow")
    checks.require_listed(findings)
    click.echo(f"{len(findings)} manifests list every file that their images can contain")
    return 0


@command.command("show", epilog="Example: arr manifest show arr-trainer")
@click.argument("image")
@options.target
@options.as_json
def show(image: str, target: str | None, as_json: bool) -> int:
    """Show the committed files that the manifest of IMAGE selects."""
    project = open_project({"target": target})
    node = project.graph.node(image)
    chosen = manifests.select(node.manifest, project.target, project.commit)
    if as_json:
        files = [
            {"path": printable(e.path), "mode": e.mode, "blob": e.blob} for e in chosen.values()
        ]
        options.print_json({"image": image, "manifest": node.manifest.path, "files": files})
    else:
        for entry in chosen.values():
            click.echo(f"{entry.mode} {entry.blob[:12]} {printable(entry.path)}")
    return 0
