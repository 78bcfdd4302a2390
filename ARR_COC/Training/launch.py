"""Start the trainer, one process a GPU: python -m ARR_COC.Training.launch [--config F] [--set K=V]

Words before a `--` go to accelerate launch, which starts the processes if there are several: e.g.
--config_file ARR_COC/Training/accelerate/fsdp.yaml --. SIGTERM and SIGINT reach the trainers, which
save and end; the exit code is theirs (128 + the number of a signal that ended them), which
accelerate alone would make a 1. Fit to be process 1 of a container.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

TRAINER = Path(__file__).with_name("train.py")
EXIT_FILE = "ARR_EXIT_FILE"
"""The environment's name of the file to which the main trainer writes its exit code."""

_PAUSE = 0.1  # seconds
_COUNT = "import torch; print(torch.cuda.device_count())"


def command(arguments: Sequence[str], gpus: int) -> list[str]:
    """Return what to start: the trainer itself, or accelerate for several processes."""
    words = list(arguments)
    split = words.index("--") if "--" in words else 0
    launcher, rest = words[:split], words[split + ("--" in words) :]
    if not launcher and gpus < 2:
        return [sys.executable, str(TRAINER), *rest]
    usual = ["--multi_gpu", f"--num_processes={gpus}", "--num_machines=1", "--mixed_precision=no"]
    started = [sys.executable, "-m", "accelerate.commands.launch"]
    return [*started, *(launcher or [*usual, "--dynamo_backend=no"]), str(TRAINER), *rest]


def visible_gpus() -> int:
    """Return how many GPUs the trainer will see; torch is asked only where there may be several."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = len(list(Path("/dev").glob("nvidia[0-9]*")))
    if devices < 2 or (named is not None and len(named.split(",")) < 2):
        return min(devices, 1)
    return int(
        subprocess.run([sys.executable, "-c", _COUNT], capture_output=True, check=True).stdout
    )


def main(arguments: Sequence[str]) -> int:
    """Start the trainer, pass signals on to it, and return its exit code."""
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: told.append(number))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "exit-code"
        child = subprocess.Popen(
            command(arguments, visible_gpus()),
            env={**os.environ, EXIT_FILE: str(file)},
            start_new_session=True,  # Ctrl-C in a terminal comes once, from here
        )
        code = _waited(child, told)
        return int(file.read_text()) if file.exists() and file.read_text() else code


def _waited(child: subprocess.Popen[bytes], told: list[int]) -> int:
    """Return the child's exit code once all of its group has ended, or a minute after itself.

    Meanwhile pass signals on to the group: accelerate tells a single trainer nothing, and dies.
    """
    code, patience = None, 60.0
    while code is None or (_alive(child.pid) and patience > 0):
        while told:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, told.pop(0))
        if code is None:
            code = child.poll()
        else:
            patience -= _PAUSE
            with suppress(ChildProcessError):  # orphans, which process 1 inherits
                os.waitpid(-1, os.WNOHANG)
        time.sleep(_PAUSE)
    return code if code >= 0 else 128 - code


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
