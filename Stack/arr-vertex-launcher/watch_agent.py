"""The agent's processes: started in a group of their own, signalled and reaped together."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PIPE_SIZE = 1024 * 1024
_F_SETPIPE_SZ = 1031


class NotStarted(Exception):
    """The command cannot be run; `code` is what a shell would exit with."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Agent:
    """A command that is running. `code` is its exit code once it has ended and was reaped."""

    def __init__(self, pid: int, output: int) -> None:
        self.pid = pid
        self.output = output
        self.code: int | None = None

    def signal(self, number: int) -> None:
        """Send a signal to every process of the group; silently nothing if there is none left."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    @property
    def group_lives(self) -> bool:
        """Whether any process of the group runs, the agent's children included.

        One that has ended and that its parent does not reap is in the group for ever: by /proc.
        """
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return any(
            group == self.pid and state not in b"ZX" for group, state in map(_state, _processes())
        )

    def end(self, grace: float) -> None:
        """Send TERM, wait, send KILL to what is left."""
        self.signal(signal.SIGTERM)
        until = time.monotonic() + grace
        while self.code is None and time.monotonic() < until:
            time.sleep(0.05)
            self.reap()
        self.signal(signal.SIGKILL)

    def reap(self) -> None:
        """Take away whatever has ended: as PID 1 also orphans that others left."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self.pid:
                    code = os.waitstatus_to_exitcode(ended[1])
                    self.code = code if code >= 0 else 128 - code


def _processes() -> list[Path]:
    return list(Path("/proc").glob("[0-9]*/stat"))


def _state(stat: Path) -> tuple[int, bytes]:
    """Return a process's group and its state's letter; (0, b"X") once it is gone."""
    with contextlib.suppress(OSError):
        words = stat.read_bytes().rpartition(b")")[2].split()
        return int(words[2]), words[0]
    return 0, b"X"


def start(command: Sequence[str], environ: Mapping[str, str]) -> Agent:
    """Start a command, both of its streams in one pipe and no input. Raises NotStarted."""
    ours, theirs = os.pipe()
    # A bigger pipe lets the agent write on while we look at what it wrote; optional.
    with contextlib.suppress(OSError, ImportError):
        import fcntl

        fcntl.fcntl(ours, _F_SETPIPE_SZ, PIPE_SIZE)
    try:
        pid = os.posix_spawnp(
            command[0],
            list(command),
            environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, theirs, 1),
                (os.POSIX_SPAWN_DUP2, theirs, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[
                signal.SIGPIPE,
                signal.SIGXFSZ,
                signal.SIGINT,
                signal.SIGTERM,
                signal.SIGHUP,
            ],
        )
    except FileNotFoundError:
        os.close(ours)
        there = "/" in command[0] and Path(command[0]).exists()
        reason = "the interpreter in its first line is not there" if there else "command not found"
        raise NotStarted(f"{command[0]}: {reason}", 127) from None
    except (OSError, ValueError) as error:
        os.close(ours)
        reason = getattr(error, "strerror", None) or str(error)
        raise NotStarted(f"{command[0]}: cannot be executed: {reason}", 126) from None
    finally:
        os.close(theirs)
    return Agent(pid, ours)
