"""Standard output when nobody reads it any more (`arr plan | head`)."""

from __future__ import annotations

import os
import sys


def drop_output() -> None:
    """Let all further output vanish; what could not be written is forgotten."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
