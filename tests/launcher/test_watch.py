"""The watch around real processes: what passes, what ends the agent, what is said at the end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from watched import (
    ENDED,
    FAILED,
    INT,
    QUOTA,
    TAKEN,
    TERM,
    WATCH,
    WRAPPER,
    alive,
    begin,
    finish,
    python,
    read_until,
    wait_for,
    watch,
    watching,
)  # fmt: skip

QUOTA_CODE = 10


def test_output_passes_unchanged_and_the_exit_code_is_the_agents() -> None:
    done = watch("printf 'a\\nb\\n'; printf 'c\\n' >&2; printf 'd\\r e'; exit 7")
    assert done.agents.startswith(b"a\nb\nc\nd\r e\n")
    assert done.code == 7
    assert done.last["end"] == "agent"
    assert done.last["exit_code"] == 7
    assert done.last["class"] is None


def test_an_agent_ended_by_a_signal_gives_128_and_its_number() -> None:
    assert watch("kill -9 $$").code == 137


def test_bytes_that_are_no_text_pass_unchanged(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40 + b"\x1b[31mred\x1b[0m \xff\xfe\xc3\n\x00\n"
    (tmp_path / "data").write_bytes(data)
    done = watch(f"cat {tmp_path}/data; exit 3")
    assert done.out.startswith(data)
    assert done.code == 3


def test_a_line_that_has_not_ended_is_passed_on_at_once() -> None:
    process = watching("printf 'Password: '; sleep 30")
    try:
        assert read_until(process, b"Password: ") == b"Password: "
    finally:
        process.send_signal(TERM)
        finish(process, 0)


def test_a_fatal_fault_is_shown_with_its_context_and_ends_the_agent_and_its_children() -> None:
    script = f"""
    sleep 60 & echo child $!
    i=0; while [ $i -lt 80 ]; do i=$((i+1)); echo "line $i"; done
    echo '{QUOTA}'
    sleep 60"""
    done = watch(script)
    assert done.code == QUOTA_CODE
    assert done.last["end"] == "fault"
    assert done.last["class"] == "quota"
    shown = [line for line in done.text.splitlines() if line.startswith("arr-watch: | ")]
    assert len(shown) == 50
    assert shown[0] == "arr-watch: | line 32"
    assert QUOTA in shown[-1]
    assert "evidence" in done.text
    assert "advice" in done.text
    assert "block " in done.text
    assert not alive(int(done.text.split()[1]))
    assert done.seconds < 10


def test_a_fault_in_colours_is_one() -> None:
    assert watch(f"printf '\\033[1m\\033[31m%s\\033[0m\\n' '{QUOTA}'; sleep 60").code == QUOTA_CODE


def test_a_fault_in_a_line_that_does_not_end_is_found() -> None:
    assert watch(f"printf '%s' '{QUOTA}'; sleep 60").code == QUOTA_CODE


def test_an_agent_that_ends_by_itself_after_a_fault_has_the_faults_exit_code() -> None:
    assert watch(f"echo '{QUOTA}'; exit 1").code == QUOTA_CODE


def test_a_traceback_that_ends_the_agent_is_a_fault() -> None:
    done = watch(python("def f():\n    g()\ndef g():\n    return {}[1]\nf()"))
    assert done.last["class"] == "python_exception"
    assert done.last["end"] == "fault"
    assert done.code == done.last["exit_code"] != 1


@pytest.mark.parametrize(("lines", "name"), [
    ('Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nKeyError: 3\n',
     "python_exception"),
    ('Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nKeyError: 3',
     "python_exception"),
    ('{\n  "error": {\n    "code": 429,\n    "message": "Quota exceeded",\n'
     '    "status": "RESOURCE_EXHAUSTED"\n  }\n}\n', "quota"),
])  # fmt: skip
def test_a_message_without_a_next_line_is_judged_once_it_is_quiet(lines: str, name: str) -> None:
    done = watch(f"printf '%s' '{lines}'; exec sleep 60")
    assert (done.last["class"], done.last["end"]) == (name, "fault")
    assert done.seconds < 10


def test_a_message_that_is_quiet_for_less_than_a_second_is_judged_as_a_whole() -> None:
    head = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n'
    done = watch(f"printf '%s' '{head}'; sleep 0.4; echo '{QUOTA}'; exec sleep 60")
    assert done.last["class"] == "quota"


def test_a_line_of_ten_megabytes_passes_whole_and_both_of_its_ends_are_read(tmp_path: Path) -> None:
    line = b"x" * 10_000_000 + b" " + QUOTA.encode() + b"\n"
    (tmp_path / "line").write_bytes(line)
    done = watch(f"cat {tmp_path}/line; sleep 60")
    assert done.out.startswith(line)
    assert done.code == QUOTA_CODE
    assert len(done.out) < len(line) + 100_000


def test_an_agent_that_ignores_term_is_killed_after_the_grace() -> None:
    done = watch(f"trap '' TERM; echo '{QUOTA}'; while :; do sleep 0.1; done", "--grace", "0.4")
    assert done.code == QUOTA_CODE
    assert 0.3 < done.seconds < 8


def test_a_child_that_holds_the_pipe_does_not_hold_the_watch() -> None:
    done = watch("(trap '' TERM; sleep 60; :) & exit 5", "--grace", "0.3")
    assert done.code == 5
    assert done.seconds < 8


def test_a_process_that_left_the_group_with_the_pipe_does_not_hold_the_watch() -> None:
    done = watch("setsid sleep 6 & exit 5", "--grace", "0.2")
    assert done.code == 5
    assert done.seconds < 5


def test_what_the_agents_children_write_after_its_end_is_passed_on() -> None:
    done = watch("(sleep 0.3; echo late) & exit 0")
    assert done.agents == b"late\n"


@pytest.mark.parametrize(("number", "name"), [(TERM, "TERM"), (INT, "INT")])
def test_a_signal_is_passed_on_and_the_agents_own_exit_code_counts(number: int, name: str) -> None:
    process = watching(
        f"trap 'echo got {name}; exit 4' {name}; echo up; while :; do sleep 0.1; done"
    )
    read_until(process, b"up")
    process.send_signal(number)
    done = finish(process, time.monotonic())
    assert f"got {name}" in done.text
    assert done.code == 4
    assert done.last["end"] == "signal"


def test_a_signal_during_a_run_says_that_its_job_is_left() -> None:
    process = watching(f"cat <<'E'\n{TAKEN}E\necho up; exec sleep 60")
    read_until(process, b"up")
    time.sleep(0.2)
    process.send_signal(TERM)
    done = finish(process, time.monotonic())
    assert done.code == 143
    assert done.last["running"] == 1
    assert "no longer watches" in done.text


def test_a_second_signal_kills_at_once() -> None:
    process = watching("trap '' TERM; echo up; while :; do sleep 0.1; done")
    read_until(process, b"up")
    process.send_signal(TERM)
    read_until(process, b"ending the agent")
    process.send_signal(TERM)
    done = finish(process, time.monotonic())
    assert done.code == 137
    assert done.seconds < 8


def test_the_grace_ends_an_agent_that_ignores_a_signal() -> None:
    process = watching("trap '' TERM; echo up; while :; do sleep 0.1; done", "--grace", "0.3")
    read_until(process, b"up")
    process.send_signal(TERM)
    assert finish(process, time.monotonic()).code == 137


def test_an_idle_agent_is_ended_with_exit_code_0() -> None:
    done = watch("exec sleep 60", "--idle-timeout", "0.3")
    assert (done.code, done.last["end"]) == (0, "idle")


def test_idle_time_does_not_count_while_a_run_is_pending_or_running() -> None:
    script = f"cat <<'E'\n{TAKEN}E\nsleep 1.2; cat <<'E'\n{ENDED}E\nexec sleep 60"
    done = watch(script, env={"ARR_IDLE_TIMEOUT": "0.5"})
    assert done.last["end"] == "idle"
    assert (done.last["taken"], done.last["succeeded"], done.last["failed"]) == (1, 1, 0)
    assert done.seconds >= 1.6


def test_all_of_the_time_may_be_limited() -> None:
    done = watch(f"cat <<'E'\n{TAKEN}E\nexec sleep 60", "--timeout", "0.4")
    assert (done.code, done.last["end"], done.last["running"]) == (124, "timeout", 1)


def test_an_agent_that_hangs_is_ended() -> None:
    done = watch("echo working; exec sleep 60", "--silence-timeout", "0.4")
    assert (done.code, done.last["end"]) == (124, "silence")
    assert "hangs" in done.text


def test_an_agent_that_speaks_does_not_hang() -> None:
    script = "for i in 1 2 3 4 5 6; do echo $i; sleep 0.2; done"
    assert watch(script, "--silence-timeout", "0.9").code == 0


def test_a_heartbeat_tells_how_it_is() -> None:
    done = watch(f"cat <<'E'\n{TAKEN}E\nprintf open; sleep 0.9", "--heartbeat", "0.25")
    beats = [line for line in done.text.splitlines() if line.startswith("arr-watch: alive")]
    assert len(beats) >= 2
    assert "1 taken" in beats[0]
    assert "1 running" in beats[0]


def test_every_end_tells_the_runs_and_the_lifetime() -> None:
    done = watch(f"cat <<'E'\n{TAKEN}{FAILED}{TAKEN}{ENDED}E\n")
    line = done.text.splitlines()[-2]
    assert "2 taken, 1 succeeded, 1 failed, 0 running" in line
    assert "lifetime 0:00:0" in line
    assert done.last["seconds"] < 10


def test_the_second_run_is_not_ended_by_what_the_first_one_failed_of() -> None:
    done = watch(f"cat <<'E'\n{TAKEN}{FAILED}E\nsleep 1.3; cat <<'E'\n{TAKEN}{ENDED}E\n")
    assert done.code == 0
    assert (done.last["taken"], done.last["succeeded"], done.last["failed"]) == (2, 1, 1)
    assert "a run failed: python_exception" in done.text


def test_a_refused_submission_ends_the_agent_before_it_spoils_the_queue() -> None:
    refused = f"wandb: ERROR launch: Error running job: {QUOTA}\n"
    done = watch(f"cat <<'E'\n{TAKEN}{refused}E\nexec sleep 60")
    assert (done.code, done.last["failed"]) == (QUOTA_CODE, 1)


def test_an_agent_whose_output_nobody_reads_any_more_is_still_watched() -> None:
    script = f"echo up; sleep 0.3; yes | head -c 300000; echo '{QUOTA}'; sleep 60"
    process = watching(script)
    read_until(process, b"up")
    process.stdout.close()
    assert process.wait(30) == QUOTA_CODE
    assert '"class": "quota"' in process.stderr.read().decode()
    process.stderr.close()


def test_a_reader_who_stops_does_not_stop_signals() -> None:
    process = watching("echo up; yes", "--grace", "0.3")
    read_until(process, b"up")
    time.sleep(0.5)
    process.send_signal(TERM)
    assert process.wait(30) in (141, 143, 137)
    process.stdout.close()
    process.stderr.close()


def test_closed_standard_streams_are_no_trouble(tmp_path: Path) -> None:
    line = f"{sys.executable} {WATCH} -- sh -c 'echo x; touch {tmp_path}/done; exit 6' <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", line], check=False).returncode == 6
    assert (tmp_path / "done").exists()


# The most memory that any of a command's processes had, without what pytest itself has.
MEMORY = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def alike(number: int) -> str:
    return f"step {number} loss {number / 7:.4f} token {number % 91}\n"


def different(number: int) -> str:
    return "-".join(chr(97 + int(digit)) for digit in str(number)) * 3 + "\n"


def without_end(_number: int) -> str:
    return "x" * 100


@pytest.mark.parametrize("words", [alike, different, without_end])
def test_a_burst_of_200000_lines_loses_none_in_bounded_memory(
    tmp_path: Path, words: Callable[[int], str]
) -> None:
    text = "".join(map(words, range(200_000)))
    (tmp_path / "text").write_text(text)
    agent = ("--", "cat", tmp_path / "text")
    with (tmp_path / "out").open("wb") as out:
        done = finish(
            begin(sys.executable, "-c", MEMORY, sys.executable, WATCH, *agent, stdout=out), 0
        )
    assert done.code == 0
    written = (tmp_path / "out").read_text()
    assert written.startswith(text)
    summary, last = written[len(text) :].strip().split("\n")
    assert summary.startswith("arr-watch: ended: ")
    assert json.loads(last)["end"] == "agent"
    assert int(done.err) < 40 * 1024


def test_a_fault_in_the_middle_of_a_burst_is_found() -> None:
    code = f'print("step 1\\n" * 60000 + "{QUOTA}\\n" + "step 2\\n" * 60000)'
    done = watch(f"trap '' TERM; {python(code)}; sleep 60", "--grace", "2")
    assert done.code == QUOTA_CODE
    assert done.agents.count(b"\n") == 120002


def test_no_command_is_a_usage_error() -> None:
    for command in ([sys.executable, WATCH], [sys.executable, WATCH, "--"], [WRAPPER]):
        done = finish(begin(*command), 0)
        assert done.code == 2
        assert "usage" in done.err
        assert "no command" in done.err


def test_a_setting_that_is_no_time_is_a_usage_error() -> None:
    for words in ("soon", "-1", "nan"):
        done = watch("true", f"--timeout={words}")
        assert done.code == 2
        assert "--timeout" in done.err
        done = watch("true", env={"ARR_GRACE": words})
        assert done.code == 2
        assert "ARR_GRACE" in done.err


def test_a_command_that_cannot_be_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("no program")
    (tmp_path / "script").write_text("#!/no/such/interpreter\n")
    (tmp_path / "script").chmod(0o755)
    for command, code, why in (
        ("no-such-command-1", 127, "not found"), (str(tmp_path / "none"), 127, "not found"),
        (str(tmp_path / "plain"), 126, "ermission"), (str(tmp_path / "script"), 127, "interpreter"),
    ):  # fmt: skip
        done = finish(begin(sys.executable, WATCH, "--", command), 0)
        assert done.code == code
        assert command in done.err
        assert why in done.err
        assert "Traceback" not in done.err


@pytest.mark.parametrize("content", [None, "[quota\n", "[quota]\nmeaning = 3\n", "\xff"])
def test_a_table_that_cannot_be_used_stops_before_the_agent(
    tmp_path: Path, content: str | None
) -> None:
    table = tmp_path / "table.toml"
    if content is not None:
        table.write_bytes(content.encode("latin-1"))
    done = watch(f"touch {tmp_path}/started", "--faults", str(table))
    assert done.code == 2
    assert "table.toml" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "started").exists()


def test_the_wrapper_becomes_the_watch_and_gets_the_signals(tmp_path: Path) -> None:
    wrapper = tmp_path / "entrypoint"
    wrapper.symlink_to(WRAPPER)
    process = begin(wrapper, "sh", "-c", "echo up; trap 'exit 9' TERM; while :; do sleep 0.1; done")
    read_until(process, b"up")
    assert b"watch.py" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    time.sleep(0.2)
    process.send_signal(TERM)
    assert finish(process, time.monotonic()).code == 9


def test_an_agent_does_not_outlive_a_failure_of_the_watch_itself(tmp_path: Path) -> None:
    broken = tmp_path / "launcher"
    shutil.copytree(WATCH.parent, broken)
    with (broken / "watch_reader.py").open("a") as file:
        file.write(
            "\n\ndef _broken(*_):\n    raise RuntimeError('broken')\n\n\nReader.line = _broken\n"
        )
    script = f"echo $$ > {tmp_path}/pid; echo '{QUOTA}'; exec sleep 60"
    done = finish(begin(sys.executable, broken / "watch.py", "--", "sh", "-c", script), 0)
    assert done.code == 1
    pid = int((tmp_path / "pid").read_text())
    assert wait_for(lambda: not alive(pid))


UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def _can_unshare() -> bool:
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _can_unshare(), reason="this machine gives no process namespaces")
def test_as_the_first_process_it_reaps_orphans_and_takes_signals() -> None:
    script = """
    i=0; while [ $i -lt 20 ]; do i=$((i+1)); (sleep 0.1 & ); done
    sleep 0.6; grep -l 'State:.Z' /proc/[0-9]*/status | wc -l; echo up; exec sleep 60"""
    process = begin(*UNSHARE, sys.executable, WATCH, "--", "sh", "-c", script)
    found = read_until(process, b"up")
    assert found.split() == [b"0", b"up"]
    inner = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
    os.kill(int(inner), TERM)
    done = finish(process, time.monotonic())
    assert done.code == 143
    assert done.last["end"] == "signal"
