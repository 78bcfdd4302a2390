"""The whole line with real parts: from a commit to a run's result, and what goes wrong."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest
from small_stack import IMAGES, Clone, until

from arr.registry.labels import FINGERPRINT_LABEL

WAITING = (
    'FROM base\nRUN ["/busybox", "sh", "-c", "echo the build waits; exec /busybox sleep 1000"]\n'
)
BRIEFLY = """FROM base
COPY src/tools.txt /
RUN ["/busybox", "sh", "-c", "echo the build waits; /busybox sleep 1"]
"""


def recorded(clone: Clone) -> list[str]:
    """The kinds of events that the clone's history keeps, in order."""
    with contextlib.closing(sqlite3.connect(clone.root / ".arr" / "state.db")) as database:
        rows = database.execute("select body from events order by id").fetchall()
    return [json.loads(body)["event"] for (body,) in rows]


def children_of(group: int) -> list[int]:
    """The processes below one process, its grandchildren included; dead ones do not count."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    parents[int(folder.name)] = int(fields[1])
    found = [group]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found[1:]


def wait_for_end(processes: list[int]) -> None:
    """Return when all have ended; fail after ten seconds."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(process)
            try:
                assert select.select([handle], [], [], 10)[0], f"process {process} still lives"
            finally:
                os.close(handle)


def test_the_run_has_the_key_to_wandb_and_no_file_of_the_clone_does(built: Clone) -> None:
    key = "k3y" * 14
    built.environ["WANDB_API_KEY"] = key
    assert "W&B key of 42 characters" in built.arr("launch").stdout
    for file in (built.root / ".arr").rglob("*"):
        assert not file.is_file() or key.encode() not in file.read_bytes(), file


@pytest.fixture
def stuck(built: Clone) -> tuple[Clone, subprocess.Popen[str]]:
    """A launch in the middle of a build that waits for ever."""
    built.change("Stack/tools/Dockerfile", WAITING)
    built.change("Stack/tools/.image-manifest", "Stack/tools/Dockerfile\n")
    built.change("src/side.txt", "changed\n")
    process = built.start("launch", "--progress", "json")
    seen = until(process, "the build waits")
    if not any('"image-done"' in line for line in seen):
        until(process, '"image-done"')  # side: it does not wait
    return built, process


def events(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_from_nothing_to_a_result_and_again(clone: Clone, tmp_path: Path) -> None:
    clone.store = tmp_path / "store"  # in which nothing of another test is
    first = clone.arr("launch", "--set", "steps=4", "--set", "name=two words").stdout
    for image in IMAGES:
        assert f"{image}: done in" in first
    assert ":latest moved for base, side, tools, trainer" in first
    assert "arguments: --set steps=4 --set name=two words" in first
    assert "accuracy    90.0% (chance 10.0%)" in first
    assert "loss        0.5000" in first

    second = clone.arr("launch", "--progress", "json")
    kinds = [event["event"] for event in events(second.stdout)]
    assert "image-step" not in kinds
    assert "aliases-moved" not in kinds
    assert kinds[0] == "planned"
    assert kinds[-1] == "run-finished"
    end = events(second.stdout)[-1]
    assert (end["status"], end["exit_code"], end["fault"]) == ("succeeded", 0, "")
    assert end["result"] == {"steps": 3, "loss": 0.5, "accuracy": 0.9, "chance": 0.1}
    assert second.stderr == ""

    runs = clone.json("runs")["runs"]
    assert [run["settings"] for run in runs] == [{}, {"steps": "4", "name": "two words"}]
    assert {run["status"] for run in runs} == {"succeeded"}
    assert recorded(clone)[-3:] == ["run-queued", "run-started", "run-finished"]
    assert recorded(clone).count("image-done") == len(IMAGES)
    assert runs[0]["result"] == end["result"]
    assert set(clone.latest().values()) == {r["digest"] for r in clone.json("images")["images"]}
    assert "arguments: \n" in clone.arr("logs", "last").stdout
    assert clone.arr("logs", runs[0]["id"], "-f").stdout.count("succeeded") == 1
    assert "90.0%" in clone.arr("runs").stdout
    over = clone.arr("cancel", "last")
    assert "is over already: succeeded" in over.stdout


def test_a_dry_run_builds_and_starts_nothing(clone: Clone) -> None:
    done = clone.arr("launch", "--dry-run")
    assert "never built" in done.stdout
    assert not (clone.root / ".arr" / "registry").exists()
    assert clone.json("runs") == {"runs": []}


@pytest.mark.parametrize(("mode", "code", "fault"), [
    ("fail", 3, "exit code 3: about to fail"),
    ("killed", 137, "killed by SIGKILL: by someone, or by a memory limit"),
    ("raise", 1, "ValueError: no such digit"),
])  # fmt: skip
def test_a_failed_run_gives_its_own_exit_code(
    built: Clone, mode: str, code: int, fault: str
) -> None:
    done = built.arr("launch", "--set", f"mode={mode}", expect=code)
    assert f"fault       {fault}" in done.stdout
    assert "succeeded" not in done.stdout
    (run,) = built.json("runs")["runs"]
    assert (run["status"], run["exit_code"], run["fault"]) == ("failed", code, fault)
    assert run["result"] is None


def test_dirty_inputs_are_refused_or_left_out(built: Clone) -> None:
    built.change("src/tools.txt", "committed\n")
    (built.root / "src" / "tools.txt").write_text("not committed\n")
    done = built.arr("launch", expect=2)
    assert "  src/tools.txt (uncommitted)" in done.stderr
    assert "--allow-dirty" in done.stderr
    assert built.json("runs") == {"runs": []}
    built.arr("build", "tools", "--allow-dirty")
    (row, *_old) = [r for r in built.json("images")["images"] if r["image"] == "tools"]
    assert row["in_plan"]
    (built.root / "src" / "tools.txt").write_text("committed\n")
    assert "reuse" in built.arr("plan", "tools").stdout  # so it was the committed content


def test_detach_follow_cancel_and_the_queue(built: Clone) -> None:
    built.arr("launch", "--detach", "--set", "mode=wait")
    built.arr("launch", "--detach", "--set", "second=1")
    follower = built.start("logs", "last", "-f")
    first = built.start("logs", built.json("runs")["runs"][1]["id"], "-f")
    until(first, "waiting")
    assert [run["status"] for run in built.json("runs")["runs"]] == ["queued", "running"]
    assert "run" in built.arr("cancel", built.json("runs")["runs"][1]["id"]).stdout
    assert first.communicate()[0].count("cancelled") == 2  # its end, and the fault
    output, _ = follower.communicate(timeout=60)
    assert "arguments: --set second=1" in output
    runs = built.json("runs")["runs"]
    assert [run["status"] for run in runs] == ["succeeded", "cancelled"]
    assert runs[0]["started"] >= runs[1]["finished"]  # one after the other
    assert built.arr("logs", runs[1]["id"]).stdout.endswith("asked to end\nsaved\n")


def test_ctrl_c_cancels_the_run_that_is_followed(built: Clone) -> None:
    process = built.start("launch", "--set", "mode=wait")
    until(process, "waiting")
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "cancelling the run" in output
    assert ": cancelled after" in output
    assert "Traceback" not in errors
    assert [run["status"] for run in built.json("runs")["runs"]] == ["cancelled"]


def test_a_queued_run_can_be_cancelled(built: Clone) -> None:
    built.arr("launch", "--detach", "--set", "mode=wait")
    built.arr("launch", "--detach")
    built.arr("cancel", "last")
    queued, waiting = built.json("runs")["runs"]
    assert (queued["status"], queued["started"]) == ("cancelled", None)
    built.arr("cancel", waiting["id"])
    assert {run["status"] for run in built.json("runs")["runs"]} == {"cancelled"}


def test_a_killed_agent_leaves_a_lost_run_and_no_process(built: Clone) -> None:
    built.arr("launch", "--detach", "--set", "mode=wait")
    follower = built.start("logs", "last", "-f")
    until(follower, "waiting")
    agent = built.agent()
    below = children_of(agent)
    assert below
    os.kill(agent, signal.SIGKILL)
    output, _ = follower.communicate(timeout=60)
    assert ": lost after" in output
    assert "its agent was killed, or the machine went down" in output
    wait_for_end(below)
    (run,) = built.json("runs")["runs"]
    assert run["status"] == "lost"
    assert "killed" in built.arr("runs").stdout
    built.arr("launch")  # and the queue goes on


def test_the_second_launch_waits_for_the_first(built: Clone) -> None:
    built.change("src/tools.txt", "tools\nmore\n")
    built.change("Stack/tools/Dockerfile", BRIEFLY)
    first = built.start("launch", "--progress", "json")
    until(first, "the build waits")
    second = built.start("launch")
    notice = until(second, "another launch is at work")[-1]
    assert f"(process {first.pid})" in notice
    output, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert "tools: done" not in output  # the first one made it
    assert first.communicate(timeout=60)[0].count('"image-done"') == 2
    assert first.returncode == 0
    assert [run["status"] for run in built.json("runs")["runs"]] == ["succeeded"] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_build_leaves_nothing_half_done(
    stuck: tuple[Clone, subprocess.Popen[str]], number: signal.Signals
) -> None:
    clone, process = stuck
    latest = clone.latest()
    below = children_of(process.pid)
    assert below
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: nothing is half done" in errors
    assert "Traceback" not in errors
    assert "aliases-moved" not in output
    wait_for_end(below)
    assert clone.latest() == latest
    if number == signal.SIGINT:
        clone.change("Stack/tools/Dockerfile", "FROM base\n")
        again = events(clone.arr("launch", "--progress", "json").stdout)
        built = [event["image"] for event in again if event["event"] == "image-done"]
        assert built == ["tools", "trainer"]  # side was finished before


def test_a_launch_that_is_killed_outright(stuck: tuple[Clone, subprocess.Popen[str]]) -> None:
    clone, process = stuck
    below = children_of(process.pid)
    process.kill()
    process.communicate()
    wait_for_end(below)
    clone.change("Stack/tools/Dockerfile", "FROM base\n")
    again = clone.arr("launch").stdout
    assert "tools: done" in again
    assert "side: done" not in again


def test_a_build_that_fails_skips_its_children_and_finishes_the_rest(built: Clone) -> None:
    latest = built.latest()
    built.change("src/side.txt", "changed\n")
    built.change("src/tools.txt", "changed\n")
    built.change("Stack/tools/Dockerfile", "FROM base\nCOPY src/tools.txt /\n"
                 'RUN ["/busybox", "sh", "-c", "echo the last words; exit 9"]\n')  # fmt: skip
    done = built.arr("launch", expect=5)
    assert "side: done" in done.stdout
    assert "  | the last words" in done.stdout
    assert "trainer: skipped" in done.stdout
    assert ":latest was not moved and nothing was run" in done.stderr
    assert "trainer: skipped, since tools failed" in done.stderr
    assert built.latest() == latest
    assert built.json("runs") == {"runs": []}
    history = built.json("images", "history", "tools")["builds"]
    # Another test's clone may have built the same content with this store before.
    assert [build["outcome"] for build in history] in (["failed", "built"], ["failed", "kept"])


def test_a_smoke_test_that_fails_keeps_the_tag_away(built: Clone) -> None:
    toml = (built.root / "Stack/stack.toml").read_text()
    built.change("src/tools.txt", "changed\n")
    built.change("Stack/stack.toml", toml.replace('"true"', '"false"'))
    done = built.arr("build", "tools", expect=5)
    assert "the smoke test of tools failed, so its tag was not pushed" in done.stderr
    assert built.json("plan", "tools", expect=10)["images"][1]["presence"] == "absent"


def test_a_tag_taken_by_another_image_is_never_used(built: Clone) -> None:
    built.change("src/tools.txt", "changed\n")
    tag = built.json("plan", "tools", expect=10)["images"][1]["tag"]
    with built.registry() as registry:
        registry.retag("tools", "latest", tag)
        other = registry.config("tools", "latest").labels[FINGERPRINT_LABEL]
    for args in (("plan",), ("launch",), ("build", "tools")):
        done = built.arr(*args, expect=6)
        assert f"tools:{tag} is taken: the image there has the fingerprint {other}" in done.stderr
        assert "Delete that tag" in done.stderr
        assert "present" not in done.stdout
