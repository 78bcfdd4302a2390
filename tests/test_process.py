"""Child processes: what is kept of their output, and that nothing of them outlives a stop."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arr.errors import Interrupted, MissingTool
from arr.process import Children, answer, describe_exit

# A signal can come between the two commands, so that this sleep does not get it: it is quiet, so
# that it holds no output open.
FOREVER = "while :; do sleep 1000 >/dev/null 2>&1 & wait; done"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def sh(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


class Task:
    """A program that runs in another thread, up to the first line it says: the ids of processes."""

    def __init__(
        self,
        children: Children,
        script: str,
        log: Path,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.began = threading.Event()
        self.error: Interrupted | None = None
        self.said: list[str] = []
        self._on_line = on_line
        self._run = lambda: children.run(sh(script), log=log, on_line=self._hear)
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        assert self.began.wait(30)
        self.handles = [os.pidfd_open(int(word)) for word in self.said[0].split()]

    def _hear(self, line: str) -> None:
        self.said.append(line)
        self.began.set()
        self._on_line(line)

    def _work(self) -> None:
        try:
            self._run()
        except Interrupted as error:
            self.error = error
        self.began.set()

    def end(self) -> Interrupted | None:
        """Wait for it and for its processes; return what the run raised."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        for handle in self.handles:
            ended, _, _ = select.select([handle], [], [], 30)
            os.close(handle)
            assert ended, "a process is still there"
        return self.error


@pytest.fixture
def children() -> Iterator[Children]:
    one = Children(grace=30)
    yield one
    one.stop()


def test_the_exit_code_and_every_line_of_both_streams(children, log):
    lines: list[str] = []
    code, tail = children.run(sh("echo one; echo two >&2; exit 3"), log=log, on_line=lines.append)
    assert code == 3
    assert lines == tail == ["one", "two"]
    assert log.read_bytes() == b"one\ntwo\n"


def test_the_log_is_added_to_and_keeps_every_byte(children, log):
    log.write_bytes(b"before\n")
    lines: list[str] = []
    children.run(
        sh(r"printf 'caf\351 \000\n10%%\r50%%\r100%%\r\nend'"), log=log, on_line=lines.append
    )
    assert log.read_bytes() == b"before\ncaf\xe9 \0\n10%\r50%\r100%\r\nend"
    assert lines == ["caf\ufffd \0", "100%", "end"]


def test_the_last_fifty_lines_are_given_back(children, log):
    lines: list[str] = []
    _, tail = children.run(sh("seq 1 200"), log=log, on_line=lines.append)
    assert tail == [str(n) for n in range(151, 201)]
    assert len(lines) == 200


def test_a_line_is_passed_on_while_the_program_runs(children, log, tmp_path):
    """The program waits for what the first line sets off; without it, both would wait for ever."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    seen: list[bytes] = []

    def on_line(line: str) -> None:
        if line == "ready":
            seen.append(log.read_bytes())
            pipe.write_text("go\n")

    code, tail = children.run(
        sh(f"echo ready; read answer < {pipe}; echo $answer"), log=log, on_line=on_line
    )
    assert (code, tail) == (0, ["ready", "go"])
    assert seen == [b"ready\n"]


def test_the_environment_and_the_folder_are_those_given(children, log, tmp_path):
    environ = {"PATH": os.environ["PATH"], "WORD": "given"}
    script = 'echo "$WORD ${HOME-none}"; pwd'
    _, tail = children.run(sh(script), log=log, on_line=print, environ=environ, cwd=tmp_path)
    assert tail == ["given none", str(tmp_path)]


def test_standard_input_is_empty(children, log):
    assert children.run(sh("cat; echo end"), log=log, on_line=print) == (0, ["end"])


def test_a_program_that_is_not_installed(children, log):
    with pytest.raises(MissingTool, match="no-such-program is not installed") as caught:
        children.run(["no-such-program"], log=log, on_line=print)
    assert caught.value.exit_code == 2
    assert "arr doctor" in caught.value.hint
    with pytest.raises(MissingTool, match="no-such-program is not installed"):
        answer(["no-such-program"])


def test_an_answer_is_given_whatever_the_exit_code():
    done = answer(sh("echo $WORD; echo no >&2; exit 4"), {"WORD": "yes"})
    assert (done.returncode, done.stdout, done.stderr) == (4, "yes\n", "no\n")


def test_a_failure_of_the_listener_ends_the_program(children, log):
    handles: list[int] = []

    def on_line(line: str) -> None:
        handles.append(os.pidfd_open(int(line)))
        raise ValueError("the screen is gone")

    with pytest.raises(ValueError, match="the screen is gone"):
        children.run(sh("echo $$; exec sleep 1000"), log=log, on_line=on_line)
    assert select.select(handles, [], [], 30)[0] == handles
    os.close(handles[0])


def test_a_stop_ends_every_child_with_term(children, log, tmp_path):
    tasks = [Task(children, "echo $$; exec sleep 1000", tmp_path / f"log{n}") for n in range(3)]
    children.stop()
    assert all(isinstance(task.end(), Interrupted) for task in tasks)


def test_a_stop_reaches_what_the_child_has_started(children, log):
    task = Task(
        children, "sleep 1000 & a=$!; sleep 1000 >/dev/null 2>&1 & echo $$ $a $!; wait", log
    )
    assert len(task.handles) == 3
    children.stop()
    assert isinstance(task.end(), Interrupted)


def test_a_child_may_end_in_its_own_way_within_the_grace(children, log):
    script = f"trap 'echo saving; exit 0' TERM; echo $$; {FOREVER}"
    task = Task(children, script, log)
    children.stop()
    assert isinstance(task.end(), Interrupted)
    assert task.said[1:] == ["saving"]


def test_the_grace_is_for_the_whole_group(children, log, tmp_path):
    """The child ends at once; what it started is not killed while it writes its last words."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    last_words = f'trap "read x < {pipe}; echo saved; exit 0" TERM'
    inner = f"{last_words}; echo $PPID $$; {FOREVER}"
    task = Task(children, f"sh -c '{inner}' & wait", log)
    stopper = threading.Thread(target=children.stop)
    stopper.start()
    assert select.select(task.handles[:1], [], [], 30)[0], "the child itself has not ended"
    pipe.write_text("go\n")
    stopper.join(30)
    assert isinstance(task.end(), Interrupted)
    assert task.said[1:] == ["saved"]


def test_who_ignores_term_is_killed_after_the_grace(log):
    children = Children(grace=0.05)
    script = "trap '' TERM; sleep 1000 & echo $$ $!; wait"
    task = Task(children, script, log)
    children.stop()
    assert isinstance(task.end(), Interrupted)


def test_who_ignores_term_and_has_closed_its_output_is_killed_too(log):
    children = Children(grace=30)
    inner = 'trap "" TERM; echo $PPID $$; exec sleep 1000 >/dev/null 2>&1'
    quiet = f"sh -c '{inner}' & wait"
    task = Task(children, quiet, log)
    children.stop()
    assert isinstance(task.end(), Interrupted)


def test_nothing_is_started_after_a_stop(children, log, tmp_path):
    children.stop()
    with pytest.raises(Interrupted):
        children.run(sh(f"touch {tmp_path}/started"), log=log, on_line=print)
    with pytest.raises(Interrupted):
        children.require_running()
    assert not (tmp_path / "started").exists()
    children.stop()


def test_a_second_interrupt_ends_the_grace(log):
    """As with a second Ctrl-C, which comes while `stop` waits in the main thread."""
    children = Children(grace=60)
    asked = f"trap 'echo asked' TERM; echo $$; {FOREVER}"

    def interrupt(line: str) -> None:
        if line == "asked":
            os.kill(os.getpid(), signal.SIGINT)

    task = Task(children, asked, log, interrupt)
    with pytest.raises(KeyboardInterrupt):
        children.stop()
    assert isinstance(task.end(), Interrupted)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-9, "killed by SIGKILL"),
        (137, "killed by SIGKILL"),
        (143, "killed by SIGTERM"),
        (128, "exit code 128"),
        (255, "exit code 255"),
    ],
)
def test_how_a_process_ended_in_words(code, words):
    assert describe_exit(code) == words
