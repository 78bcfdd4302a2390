"""The watch's settings: from its command line, else from the environment, else as below."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# name, default, what it is; --idle-timeout is ARR_IDLE_TIMEOUT in the environment. 0 is never.
SETTINGS = (
    ("idle-timeout", 1800.0, "end the agent, exit code 0, after so long without any run"),
    ("timeout", 0.0, "end the agent, exit code 124, after so long in all"),
    ("heartbeat", 300.0, "say so often that all is well"),
    ("grace", 30.0, "time between TERM and KILL for an agent that is to end; 0 is no time"),
)
SILENCE = 1200.0
"""Default for an agent that says every five minutes how it is, as W&B's does: four times unsaid."""
_SILENCE_HELP = (
    f"end the agent, exit code 124, after so long without any output [{SILENCE:g} once it has "
    "printed a status line as W&B's agent does, otherwise 0]"
)
EPILOG = """Seconds, 0 for never. Each can be set in the environment as well: ARR_IDLE_TIMEOUT and
so on. Exit code: the agent's own (128+n if a signal ended it); on a fatal fault that of its class;
0 when idle; 124 on a time-out; 2, 126 or 127 if the agent was not started."""


@dataclass(frozen=True, slots=True)
class Options:
    """Seconds; 0 is never. `silence_timeout` None: SILENCE, for an agent that speaks regularly."""

    command: tuple[str, ...]
    table: Path
    idle_timeout: float
    timeout: float
    heartbeat: float
    grace: float
    silence_timeout: float | None


def parse(argv: Sequence[str], environ: Mapping[str, str], folder: Path) -> Options:
    """Return the options; the command is what follows `--`. Exits with code 2 if they are wrong."""
    own, command = list(argv), []
    if "--" in own:
        at = own.index("--")
        own, command = own[:at], own[at + 1 :]
    parser = argparse.ArgumentParser(
        prog="watch.py",
        usage="%(prog)s [OPTION]... -- COMMAND [ARGUMENT]...",
        description="Run a launch agent, pass its output on, and end it on a fatal fault.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    table = environ.get("ARR_FAULTS") or folder / "faults.toml"
    parser.add_argument("--faults", metavar="FILE", default=table, help="the table [faults.toml]")
    for name, default, what in SETTINGS:
        parser.add_argument(f"--{name}", metavar="S", help=f"{what} [{default:g}]")
    parser.add_argument("--silence-timeout", metavar="S", help=_SILENCE_HELP)
    given = vars(parser.parse_args(own))
    if not command:
        parser.error("no command given")

    def seconds(name: str, default: float | None) -> float | None:
        variable = "ARR_" + name.upper().replace("-", "_")
        words = given[name.replace("-", "_")]
        where = f"--{name}" if words is not None else variable
        words = words if words is not None else environ.get(variable)
        if not words:
            return default
        try:
            value = float(words)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            parser.error(f"{where}: {words!r} is not a number of seconds, 0 or more")
        return value

    found = {name.replace("-", "_"): seconds(name, default) or 0.0 for name, default, _ in SETTINGS}
    silence = seconds("silence-timeout", None)
    return Options(tuple(command), Path(given["faults"]), silence_timeout=silence, **found)
