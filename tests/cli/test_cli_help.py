"""Help texts: an example for each command, and one line that is the same wherever it is shown."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from arr.cli.main import COMMANDS, arr

READING = ["plan", "why", "images", "lock", "runs", "doctor"]
READING_BELOW = [("images", "history"), ("manifest", "check"), ("manifest", "show"),
                 ("registry", "status")]  # fmt: skip


def find(*names: str) -> click.Command:
    command: click.Command = arr
    for name in names:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None, names
        command = found
    return command


def all_commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in COMMANDS:
        found.append((name,))
        command = find(name)
        if isinstance(command, click.Group):
            found += [(name, below) for below in command.list_commands(click.Context(command))]
    return found


@pytest.mark.parametrize("names", all_commands(), ids=" ".join)
def test_help_has_an_example_that_is_this_command(names: tuple[str, ...]) -> None:
    result = CliRunner().invoke(arr, [*names, "--help"], prog_name="arr")
    assert result.exit_code == 0
    assert f"Usage: arr {' '.join(names)}" in result.output
    assert f"Example: arr {' '.join(names)}" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_one_line_help_is_that_of_the_table(name: str) -> None:
    assert find(name).short_help == COMMANDS[name][1]


@pytest.mark.parametrize("names", [(name,) for name in READING] + READING_BELOW, ids=" ".join)
def test_a_command_that_reads_has_json(names: tuple[str, ...]) -> None:
    assert "--json" in {option for p in find(*names).params for option in p.opts}


def test_the_list_of_commands_shows_the_table() -> None:
    output = CliRunner().invoke(arr, ["--help"], prog_name="arr", terminal_width=120).output
    for name, (_module, text) in COMMANDS.items():
        assert f"{name} " in output
        assert text in output
