"""What the commands have in common: how much is kept, where, and the device. Imports no torch."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NoReturn

_HUB = re.compile(r"[\w.-]+/[\w.-]+")


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """End the command with exit code 2."""
        self.exit(2, f"error: {message} (--help lists all options)\n")


def ratio(text: str) -> float:
    """Return a share in (0, 1] that was given as text."""
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"{text} is not in (0, 1]: it is the share of the image's tokens to keep, 0.125 say"
        )
    return value


def spread(text: str) -> float:
    """Return a share in [0, 1) that was given as text."""
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(
            f"{text} is not in [0, 1): it is the share of the kept tokens to spread evenly"
        )
    return value


def whole(text: str) -> int:
    """Return a whole number from 1 up that was given as text."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 up")
    return int(text)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add --gestalt, --where and --device."""
    parser.add_argument(
        "--gestalt",
        type=spread,
        default=0.0,
        metavar="SHARE",
        help="share of the kept tokens that is spread evenly over the image (default: 0)",
    )
    parser.add_argument(
        "--where",
        choices=("before", "after"),
        default="before",
        help="drop the other tokens before or after the vision tower (default: before)",
    )
    parser.add_argument(
        "--device", help="cpu, cuda or cuda:N (default: a GPU if there is one, else cpu)"
    )


def checkpoint(text: str) -> str:
    """Return the name of a checkpoint that can be there: a path, an address or a name of the hub.

    What cannot be on the hub is not looked for there, which takes a minute where there is none.
    """
    path = Path(text)
    hub = _HUB.fullmatch(text) is not None and not path.parent.exists()
    if not (path.exists() or "://" in text or hub):
        raise argparse.ArgumentTypeError(
            f"{text}: there is no such folder; give a checkpoint's folder, a run's or an address"
        )
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
