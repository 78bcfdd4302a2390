"""A run as processes of its own: killed, told to stop, left by its launcher, two that are one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_runs import ROOT, assignments, points, result, weights

LONG = ("steps=40", "selector_steps=10", "save_every=3")
ENDLESS = "steps=1000000"
SCRIPT = "ARR_COC/Training/train.py"
PLAIN = (sys.executable, SCRIPT)
LAUNCH = (sys.executable, "-m", "ARR_COC.Training.launch")
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch")
ALONE = (*ACCELERATE, "--cpu", SCRIPT)
PAIR = (
    "--multi_gpu",
    "--num_processes=2",
    "--num_machines=1",
    "--mixed_precision=no",
    "--dynamo_backend=no",
    "--main_process_port=0",
)
ON_CPU = {"ACCELERATE_USE_CPU": "true"}


@contextmanager
def started(
    command: Sequence[str], environment: dict[str, str], *more: str
) -> Iterator[subprocess.Popen[str]]:
    """Start a run and hand it over once it has said that its first checkpoint is written."""
    process = subprocess.Popen(
        [*command, *assignments(*LONG, *more)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process:
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("checkpoint "):
                break
        else:
            raise AssertionError(f"the run ended before its first checkpoint:\n{said}")
        yield process


def newest_checkpoint(environment: dict[str, str]) -> str:
    folder = Path(environment["ARR_RUN_DIR"])
    return str(max(folder.glob("checkpoints/step-*")).relative_to(folder))


def done(
    command: Sequence[str], environment: dict[str, str], folder: Path, *more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *assignments(*more)],
        cwd=ROOT,
        env={**environment, "ARR_RUN_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_run_that_is_killed_goes_on_to_the_same_end(
    environment: dict[str, str], run_here: Callable[..., Path], tmp_path: Path
) -> None:
    with started(PLAIN, environment) as process:
        process.kill()
    assert process.returncode == -signal.SIGKILL
    killed = Path(environment["ARR_RUN_DIR"])
    assert not (killed / "result.json").exists()
    run_here(*LONG)
    assert result(killed)["resumed_from"].startswith("checkpoints/step-")
    whole = run_here(*LONG, folder=tmp_path / "whole")
    assert points(killed) == points(whole)
    assert weights(killed, 40) == weights(whole, 40)
    assert result(killed)["eval_loss"] == result(whole)["eval_loss"]


@pytest.mark.parametrize("command", [PLAIN, (*LAUNCH, "--cpu", "--")])
def test_sigterm_writes_a_checkpoint_and_says_so(
    environment: dict[str, str], command: Sequence[str]
) -> None:
    with started(command, environment, ENDLESS) as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)  # launchers pass it on a second time
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert f"stopped: SIGTERM received; {newest_checkpoint(environment)} is written" in said
    assert not (Path(environment["ARR_RUN_DIR"]) / "result.json").exists()


def test_a_run_whose_launcher_is_ended_stops_with_a_checkpoint_too(
    environment: dict[str, str],
) -> None:
    with started(ALONE, environment, ENDLESS) as launcher:
        launcher.send_signal(signal.SIGTERM)  # accelerate dies of it and tells nobody
        said, _ = launcher.communicate(timeout=60)  # the trainer holds the pipe until it ends
    assert f"stopped: the launcher has ended; {newest_checkpoint(environment)} is written" in said


def test_the_launch_gives_the_trainers_own_exit_code(
    environment: dict[str, str], tmp_path: Path
) -> None:
    launch = (*LAUNCH, "--cpu", "--")  # accelerate makes it a 1
    assert done(launch, environment, tmp_path, "steps=0").returncode == 2


def test_as_process_one_the_launch_waits_until_the_checkpoint_is_written(
    environment: dict[str, str],
) -> None:
    own = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if os.getuid() != 0 or subprocess.run([*own, "true"], check=False).returncode:
        pytest.skip("needs the right to make a process namespace")
    with started((*own, *LAUNCH), environment, ENDLESS) as process:
        children = subprocess.run(
            ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
        )
        os.kill(int(children.stdout.split()[0]), signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert f"{newest_checkpoint(environment)} is written" in said


def test_two_processes_are_one_with_two_micro_batches(
    environment: dict[str, str], run_here: Callable[..., Path], tmp_path: Path
) -> None:
    one = run_here("accumulate=2", "eval_every=2", folder=tmp_path / "one")
    pair = (*ACCELERATE, *PAIR, SCRIPT)
    two = done(pair, environment | ON_CPU, tmp_path / "two", "eval_every=2")
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("step 6/6") == 1
    alike(tmp_path / "two", one)


def test_two_processes_stop_together_with_the_exit_code_of_the_signal(
    environment: dict[str, str],
) -> None:
    with started((*LAUNCH, *PAIR, "--"), environment | ON_CPU, ENDLESS) as process:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=90)
    assert process.returncode == 143, said
    assert f"{newest_checkpoint(environment)} is written" in said


def test_sharded_weights_learn_the_same_and_go_on_from_their_checkpoint(
    environment: dict[str, str], run_here: Callable[..., Path], tmp_path: Path
) -> None:
    one = run_here("accumulate=2", folder=tmp_path / "one")
    file = str(ROOT / "ARR_COC/Training/accelerate/fsdp.yaml")
    driver = str(Path(__file__).with_name("sharded_on_cpu.py"))
    sharded = (*ACCELERATE, "--config_file", file, "--main_process_port=0", driver)
    for resumed in (None, "checkpoints/step-00000003"):
        two = done(sharded, environment | ON_CPU, tmp_path / "two", "keep_checkpoints=9")
        assert two.returncode == 0, two.stderr[-3000:]
        assert result(tmp_path / "two")["resumed_from"] == resumed
        alike(tmp_path / "two", one)
        for step in (4, 6):
            (tmp_path / f"two/checkpoints/step-{step:08d}/state.json").unlink()


def alike(ours: Path, theirs: Path) -> None:
    for one, other in zip(points(ours), points(theirs), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
    name = "checkpoints/step-00000006/model.safetensors"
    first, second = load_file(ours / name), load_file(theirs / name)
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], atol=3e-4, rtol=0)
    assert result(ours)["train_examples"] == result(theirs)["train_examples"]
