"""The local agent under the launcher's own watch: what is told, and who may be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from repository import run_git
from small_stack import TOP, Clone, until

from arr.errors import ConfigError
from arr.jobs import watched
from arr.jobs.fault_table import FOLDER
from arr.stack.git import commit_at


@pytest.fixture
def clone(built: Clone) -> Clone:
    """A clone with all of its images, and with the launcher in its stack."""
    folder = built.root / FOLDER
    shutil.copytree(TOP / FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    run_git(built.root, "add", "--", FOLDER)
    run_git(built.root, "commit", "--quiet", "--message", "the launcher")
    return built


def agent_log(clone: Clone) -> list[str]:
    return (clone.root / ".arr" / "agent.log").read_text().splitlines()


def report(clone: Clone) -> dict[str, Any]:
    """The watch's last line. It comes after the run's end, of which the launch tells."""
    deadline = time.monotonic() + 20
    while not (lines := agent_log(clone)) or not lines[-1].startswith('{"watch": 1'):
        assert time.monotonic() < deadline, lines
        time.sleep(0.05)
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def watch_of(agent: int) -> int:
    """The process id of the watch: the agent's parent."""
    return int(Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[1])


def waiting(clone: Clone) -> int:
    """Start a run that waits; return its agent, once it is under way."""
    clone.arr("launch", "--detach", "--set", "mode=wait")
    until(clone.start("logs", "last", "-f"), "waiting")
    return clone.agent()


def status(clone: Clone) -> str:
    found: str = clone.json("runs")["runs"][0]["status"]
    return found


def test_a_launch_runs_its_agent_under_the_watch(clone: Clone) -> None:
    clone.arr("launch")
    told = report(clone)
    assert {key: told[key] for key in ("end", "exit_code", "taken", "succeeded", "failed")} == {
        "end": "agent", "exit_code": 0, "taken": 1, "succeeded": 1, "failed": 0,
    }  # fmt: skip
    (run,) = clone.json("runs")["runs"]
    assert agent_log(clone)[:2] == [
        f"arr: run {run['id']} taken",
        f"arr: run {run['id']} succeeded",
    ]


def test_a_failed_run_has_a_class_and_the_agent_goes_on_to_the_next(clone: Clone) -> None:
    waiting(clone)
    clone.arr("launch", "--detach", "--set", "mode=raise")
    clone.arr("launch", "--detach")
    clone.arr("cancel", clone.json("runs")["runs"][2]["id"])
    clone.arr("logs", "last", "-f")
    runs = clone.json("runs")["runs"]
    assert [run["status"] for run in runs] == ["succeeded", "failed", "cancelled"]
    fault, advice = runs[1]["fault"].split("\n")
    assert fault == "python_exception: ValueError: no such digit"
    assert "traceback" in advice
    log = "\n".join(agent_log(clone))
    assert f"arr: run {runs[1]['id']} failed: {fault}" in log
    assert "arr-watch: a run failed: python_exception: " in log
    assert "FATAL" not in log


def test_a_launch_shows_the_class_and_what_to_do(clone: Clone) -> None:
    done = clone.arr("launch", "--set", "mode=raise", expect=1)
    assert "fault       python_exception: ValueError: no such digit\n" in done.stdout
    assert "              Read the traceback" in done.stdout
    told = report(clone)
    assert (told["class"], told["failed"], told["exit_code"]) == ("python_exception", 1, 0)


def test_ctrl_c_cancels_the_run(clone: Clone) -> None:
    process = clone.start("launch", "--set", "mode=wait")
    until(process, "waiting")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert (process.returncode, status(clone)) == (130, "cancelled")
    assert report(clone)["failed"] == 1


def test_term_to_the_watch_lets_the_run_save_and_cancels_it(clone: Clone) -> None:
    os.kill(watch_of(waiting(clone)), signal.SIGTERM)
    told = report(clone)
    assert (told["end"], told["running"], told["exit_code"]) == ("signal", 0, 0)
    assert status(clone) == "cancelled"
    assert clone.arr("logs", "last").stdout.endswith("asked to end\nsaved\n")


def test_an_agent_that_is_killed_leaves_a_lost_run_and_the_watch_says_so(clone: Clone) -> None:
    os.kill(waiting(clone), signal.SIGKILL)
    told = report(clone)
    assert (told["exit_code"], told["running"]) == (137, 1)
    assert status(clone) == "lost"
    clone.arr("launch")


def test_a_watch_that_is_killed_takes_no_run_with_it(clone: Clone) -> None:
    agent = waiting(clone)
    os.kill(watch_of(agent), signal.SIGKILL)
    clone.arr("launch", "--detach")
    assert clone.json("runs")["runs"][1]["status"] == "running"
    clone.arr("cancel", clone.json("runs")["runs"][1]["id"])
    clone.arr("logs", "last", "-f")
    assert [run["status"] for run in clone.json("runs")["runs"]] == ["succeeded", "cancelled"]


def test_the_users_own_times_of_a_watch_do_not_reach_the_local_one(clone: Clone) -> None:
    clone.arr("launch", env={"ARR_IDLE_TIMEOUT": "0.01", "ARR_GRACE": "soon", "ARR_FAULTS": "no"})
    assert report(clone)["end"] == "agent"


def test_a_broken_table_stops_the_launch_before_anything_is_queued(clone: Clone) -> None:
    clone.change(f"{FOLDER}/faults.toml", "[quota]\n")
    done = clone.arr("launch", expect=2)
    assert f"{FOLDER}/faults.toml: " in done.stderr
    assert ".arr" not in done.stderr
    assert clone.json("runs") == {"runs": []}


def test_the_committed_launcher_is_used(clone: Clone) -> None:
    (clone.root / FOLDER / "faults.toml").write_text("[quota]\n")
    clone.arr("launch")
    assert report(clone)["succeeded"] == 1


def test_it_is_written_once_for_each_content(clone: Clone, tmp_path: Path) -> None:
    commit = commit_at(clone.root)
    found = watched.launcher(commit, tmp_path / "there")
    assert found is not None
    assert os.access(found / watched.WRAPPER, os.X_OK)
    assert watched.launcher(commit, tmp_path / "there") == found
    clone.change("src/side.txt", "another commit\n")
    assert watched.launcher(commit_at(clone.root), tmp_path / "there") == found
    clone.change(f"{FOLDER}/README.md", "changed\n")
    assert watched.launcher(commit_at(clone.root), tmp_path / "there") != found
    assert len(list((tmp_path / "there").iterdir())) == 2


def test_a_stack_without_a_launcher_has_no_watch(built: Clone, tmp_path: Path) -> None:
    assert watched.launcher(commit_at(built.root), tmp_path / "there") is None
    assert not (tmp_path / "there").exists()


def test_code_that_cannot_be_imported_is_a_mistake_of_the_commit(
    new_clone: Callable[..., Clone], tmp_path: Path
) -> None:
    clone = new_clone()
    for name, text in {watched.WRAPPER: "", "faults.py": "import no_such_module\n"}.items():
        clone.change(f"{FOLDER}/{name}", text)
    with pytest.raises(ConfigError, match="no_such_module"):
        watched.launcher(commit_at(clone.root), tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []
