"""Why a run failed, in a line that names the cause and not the machinery around it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_stack import TOP

from arr.jobs import fault_table, faults
from arr.jobs.fault_table import FaultTable


@pytest.fixture(scope="module")
def table() -> FaultTable:
    return fault_table.load(TOP)


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


@pytest.mark.parametrize(("tail", "fault"), [
    ([*TRACEBACK, "ValueError: no such digit", *BUILDAH],
     "python_exception: ValueError: no such digit"),
    ([*TRACEBACK, "torch.cuda.OutOfMemoryError: CUDA out of memory.", *ACCELERATE, *BUILDAH],
     "oom: torch.cuda.OutOfMemoryError: CUDA out of memory."),
    ([*TRACEBACK, "KeyError: 'steps'", *ACCELERATE], "python_exception: KeyError: 'steps'"),
    (ACCELERATE, f"python_exception: {ACCELERATE[-1]}"),
    (["ERROR 404 Not Found: digits.zip", "going on with what is there", *TRACEBACK,
      "ValueError: no such digit", *BUILDAH], "python_exception: ValueError: no such digit"),
    ([*TRACEBACK, *(f"  at {n}" for n in range(300)), "ValueError: far below"],
     "python_exception: ValueError: far below"),
    (["WARNING 503 Service Unavailable, retrying in 5 s", "about to fail"],
     "exit code 1: about to fail"),
    ([*TRACEBACK, "RuntimeError: CUDA error: out of memory", "CUDA kernel errors might be "
      "reported at some other API call.", "Compile with `TORCH_USE_CUDA_DSA`.", *BUILDAH],
     "oom: RuntimeError: CUDA error: out of memory"),
    (["\x1b[31mValueError: no\x1b[0m \x1b]0;title\x07such\x00 digit"],
     "python_exception: ValueError: no such digit"),
    (["x" * 100_000], f"exit code 1: {'x' * faults.LONGEST}"),
    ([], "exit code 1"),
])  # fmt: skip
def test_the_stacks_table_gives_it_a_class(table: FaultTable, tail: list[str], fault: str) -> None:
    assert faults.describe(1, tail, 4, 4, table).partition("\n")[0] == fault


def test_with_a_class_comes_what_to_do(table: FaultTable) -> None:
    tail = ["RuntimeError: CUDA out of memory. Tried to allocate 2 GiB"]
    _, advice = faults.describe(1, tail, 4, 4, table).split("\n")
    assert advice == " ".join(table.kinds["oom"].advice.split())
    assert faults.describe(0, tail, 4, 4, table) == ""


def test_the_kernels_word_goes_before_the_tables(table: FaultTable) -> None:
    tail = [*TRACEBACK, "ConnectionError: the other worker is gone", "Killed"]
    assert faults.describe(137, tail, 4, 5, table).startswith("out of memory")
    assert faults.describe(137, tail, 4, 4, table).startswith("killed by SIGKILL")


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
