"""`arr faults explain`, `arr faults list`"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

import click

from arr.cli import options
from arr.cli.render import faults as render
from arr.errors import UsageError
from arr.jobs.fault_table import Fault, Kind, load
from arr.project import open_project

PIECE = 16 * 2**20
"""Bytes of a line that are taken at once: a longer one counts as several, and memory is bounded."""
NONE: dict[str, object] = {"class": "none", "fatal": False, "evidence": [], "advice": ""}


@click.group(short_help="Say what went wrong in a log, and what to do.",
             epilog="Example: arr faults explain agent.log")  # fmt: skip
def command() -> None:
    """The fault classes: what the launcher's watch ends an agent for."""


@command.command("explain", epilog="Example: arr faults explain agent.log")
@click.argument("file", metavar="FILE|-")
@click.option("--each-line", is_flag=True,
              help="Judge every line by itself; print a JSON object a line.")  # fmt: skip
@options.as_json
def explain(file: str, each_line: bool, as_json: bool) -> int:
    """Classify a log: the fault that decided, its evidence, and what to do.

    Exit code 0 whether a fault was found or not, 2 if the file cannot be read.
    """
    table = load(open_project({}).root)
    lines = _lines(file)
    if each_line:
        for line in lines:
            click.echo(json.dumps(_line_json(table.in_line(line))))
        return 0
    found = table.in_log(lines)
    fault = next((fault for fault in found if fault.fatal), None)
    if as_json:
        options.print_json(_json(fault) if fault else NONE)
    elif fault:
        click.echo(render.fault_text(fault))
    else:
        click.echo(render.nothing_text(len(found)))
    return 0


@command.command("list", epilog="Example: arr faults list --json")
@options.as_json
def list_(as_json: bool) -> int:
    """Show the fault classes: what they mean and how the launcher answers to them."""
    table = load(open_project({}).root)
    if as_json:
        options.print_json({"classes": [_kind_json(kind) for kind in table.kinds.values()]})
        return 0
    click.echo(render.overview(table))
    return 0


def _lines(file: str) -> Iterator[str]:
    """Yield the lines of a log as they come. Raises UsageError where it cannot be read."""
    try:
        with Path(file).open("rb") if file != "-" else _standard_input() as raw:
            while line := raw.readline(PIECE):
                yield line.decode("utf-8", "replace").rstrip("\r\n")
    except OSError as error:
        name = "standard input" if file == "-" else file
        hint = "Give the file of a log, or - for standard input."
        raise UsageError(f"{name}: {error.strerror}", hint) from error


def _standard_input() -> AbstractContextManager[BinaryIO]:
    if sys.stdin is None:
        raise UsageError("standard input is closed", "Give the file of a log.")
    return nullcontext(sys.stdin.buffer)


def _json(fault: Fault) -> dict[str, object]:
    return {
        "class": fault.kind.name,
        "fatal": fault.fatal,
        "evidence": list(fault.evidence),
        "advice": fault.advice,
        "line": fault.line,
        **_answer(fault.kind),
    }


def _line_json(fault: Fault | None) -> dict[str, object]:
    """`speaks_of`: what a line names that has nothing wrong itself: a retry, an old failure."""
    if fault is None:
        return NONE
    if not fault.fatal:
        return {**NONE, "speaks_of": fault.kind.name}
    return {
        "class": fault.kind.name,
        "fatal": True,
        "evidence": list(fault.evidence),
        "advice": fault.advice,
    }


def _kind_json(kind: Kind) -> dict[str, object]:
    return {
        "class": kind.name,
        "meaning": kind.meaning,
        "advice": kind.advice,
        **_answer(kind),
        "links": dict(kind.links),
    }


def _answer(kind: Kind) -> dict[str, object]:
    return {
        "retry": kind.retry,
        "block": kind.block,
        "block_seconds": kind.block_seconds,
        "exit_code": kind.exit_code,
    }
