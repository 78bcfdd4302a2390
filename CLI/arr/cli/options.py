"""Options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from arr.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


def target(function: F) -> F:
    """--target"""
    choice = click.Choice(["local", "gcp"])
    return click.option("--target", type=choice, help="Where it runs [arr.toml, else local].")(
        function
    )


def as_json(function: F) -> F:
    """--json"""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def building(function: F) -> F:
    """--engine, --jobs, --allow-dirty, --progress"""
    for option in (
        click.option("--progress", type=click.Choice(["auto", "terminal", "plain", "json"]),
                     default="auto", help="How progress is shown."),
        click.option("--allow-dirty", is_flag=True,
                     help="Build the committed content although inputs have changes."),
        click.option("--jobs", metavar="N", help="Images built at once [2]."),
        click.option("--engine", type=click.Choice(["docker", "buildah"]),
                     help="What builds [what is found]."),
    ):  # fmt: skip
        function = option(function)
    return function


def pairs(values: tuple[str, ...]) -> dict[str, str]:
    """Return `key=value` words as a mapping. Raises UsageError for one that is not."""
    found = {}
    for word in values:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {word}: this is not key=value", "Write e.g. --set steps=50")
        found[key] = value
    return found


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))
