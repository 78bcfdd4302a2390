"""The plan as a table, and as its documented JSON form (docs/json.md)."""

from __future__ import annotations

import click

from arr.cli.render.text import duration, table
from arr.events import Planned, PlannedImage

_COLOURS = {"build": "yellow", "reuse": "green"}


def text(plan: Planned) -> str:
    """Return the plan for a person to read."""
    lines = [
        f"commit {plan.commit[:12]}   target {plan.target}   registry {plan.registry}",
        "",
        table(
            ["IMAGE", "TAG", "PRESENCE", "ACTION", "USUAL", "REASON"],
            [_row(image) for image in plan.images],
        ),
        "",
    ]
    lines += [f"base {base}" for base in plan.bases]
    lines += [click.style(f"warning: {warning}", fg="yellow") for warning in plan.warnings]
    if plan.uncommitted:
        lines.append(click.style("not in the commit, so not in any image:", fg="yellow"))
        lines += [f"  {change}" for change in plan.uncommitted]
    return "\n".join(lines)


def _row(image: PlannedImage) -> list[str]:
    return [
        image.image,
        image.tag,
        image.presence,
        click.style(image.action, fg=_COLOURS[image.action]),
        duration(image.usual_seconds),
        image.reason,
    ]


def as_json(plan: Planned) -> dict[str, object]:
    """Return the plan as one object; its keys are stable."""
    return {
        "commit": plan.commit,
        "target": plan.target,
        "registry": plan.registry,
        "images": [
            {
                "image": image.image,
                "repository": image.repository,
                "tag": image.tag,
                "fingerprint": image.fingerprint,
                "parents": image.parents,
                "presence": image.presence,
                "action": image.action,
                "reason": image.reason,
                "changed": image.changed,
                "usual_seconds": image.usual_seconds,
            }
            for image in plan.images
        ],
        "bases": plan.bases,
        "uncommitted": plan.uncommitted,
        "warnings": plan.warnings,
    }
