"""`arr faults`: a log explained, in words and as JSON."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import Repository
from scratch_stack import Done
from small_stack import TOP

LOG = b"""hello
wandb: ERROR launch: Error running job: Failed to create Vertex job: 429 Quota exceeded: L4
WARNING 503 Service Unavailable, retrying in 5 s
\xff\xfe not UTF-8
"""


@pytest.fixture
def clone(repository: Repository) -> Path:
    folder = repository.root / "Stack/arr-vertex-launcher"
    folder.mkdir(parents=True)
    for path in (TOP / "Stack/arr-vertex-launcher").glob("faults*"):
        shutil.copy(path, folder)
    (repository.root / "agent.log").write_bytes(LOG)
    return repository.root


def test_a_log_is_explained(arr: Callable[..., Done], clone: Path) -> None:
    done = arr(clone, "faults", "explain", "agent.log")
    assert done.code == 0
    assert done.out.startswith("quota: ")
    assert "429 Quota exceeded: L4" in done.out
    assert "what to do: " in done.out
    assert "retry: no; block: region, GPU and spot for 60 min" in done.out


def test_as_json(arr: Callable[..., Done], clone: Path) -> None:
    found = json.loads(arr(clone, "faults", "explain", "agent.log", "--json").out)
    assert (found["class"], found["fatal"], found["line"]) == ("quota", True, 2)
    assert len(found["evidence"]) == 1
    assert found["advice"]


def test_every_line_by_itself(arr: Callable[..., Done], clone: Path) -> None:
    done = arr(clone, "faults", "explain", "agent.log", "--each-line")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["class"] for row in rows] == ["none", "quota", "none", "none"]
    assert [row["fatal"] for row in rows] == [False, True, False, False]
    assert rows[2]["speaks_of"] == "unavailable"
    assert arr(clone, "faults", "explain", "agent.log", "--each-line", "--json").out == done.out


def test_standard_input(
    arr: Callable[..., Done], clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"CUDA out of memory.")))
    assert json.loads(arr(clone, "faults", "explain", "-", "--json").out)["class"] == "oom"


@pytest.mark.parametrize("log", [b"", b"all is well\n", b"ERROR 503 Bad, retrying in 5 s\n"])
def test_a_log_without_a_fault(arr: Callable[..., Done], clone: Path, log: bytes) -> None:
    (clone / "agent.log").write_bytes(log)
    done = arr(clone, "faults", "explain", "agent.log")
    assert (done.code, done.out.splitlines()[0][:14]) == (0, "no fault found")
    found = json.loads(arr(clone, "faults", "explain", "agent.log", "--json").out)
    assert found == {"class": "none", "fatal": False, "evidence": [], "advice": ""}


@pytest.mark.parametrize("name", ["none.log", "."])
def test_a_file_that_cannot_be_read(arr: Callable[..., Done], clone: Path, name: str) -> None:
    done = arr(clone, "faults", "explain", name)
    assert done.code == 2
    assert name in done.err


def test_standard_input_that_is_closed(
    arr: Callable[..., Done], clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    done = arr(clone, "faults", "explain", "-")
    assert (done.code, "standard input is closed" in done.err) == (2, True)


def test_what_is_no_text_does_no_harm_to_a_terminal(arr: Callable[..., Done], clone: Path) -> None:
    fault = b"\x1b[31mResourceExhausted: 429 \x1b]0;title\x07quota\x1b[0m\x00"
    every_byte = bytes(range(256)) * 100
    (clone / "agent.log").write_bytes(every_byte + b"\n" + fault + b" x" * 50_000 + b"\n")
    done = arr(clone, "faults", "explain", "agent.log")
    assert done.out.startswith("quota: ")
    assert all(c.isprintable() or c in "\n\t" for c in done.out)
    assert max(map(len, done.out.splitlines())) < 1100


def test_a_line_without_end_is_read_in_pieces(
    arr: Callable[..., Done], clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arr.cli.commands.faults.PIECE", 100)
    (clone / "agent.log").write_bytes(b"x" * 1000)
    assert len(arr(clone, "faults", "explain", "agent.log", "--each-line").out.splitlines()) == 10


def test_the_classes(arr: Callable[..., Done], clone: Path) -> None:
    out = arr(clone, "faults", "list").out
    assert len(out.splitlines()) == 14
    assert "stockout" in out
    classes = json.loads(arr(clone, "faults", "list", "--json").out)["classes"]
    assert {row["exit_code"] for row in classes} == set(range(10, 23))


def test_the_clones_own_table_is_used(arr: Callable[..., Done], clone: Path) -> None:
    path = clone / "Stack/arr-vertex-launcher/faults.toml"
    path.write_text(path.read_text("utf-8").replace("exit_code = 10", "exit_code = 29"), "utf-8")
    assert "29" in arr(clone, "faults", "list").out
    path.write_text("[quota]\n", "utf-8")
    done = arr(clone, "faults", "list")
    assert done.code == 2
    assert "faults.toml" in done.err


def test_a_stack_without_the_launcher(arr: Callable[..., Done], repository: Repository) -> None:
    done = arr(repository, "faults", "list")
    assert done.code == 2
    assert "Stack/arr-vertex-launcher/faults.py" in done.err
