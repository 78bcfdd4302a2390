"""What people and programs read of one fixed stream of events."""

from __future__ import annotations

import io
import json

import click
import msgspec
import pytest
from rich.console import Console

from arr.cli.render import progress
from arr.cli.render.terminal import Board
from arr.cli.render.text import age, duration, moment, size, table
from arr.events import (
    AliasesMoved,
    Event,
    ImageDone,
    ImageFailed,
    ImageLog,
    ImageSkipped,
    ImageStep,
    Notice,
    Planned,
    PlannedImage,
    RunFinished,
    RunLog,
    RunQueued,
    RunStarted,
)  # fmt: skip


def planned(image: str, action: str, usual: float | None, *parents: str) -> PlannedImage:
    presence = "present" if action == "reuse" else "absent"
    reason = "unchanged" if action == "reuse" else "src/a.py changed (+1 -0 lines)"
    tag = f"{len(image)}234567"
    return PlannedImage(image, image, tag, tag * 9, list(parents), presence, action, reason,
                        [], usual)  # fmt: skip


EVENTS: list[Event] = [
    Planned(
        at=0.0, commit="c" * 40, target="local", registry="127.0.0.1:5000",
        images=[planned("base", "reuse", 3.0), planned("tools", "build", 62.0, "base"),
                planned("side", "build", None), planned("trainer", "build", 3.0, "tools")],
        bases=["python:3.11-slim: pulled, sha256:abab"], uncommitted=["src/b.py (uncommitted)"],
        warnings=["Stack/base/.image-manifest lists x, which no instruction of y uses"],
    ),
    Notice(at=1.0, text="another launch is at work in this clone (process 7): waiting for its end"),
    ImageStep(at=2.0, image="tools", step="build", usual_seconds=62.0),
    ImageLog(at=3.0, image="tools", line="STEP 1/2: FROM base"),
    ImageStep(at=2.0, image="side", step="push", detail="127.0.0.1:5000/side:4234567"),
    ImageDone(at=4.0, image="side", tag="4234567", digest="sha256:00", seconds=2.0),
    ImageFailed(at=5.0, image="tools", step="build", error="buildah build failed\nMend it.",
                log="/logs/tools.log", tail=["one", "[red]two[/red]"], seconds=3.0),
    ImageSkipped(at=6.0, image="trainer", because="its parent tools was not made"),
    AliasesMoved(at=7.0, images=["side"]),
    RunQueued(at=8.0, run="1122-000000-00", image="h/trainer@sha256:00", folder="/runs/x"),
    RunStarted(at=9.0, run="1122-000000-00"),
    RunLog(at=10.0, run="1122-000000-00", line="step 1 [bold]loss 0.5"),
    RunFinished(at=11.0, run="1122-000000-00", status="succeeded", exit_code=0, seconds=3723.0,
                folder="/runs/x", log="/runs/x/output.log", fault="",
                result={"steps": 3, "loss": 0.25, "eval_loss": 0.5, "accuracy": 0.912,
                        "chance": 0.1, "checkpoint": "/run/arr/step-3"}),
]  # fmt: skip

PLAN = """\
commit cccccccccccc   target local   registry 127.0.0.1:5000

IMAGE    TAG      PRESENCE  ACTION  USUAL  REASON
base     4234567  present   reuse   0:03   unchanged
tools    5234567  absent    build   1:02   src/a.py changed (+1 -0 lines)
side     4234567  absent    build   -      src/a.py changed (+1 -0 lines)
trainer  7234567  absent    build   0:03   src/a.py changed (+1 -0 lines)

base python:3.11-slim: pulled, sha256:abab
warning: Stack/base/.image-manifest lists x, which no instruction of y uses
not in the commit, so not in any image:
  src/b.py (uncommitted)

another launch is at work in this clone (process 7): waiting for its end
"""
FAILED = """\
tools: failed at build after 0:03
  | one
  | [red]two[/red]
  buildah build failed
  Mend it.
  whole log: /logs/tools.log
"""
END = """\
:latest moved for side
run 1122-000000-00: queued, image h/trainer@sha256:00
run 1122-000000-00: started
step 1 [bold]loss 0.5

run 1122-000000-00: succeeded after 1:02:03
  steps       3
  loss        0.2500 (on unseen data 0.5000)
  accuracy    91.2% (chance 10.0%)
  checkpoint  /runs/x/step-3
  logs        /runs/x/output.log
"""
PLAIN = f"""\
{PLAN}tools: build (usually 1:02)
side: push 127.0.0.1:5000/side:4234567
side: done in 0:02, 4234567
{FAILED}trainer: skipped, its parent tools was not made
{END}"""


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (
            {"accuracy": 0.93, "budget": 0.125, "accuracies": {"1": 0.94}, "chance": 0.1},
            "93.0% with 0.125 of each image, 94.0% with all of it (chance 10.0%)",
        ),
        (
            {"accuracy": 0.93, "budget": 1.0, "accuracies": {"1": 0.93}, "best_constant": 0.2},
            "93.0% (best constant answer 20.0%)",
        ),
        ({"accuracy": 0.93}, "93.0%"),
    ],
)
def test_a_result_tells_what_its_accuracy_stands_beside(
    result: dict[str, object], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished,) = [event for event in EVENTS if isinstance(event, RunFinished)]
    with progress.face("plain") as emit:
        emit(msgspec.structs.replace(finished, result=result))
    assert f"  accuracy    {line}\n" in click.unstyle(capsys.readouterr().out)


def test_plain(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.face("plain") as emit:
        for event in EVENTS:
            emit(event)
    assert click.unstyle(capsys.readouterr().out) == PLAIN


def test_auto_is_plain_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.face("auto") as emit:
        emit(EVENTS[1])
    assert capsys.readouterr().out.startswith("another launch")


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.face("json") as emit:
        for event in EVENTS:
            emit(event)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == [
        "planned", "notice", "image-step", "image-log", "image-step", "image-done", "image-failed",
        "image-skipped", "aliases-moved", "run-queued", "run-started", "run-log", "run-finished",
    ]  # fmt: skip
    assert [line["at"] for line in lines] == [event.at for event in EVENTS]
    assert lines[6]["tail"] == ["one", "[red]two[/red]"]
    assert lines[12]["result"]["accuracy"] == 0.912


def shown(width: int, terminal: bool = True) -> str:
    """What stands on the terminal in the end: what was drawn over is gone."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, highlight=False,
                      legacy_windows=False, color_system=None, record=False)  # fmt: skip
    with Board(console) as board:
        for event in EVENTS:
            board.show(event)
    assert isinstance(console.file, io.StringIO)
    return screen(console.file.getvalue())


def screen(text: str) -> str:
    """Follow the few movements that rich makes: up a line, erase the line, back to its start."""
    lines, at = [""], 0
    for part in text.replace("\x1b[?25l", "").replace("\x1b[?25h", "").split("\x1b["):
        if part.startswith("1A"):
            at, part = at - 1, part[2:]
        elif part.startswith("2K"):
            lines[at], part = "", part[2:]
        for piece in part.splitlines(keepends=True):
            lines[at] += piece.rstrip("\r\n")
            if piece.endswith("\n"):
                at += 1
                lines += [""] if at == len(lines) else []
    return "\n".join(line.rstrip() for line in lines)


def test_terminal_keeps_what_is_final_and_ends_with_the_rows() -> None:
    text = shown(100)
    rows = """\
image    step             time
tools    failed   build    0:03 / 1:02
side     done     4234567  0:02
trainer  skipped           - / 0:03     its parent tools was not made
"""
    assert PLAN in text
    assert FAILED in text
    assert text.endswith(END)
    tail = [line.split() for line in text.split(FAILED)[1].split(END)[0].splitlines() if line]
    assert tail == [line.split() for line in rows.splitlines()]


def test_a_narrow_terminal_shows_the_same_words() -> None:
    text = shown(40)
    assert "  | [red]two[/red]" in text
    assert "accuracy    91.2% (chance 10.0%)" in text
    rows = [line for line in text.splitlines() if line.startswith(("tools  ", "trainer  "))]
    assert any("failed" in row for row in rows)
    assert any("skipped" in row for row in rows)


@pytest.mark.parametrize(("status", "code", "fault", "words"), [
    ("failed", 3, "exit code 3: it said so", "exit code   3"),
    ("lost", 7, "its agent was killed", "fault       its agent was killed"),
    ("cancelled", 130, "cancelled", "cancelled after 0:03"),
])  # fmt: skip
def test_the_end_of_a_run_that_did_not_succeed(
    status: str, code: int, fault: str, words: str
) -> None:
    event = RunFinished(at=1.0, run="x", status=status, exit_code=code, seconds=3.0, folder="/f",
                        log="/f/output.log", fault=fault, result=None)  # fmt: skip
    text = click.unstyle(progress.words(event) or "")
    assert words in text
    assert "succeeded" not in text
    assert "see /f" in text


def test_success_without_a_result_says_so() -> None:
    event = RunFinished(at=1.0, run="x", status="succeeded", exit_code=0, seconds=3.0, folder="/f",
                        log="/f/output.log", fault="", result=None)  # fmt: skip
    assert "it wrote no result.json" in (progress.words(event) or "")


def test_a_loss_that_is_no_number_is_shown() -> None:
    event = RunFinished(at=1.0, run="x", status="succeeded", exit_code=0, seconds=3.0, folder="/f",
                        log="/f/output.log", fault="", result={"loss": "NaN"})  # fmt: skip
    assert "loss        NaN" in (progress.words(event) or "")


def test_small_texts() -> None:
    assert [duration(s) for s in (None, 0, 59.6, 3599, 3600)] == [
        "-",
        "0:00",
        "1:00",
        "59:59",
        "1:00:00",
    ]
    assert [size(n) for n in (0, 999, 1000, 219_000_000, 2 * 10**12)] == [
        "0 B", "999 B", "1.0 kB", "219.0 MB", "2000.0 GB"]  # fmt: skip
    assert [age(t, 100_000) for t in (None, 100_500, 99_990, 99_900, 90_000, 0)] == [
        "-", "0 s", "10 s", "1 minute", "2 hours", "1 day"]  # fmt: skip
    assert moment(0) == "1970-01-01 00:00:00"
    coloured = click.style("b", fg="red")
    assert click.unstyle(table(["A", "LONG"], [[coloured, "c"], ["bbb", "d"]])) == (
        "A    LONG\nb    c\nbbb  d"
    )
