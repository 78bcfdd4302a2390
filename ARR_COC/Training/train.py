"""Train the model: accelerate launch ARR_COC/Training/train.py [--config FILE] [--set key=value]

The run's folder is ARR_RUN_DIR (./runs/local); a run that finds a checkpoint there goes on from it.
Exit codes: 0 done, 1 the training failed, 2 settings or run folder, 130 or 143 interrupted with a
checkpoint written.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

if __name__ == "__main__":  # run as a file: its own folder would hide the package and shadow others
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from ARR_COC import __version__
from ARR_COC.Training import atomic
from ARR_COC.Training.result import RESULT_FILE
from ARR_COC.Training.settings import DEFAULT_FILE, Resolved, SettingsError, resolve
from ARR_COC.Training.stop import Stopped, StopRequest


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Carry out one run and return its exit code; a failure of the training itself is raised.

    The main process writes the code to the file ARR_EXIT_FILE, if there is one: `accelerate launch`
    makes a 1 of every other than 0.
    """
    code = _carried_out(arguments, environment)
    if (file := environment.get("ARR_EXIT_FILE")) and environment.get("RANK", "0") == "0":
        Path(file).write_text(str(code), encoding="utf-8")
    return code


def _carried_out(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    options = _options(arguments)
    stop = StopRequest(environment)
    try:
        resolved = resolve(options.config, environment, options.assignments)
        resolved.settings.check()
        folder = Path(environment.get("ARR_RUN_DIR") or "runs/local").resolve()
        _prepare(folder, resolved, speak=environment.get("RANK", "0") == "0")
        return _train(resolved, folder, environment, stop)
    except SettingsError as error:
        return _fail(f"error: {error}", 2)
    finally:
        stop.release()


def _train(
    resolved: Resolved, folder: Path, environment: Mapping[str, str], stop: StopRequest
) -> int:
    # torch takes seconds: a mistyped setting is told before that
    from ARR_COC.Training import running
    from ARR_COC.Training.checkpoint import SaveError
    from ARR_COC.Training.trainee import Diverged
    from ARR_COC.Training.upload import UploadError

    try:
        running.run(resolved.settings, folder, environment, stop)
    except Stopped as stopped:
        return _fail(
            f"stopped: {stopped}; start again with ARR_RUN_DIR={folder} to go on",
            stopped.exit_code,
        )
    except Diverged as error:
        return _fail(f"error: the training diverged at {error}", 1)
    except (SaveError, UploadError) as error:
        return _fail(f"error: {error}", 1)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="train.py", description="Train ARR-COC: a reader, then its selector."
    )
    parser.add_argument(
        "--config", type=Path, help=f"a TOML file over the defaults ({DEFAULT_FILE})"
    )
    parser.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting; wins over the file and ARR_TRAIN_<KEY>",
    )
    return parser.parse_args(arguments)


def _prepare(folder: Path, resolved: Resolved, speak: bool) -> None:
    """Make the run folder, and let nothing of an earlier attempt look like this one's result."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not speak:  # another process of the same run does the rest
            return
        atomic.write_json(folder / "settings.json", resolved.settings.as_dict())
        (folder / RESULT_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(
            f"ARR_RUN_DIR: cannot write to {folder} ({error.strerror}); name another folder"
        ) from error
    print(f"ARR-COC {__version__}, run folder {folder}, settings:", *resolved.lines(), sep="\n")
    sys.stdout.flush()


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], os.environ))
