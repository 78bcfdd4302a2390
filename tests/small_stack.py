"""A small real stack for the tests of the commands: four images of a static busybox."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repository import Executable, Files, Repository, make_repository, run_git

from arr.jobs import queue
from arr.registry.client import Registry
from arr.registry.embedded import Embedded

TOP = Path(__file__).resolve().parents[1]
CLI = TOP / "CLI" / "cli.py"
IMAGES = ["base", "side", "tools", "trainer"]
SHELL = '["/busybox", "sh", "-c"'

# What the run does is told by --set mode=...
RUN = r"""
echo "arguments: $*"
echo "W&B key of ${#WANDB_API_KEY} characters"
case "$*" in
*mode=fail*) echo "about to fail"; exit 3 ;;
*mode=killed*) kill -9 $$ ;;
*mode=raise*)
    printf 'Traceback (most recent call last):\n  File "train.py", line 1\n'
    echo 'ValueError: no such digit'
    exit 1 ;;
*mode=wait*)
    trap 'echo asked to end; /busybox sleep 1; echo saved; exit 0' TERM
    echo waiting; while :; do /busybox sleep 1000 & wait; done ;;
*) echo '{"steps": 3, "loss": 0.5, "accuracy": 0.9, "chance": 0.1}' >"$ARR_RUN_DIR/result.json" ;;
esac
"""

STACK = """
[images.trainer]
folder = "Stack/trainer"

[images.tools]
folder = "Stack/tools"
smoke = ["/busybox", "true"]

[images.base]
folder = "Stack/base"

[images.side]
folder = "Stack/side"
"""


def busybox() -> str:
    found = shutil.which("busybox")
    assert found, "sudo apt-get install busybox-static"
    return found


def files(**changed: str) -> Files:
    """Return the files of the stack; `changed` replaces one by its name without folder and dot."""
    dockerfiles = {
        "base": "FROM scratch\nCOPY bin/busybox /busybox\n",
        "tools": "FROM base\nCOPY src/tools.txt /tools.txt\n",
        "trainer": "FROM tools\nCOPY src/run.sh /run.sh\n"
        'ENTRYPOINT ["/busybox", "sh", "/run.sh"]\n',
        "side": "FROM scratch\nCOPY src/side.txt /side.txt\n",
    }
    manifests = {"base": "bin/busybox", "tools": "src/tools.txt", "trainer": "src/run.sh"}
    found: dict[str, Any] = {
        "arr.toml": '[run]\nimage = "trainer"\n',
        "Stack/stack.toml": STACK,
        "bin/busybox": Executable(Path(busybox()).read_bytes()),
        "src/tools.txt": "tools\n",
        "src/side.txt": "side\n",
        "src/run.sh": changed.get("run", RUN),
    }
    for image in IMAGES:
        found[f"Stack/{image}/Dockerfile"] = changed.get(image, dockerfiles[image])
        found[f"Stack/{image}/.image-manifest"] = manifests.get(image, "src/side.txt") + "\n"
    return found


@dataclass
class Clone:
    """A clone of the small stack, and `arr` run in it as a user would."""

    root: Path
    store: Path
    home: Path
    environ: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def repository(self) -> Repository:
        return Repository(self.root)

    def env(self, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "ARR_ENGINE_NAME": "buildah",
            "ARR_ENGINE_STORE": str(self.store),
            **self.environ,
            **more,
        }

    def arr(
        self,
        *args: str,
        expect: int | None = 0,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. It never shows a traceback, whatever it is given."""
        done = subprocess.run(
            [sys.executable, str(CLI), *args],
            cwd=cwd or self.root, env=self.env(**(env or {})), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="surrogateescape", check=False, timeout=120,
        )  # fmt: skip
        shown = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        assert "Traceback" not in done.stderr, shown
        assert "bug of arr" not in done.stderr, shown
        assert expect is None or done.returncode == expect, f"exit {done.returncode}\n{shown}"
        return done

    def json(self, *args: str, expect: int = 0, **more: Any) -> Any:
        return json.loads(self.arr(*args, "--json", expect=expect, **more).stdout)

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, as a shell does; ended with the test."""
        process = subprocess.Popen(
            [sys.executable, str(CLI), *args],
            cwd=self.root, env=self.env(**env), stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0,
        )  # fmt: skip
        self.started.append(process)
        return process

    def change(self, path: str, text: str) -> None:
        """Commit a file's new content, in the work tree too."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        run_git(self.root, "add", "--", path)
        run_git(self.root, "commit", "--quiet", "--message", "change")

    def registry(self) -> Registry:
        url = self.environ.get("ARR_REGISTRY_URL") or Embedded(self.root / ".arr/registry").start()
        return Registry(url)

    def latest(self) -> dict[str, str | None]:
        with self.registry() as registry:
            return {image: registry.head(image, "latest") for image in IMAGES}

    def agent(self) -> int:
        """The process id of the agent at work."""
        return int(queue.agent_lock(self.root).read_text().split()[1])

    def close(self) -> None:
        """End all that was started here: commands, the agent with its run, the registry."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        if (self.root / ".arr" / "state.db").exists() and queue.agent_works(self.root):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.agent(), signal.SIGTERM)
            with queue.agent_lock(self.root).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
        Embedded(self.root / ".arr" / "registry").stop()


def until(process: subprocess.Popen[str], words: str) -> list[str]:
    """Read what a command prints up to the line with `words`; fail if it ends before."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if words in line:
            return lines
    assert process.stderr is not None
    raise AssertionError(f"no line with {words!r}:\n" + "\n".join(lines) + process.stderr.read())


def make_clone(root: Path, store: Path, home: Path, **changed: str) -> Clone:
    home.mkdir(exist_ok=True)
    make_repository(root, files(**changed), checkout=True)
    for name, value in (("name", "A U Thor"), ("email", "author@example.org")):
        run_git(root, "config", f"user.{name}", value)
    return Clone(root, store, home)
