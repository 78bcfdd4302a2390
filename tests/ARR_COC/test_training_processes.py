"""A run as a process of its own: killed, told to stop, and left by its launcher."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from training_runs import ROOT, assignments, points, result

LONG = ("steps=40", "save_every=3")
ENDLESS = "steps=1000000"
SCRIPT = "ARR_COC/Training/train.py"
PLAIN = (sys.executable, SCRIPT)
LAUNCHED = (sys.executable, "-m", "accelerate.commands.launch", "--cpu", SCRIPT)


@contextmanager
def started(
    command: Sequence[str], environment: dict[str, str], *more: str
) -> Iterator[subprocess.Popen[str]]:
    """Start a run and hand it over once it has said that its first checkpoint is written."""
    process = subprocess.Popen(
        [*command, *assignments(*LONG, *more)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process:
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("checkpoint "):
                break
        else:
            raise AssertionError(f"the run ended before its first checkpoint:\n{said}")
        yield process


def test_a_run_that_is_killed_goes_on_to_the_same_end(
    environment: dict[str, str], run_here: Callable[..., Path], tmp_path: Path
) -> None:
    with started(PLAIN, environment) as process:
        process.kill()
    assert process.returncode == -signal.SIGKILL
    killed = Path(environment["ARR_RUN_DIR"])
    assert not (killed / "result.json").exists()
    run_here(*LONG)
    assert result(killed)["resumed_from"].startswith("checkpoints/step-")
    whole = run_here(*LONG, folder=tmp_path / "whole")
    assert points(killed) == points(whole)
    same = "checkpoints/step-00000040/model.safetensors"
    assert (killed / same).read_bytes() == (whole / same).read_bytes()
    assert result(killed)["eval_loss"] == result(whole)["eval_loss"]


def test_sigterm_writes_a_checkpoint_and_says_so(environment: dict[str, str]) -> None:
    with started(PLAIN, environment, ENDLESS) as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)  # launchers pass it on a second time
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    newest = newest_checkpoint(environment)
    assert f"stopped: SIGTERM received; {newest} is written" in said
    assert "Traceback" not in said
    assert not (Path(environment["ARR_RUN_DIR"]) / "result.json").exists()


def test_a_run_whose_launcher_is_ended_stops_with_a_checkpoint_too(
    environment: dict[str, str],
) -> None:
    with started(LAUNCHED, environment, ENDLESS) as launcher:
        launcher.send_signal(signal.SIGTERM)  # accelerate dies of it and tells nobody
        said, _ = launcher.communicate(timeout=60)  # the trainer holds the pipe until it ends
    assert f"stopped: the launcher has ended; {newest_checkpoint(environment)} is written" in said


def newest_checkpoint(environment: dict[str, str]) -> str:
    folder = Path(environment["ARR_RUN_DIR"])
    return str(max(folder.glob("checkpoints/step-*")).relative_to(folder))
