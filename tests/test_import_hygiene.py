"""What a command imports, and that the arrows between the rooms go down."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_stack import CLI, TOP

HEAVY = {
    "rich", "httpx2", "textual", "google", "asyncio", "wandb", "torch", "msgspec", "sqlite3",
    "concurrent.futures", "tomllib", "subprocess", "ssl", "email",
}  # fmt: skip


def modules_of(*args: str) -> set[str]:
    """The modules that are loaded when a command has ended."""
    program = (
        "import atexit, runpy, sys\n"
        "atexit.register(lambda: print('\\n'.join(sys.modules), file=sys.stderr))\n"
        f"sys.argv = ['arr', *{args!r}]\n"
        f"runpy.run_path({str(CLI)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_help_imports_nothing_heavy() -> None:
    modules = modules_of("--help")
    assert modules & HEAVY == set()
    ours = {name for name in modules if name == "arr" or name.startswith("arr.")}
    assert ours <= {"arr", "arr.cli", "arr.cli.main", "arr.cli.output", "arr.errors"}
    assert len(modules) < 160  # click and what it needs


@pytest.mark.parametrize("command", ["plan", "launch", "images"])
def test_help_of_a_command_imports_no_renderer(command: str) -> None:
    assert modules_of(command, "--help") & {"rich", "textual", "google", "wandb", "torch"} == set()


def test_import_contracts() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
