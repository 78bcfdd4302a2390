"""The entry of `arr`: finds the command, runs it, and turns errors into words and exit codes."""

from __future__ import annotations

import errno
import gc
import importlib
import signal
import sys
from collections.abc import Sequence
from typing import Any

import click

from arr import __version__
from arr.cli.output import drop_output
from arr.errors import ArrError, Interrupted

# name -> (module, one-line help): a table, so that --help imports no command
COMMANDS = {
    "launch": ("launch", "Take the commit to a running training job: plan, build, run."),
    "plan": ("plan", "Show which images are stale, and why. Builds nothing."),
    "why": ("why", "Show what differs from the last built image, file by file."),
    "build": ("build", "Build the images that are stale, parents first, and push them."),
    "images": ("images", "List what the registry holds; the history of an image."),
    "manifest": ("manifest", "Check the manifests against the Dockerfiles; show what they select."),
    "lock": ("lock", "Show what the bases are pinned to; pin them anew."),
    "runs": ("runs", "List the training runs."),
    "logs": ("logs", "Show the output of a run, or follow it."),
    "cancel": ("cancel", "End a run."),
    "faults": ("faults", "Say what went wrong in a log, and what to do."),
    "doctor": ("doctor", "Show what this machine has and lacks, and how to mend it."),
    "registry": ("registry", "Start, stop or look at the embedded registry."),
}


# What a disk or its permissions do, wherever it happens: no bug of ours.
_MACHINE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR,
}  # fmt: skip


class LazyGroup(click.Group):
    """A group whose commands are imported when they are named."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # caught here: click would make it exit code 1
            drop_output()
            return 0

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"arr.cli.commands.{COMMANDS[cmd_name][0]}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_module, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name not in COMMANDS and not name.startswith("-"):
            import difflib

            close = difflib.get_close_matches(name, COMMANDS, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"there is no command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: arr plan && arr launch",
)
@click.version_option(__version__, prog_name="arr")
def arr() -> None:
    """From a commit to a running training job: builds only the images that are stale."""


def main(args: Sequence[str] | None = None) -> None:
    """Run `arr` and end the process with its exit code."""
    gc.set_threshold(100_000)  # loading a command makes many objects, and no garbage
    code = run(args)
    gc.freeze()  # nor is there any to look for now: the process gives back everything
    sys.exit(code)


def run(args: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, _terminated)
    try:
        code: Any = arr.main(args=args, prog_name="arr", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ArrError as error:
        return _tell(error)
    except (KeyboardInterrupt, click.Abort):
        return _tell(Interrupted("interrupted"))
    except OSError as error:
        return _tell(_of_machine(error)) if error.errno in _MACHINE else _our_fault()
    except Exception:  # noqa: BLE001 - a bug of ours: told in full, kept for a report
        return _our_fault()
    return code if isinstance(code, int) else 0


def _terminated(number: int, _frame: object) -> None:
    raise Interrupted(f"ended by {signal.Signals(number).name}")


def _of_machine(error: OSError) -> ArrError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "Make room, then run it again." if full else "Make it usable, then run it again."
    return ArrError(f"{error.filename or 'a file'}: {error.strerror}", hint)


def _tell(error: ArrError) -> int:
    click.secho(f"error: {error.message}", fg="red", err=True)
    if error.hint:
        click.echo(f"  {error.hint}".replace("\n", "\n  "), err=True)
    return error.exit_code


def _our_fault() -> int:
    import platform
    import tempfile
    import traceback

    text = traceback.format_exc()
    click.echo(text, err=True)
    with tempfile.NamedTemporaryFile(
        "w", prefix="arr-error-", suffix=".log", delete=False, encoding="utf-8"
    ) as file:
        file.write(
            f"arr {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        )
        file.write(f"{sys.argv}\n\n{text}")
    click.secho(
        f"error: this is a bug of arr; a report for it is in {file.name}", fg="red", err=True
    )
    return 1
