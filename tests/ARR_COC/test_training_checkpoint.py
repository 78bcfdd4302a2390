"""Checkpoints: whole or not there, and enough to go on from."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from training_runs import assignments, forget_accelerate, result

from ARR_COC.Training import atomic, checkpoint, train
from ARR_COC.Training.checkpoint import Best, Checkpoint, Checkpoints, SaveError
from ARR_COC.Training.storage import Folder, Remote, Storage

Writer = Callable[..., None]


def of_step(step: int) -> Checkpoint:
    return Checkpoint(step, "reader", 1.5, 10, None, {"seed": 0})


@pytest.fixture(params=["folder", "remote"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return Folder(tmp_path / "checkpoints", "checkpoints")
    return Remote(f"file://{tmp_path}/checkpoints", tmp_path / "drafts")


@pytest.fixture
def kept(storage: Storage) -> Checkpoints:
    return Checkpoints(storage, keep=2)


def weights(folder: Path, numbers: int = 100) -> None:
    (folder / "selector").mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"w": torch.zeros(numbers)}, folder / "model.safetensors")
    save_file({"w": torch.zeros(5)}, folder / "selector/selector.safetensors")


def write(kept: Checkpoints, *steps: int, best: Best | None = None) -> None:
    for step in steps:
        kept.save(of_step(step), weights, {"optimizer": {}})
        kept.prune(best)


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "checkpoints").iterdir())


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path, kept: Checkpoints) -> None:
    best = Best(selecting=False, accuracy=0.5, step=1, checkpoint="step-00000001")
    write(kept, 1)
    kept.crown(best)
    write(kept, 2, 3, 10, best=best)
    assert names(tmp_path) == ["best.json", "step-00000001", "step-00000003", "step-00000010"]
    assert kept.latest() == (of_step(10), [])
    assert kept.best(until=10) == best
    assert kept.best(until=0) is None


def test_one_with_a_selector_is_better_than_any_without() -> None:
    assert Best(True, 0.1, 5, "") > Best(False, 0.9, 4, "")
    assert Best(True, 0.1, 6, "") > Best(True, 0.1, 5, "")


def test_an_empty_folder_has_none(kept: Checkpoints) -> None:
    assert kept.latest() == (None, [])
    assert kept.best(until=9) is None


@pytest.mark.parametrize(
    "damage",
    [
        "model.safetensors",
        "progress.pt",
        "state.json",
        "selector/selector.safetensors",
        "config.json",
    ],
)
def test_a_half_written_one_is_passed_over_and_named(
    tmp_path: Path, kept: Checkpoints, damage: str
) -> None:
    write(kept, 1, 2)
    file = tmp_path / "checkpoints/step-00000002" / damage
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    found, passed_over = kept.latest()
    assert found == of_step(1)
    assert len(passed_over) == 1
    assert "step-00000002 is not complete" in passed_over[0]


@pytest.mark.parametrize("damage", ["model.safetensors", "progress.pt"])
def test_one_of_the_right_size_that_cannot_be_read_is_passed_over_too(
    tmp_path: Path, kept: Checkpoints, damage: str
) -> None:
    write(kept, 1, 2)
    file = tmp_path / "checkpoints/step-00000002" / damage
    file.write_bytes(b"\xff" * file.stat().st_size)
    found, passed_over = kept.latest()
    assert found == of_step(1)
    assert "cannot be read" in passed_over[0]


@pytest.mark.parametrize("state", ["[]", "{}", '{"files": []}', '{"files": {}, "format": "2"}'])
def test_a_state_of_another_kind_is_passed_over(
    tmp_path: Path, kept: Checkpoints, state: str
) -> None:
    write(kept, 1, 2)
    (tmp_path / "checkpoints/step-00000002/state.json").write_text(state)
    found, passed_over = kept.latest()
    assert found == of_step(1)
    assert len(passed_over) == 1


def test_an_attempt_that_dies_before_the_end_is_never_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Checkpoints(Folder(tmp_path / "checkpoints", "checkpoints"), keep=2)
    write(kept, 1)

    def die(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "publish", die)
        with pytest.raises(KeyboardInterrupt):
            write(kept, 2)
    assert ".step-00000002.tmp" in names(tmp_path)
    assert kept.latest() == (of_step(1), [])
    write(kept, 3)
    assert names(tmp_path) == ["step-00000001", "step-00000003"]


@pytest.mark.parametrize("files", range(5))
def test_an_upload_that_breaks_off_is_never_taken_for_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    remote = Remote(f"file://{tmp_path}/checkpoints", tmp_path / "drafts")
    kept = Checkpoints(remote, keep=2)
    write(kept, 1)
    stock, sent = remote._system.put_file, []

    def put_file(local: str, there: str) -> None:
        if len(sent) == files:
            raise ConnectionResetError("connection reset")
        sent.append(there)
        stock(local, there)

    monkeypatch.setattr(remote._system, "put_file", put_file)
    with pytest.raises(SaveError, match=r"step-00000002 could not be written .*connection reset"):
        write(kept, 2)
    assert len(sent) == files
    assert not list((tmp_path / "drafts").iterdir())
    monkeypatch.undo()
    assert kept.latest()[0] == of_step(1)
    write(kept, 2)
    assert kept.latest() == (of_step(2), [])


def test_one_step_can_be_written_twice(tmp_path: Path, kept: Checkpoints) -> None:
    write(kept, 1, 1)
    assert names(tmp_path) == ["step-00000001"]


def test_the_random_generators_go_on_where_they_were(kept: Checkpoints) -> None:
    write(kept, 1)
    expected = (torch.rand(3).tolist(), np.random.random(3).tolist(), random.random())
    with kept.open("step-00000001") as folder:
        assert checkpoint.load_progress(folder) == {"optimizer": {}}
    assert (torch.rand(3).tolist(), np.random.random(3).tolist(), random.random()) == expected


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Let every write that makes a file longer than `size` bytes fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_a_write_that_fails_leaves_the_earlier_ones_and_no_draft(
    tmp_path: Path, kept: Checkpoints, size: int
) -> None:
    write(kept, 1)
    with file_limit(size), pytest.raises(SaveError, match="step-00000002 could not be written"):
        kept.save(of_step(2), lambda folder: weights(folder, 5000), {"optimizer": {}})
    assert not list(tmp_path.rglob("*.tmp"))
    assert kept.latest() == (of_step(1), [])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB; skipped where this user may not mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if os.getuid() != 0 or mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_stops_the_run_and_names_the_last_good_checkpoint(
    small_disk: Path, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    environment["ARR_RUN_DIR"] = str(small_disk / "run")
    more = ("save_every=1", "keep_checkpoints=9")
    assert train.main(assignments(*more), environment) == 1
    forget_accelerate()
    said = capsys.readouterr().err
    assert "No space left on device" in said
    good = sorted((small_disk / "run/checkpoints").glob("step-*"))
    assert good
    assert f"the last good one is checkpoints/{good[-1].name}" in said
    assert not list(small_disk.rglob("*.tmp"))
    assert not (small_disk / "run/result.json").exists()
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    assert train.main(assignments(*more), environment) == 0
    assert result(small_disk / "run")["resumed_from"] == f"checkpoints/{good[-1].name}"


def test_checkpoints_can_lie_at_a_remote_address(
    environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment["AIP_CHECKPOINT_DIR"] = "memory://bucket/run"
    assert train.main(assignments("steps=3", "selector_steps=0"), environment) == 0
    forget_accelerate()
    assert train.main(assignments("steps=5", "selector_steps=2"), environment) == 0
    folder = Path(environment["ARR_RUN_DIR"])
    assert result(folder)["resumed_from"] == "memory://bucket/run/step-00000003"
    assert result(folder)["checkpoint"] == "memory://bucket/run/step-00000005"
    assert "going on from memory://bucket/run/step-00000003" in capsys.readouterr().out
    assert not list(folder.rglob("*.safetensors"))
    written = json.loads((folder / "result.json").read_text())
    from ARR_COC.loading import load

    arr, _ = load(written["best"])
    assert arr.selector is not None
    assert load("memory://bucket/run")[0].selector is not None


def test_a_remote_place_that_cannot_be_written_is_told_before_training(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(assignments("checkpoint_dir=nowhere://x/y"), environment) == 2
    said = capsys.readouterr().err
    assert "checkpoint_dir=nowhere://x/y: cannot write there" in said


def test_a_bucket_without_its_package_is_told_before_training(
    environment: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    assert train.main(assignments("checkpoint_dir=gs://bucket/run"), environment) == 2
    assert "a package is missing to write there" in capsys.readouterr().err
