"""Why a run failed, in a line that names the cause and not the machinery around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from arr.jobs import faults

TRACEBACK = ["Traceback (most recent call last):", '  File "train.py", line 3, in <module>',
             "    main()"]  # fmt: skip
BUILDAH = ["subprocess exited with status 1", "subprocess exited with status 1",
           "Error: exit status 1"]  # fmt: skip
ACCELERATE = [*TRACEBACK, "subprocess.CalledProcessError: Command '['python']' returned non-zero "
              "exit status 1."]  # fmt: skip


@pytest.mark.parametrize(("code", "tail", "fault"), [
    (0, ["ValueError: was caught"], ""),
    (1, [*TRACEBACK, "ValueError: no such digit", *BUILDAH], "ValueError: no such digit"),
    (1, [*TRACEBACK, "torch.cuda.OutOfMemoryError: CUDA out of memory.", *ACCELERATE, *BUILDAH],
     "torch.cuda.OutOfMemoryError: CUDA out of memory."),
    (1, ["[rank0]: KeyError: 'steps'"], "KeyError: 'steps'"),
    (1, [*TRACEBACK, "KeyboardInterrupt"], "KeyboardInterrupt"),
    (2, ["train.py: error: unrecognized arguments: --x", *BUILDAH],
     "exit code 2: train.py: error: unrecognized arguments: --x"),
    (3, [], "exit code 3"),
    (3, ["", "  "], "exit code 3"),
    (143, ["the last words"], "killed by SIGTERM: the last words"),
    (139, [], "killed by SIGSEGV"),
    (137, ["any"], "killed by SIGKILL: by someone, or by a memory limit"),
    (1, ["Killed", *BUILDAH], "killed by SIGKILL: by someone, or by a memory limit"),
])  # fmt: skip
def test_in_words(code: int, tail: list[str], fault: str) -> None:
    assert faults.describe(code, tail, 4, 4) == fault


def test_the_kernel_says_when_memory_ran_out() -> None:
    assert faults.describe(137, [], 4, 5).startswith("out of memory")
    assert faults.describe(1, ["ValueError: x"], 4, 5) == "ValueError: x"  # another was killed
    assert faults.describe(137, [], None, None).startswith("killed by SIGKILL")


def test_the_kernels_count(tmp_path: Path) -> None:
    file = tmp_path / "vmstat"
    assert faults.oom_kills(file) is None
    file.write_text("pgfault 9\noom_kill 12\noom_kill_other 3\n")
    assert faults.oom_kills(file) == 12
    file.write_text("pgfault 9\n")
    assert faults.oom_kills(file) is None
