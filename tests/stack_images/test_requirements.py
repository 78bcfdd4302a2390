"""The images' pins are exact, complete and free of contradiction on each target's Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from .dockerfiles import STACK, global_arguments

PINS = re.compile(r"(?P<name>[a-z0-9]+(-[a-z0-9]+)*)==(?P<version>[0-9][a-z0-9.+]*)")
REQUIREMENTS = sorted(STACK.glob("*/requirements*.txt"))


@dataclass(frozen=True, slots=True)
class Environment:
    """What is installed together: the folders' pins, made from their .in files, on one Python."""

    python: str
    pins: tuple[str, ...]


BASE = "arr-pytorch-base/requirements"
GCP = Environment("3.12", (f"{BASE}-cuda", "arr-ml-stack/requirements"))
ENVIRONMENTS = {
    "local": Environment("3.11", (f"{BASE}-cpu", "arr-ml-stack/requirements")),
    "gcp": GCP,
    "gcp builder": Environment("3.12", (f"{BASE}-build",)),
    "launcher": Environment("3.11", ("arr-vertex-launcher/requirements",)),
}


def pins(text: str) -> dict[str, str]:
    """Return name -> version of the lines that are not comments; raise AssertionError at others."""
    matches = [PINS.fullmatch(line) for line in text.splitlines() if not line.startswith("#")]
    assert None not in matches, "a line that is no exact pin"
    return {m["name"]: m["version"] for m in matches if m}


def ids(path: Path) -> str:
    return str(path.relative_to(STACK))


@pytest.mark.parametrize("path", REQUIREMENTS, ids=ids)
def test_exact_pins_each_once_and_sorted(path: Path) -> None:
    names = [line.split("==")[0] for line in path.read_text().splitlines()]
    assert list(pins(path.read_text())) == names
    assert names == sorted(set(names))


@pytest.mark.parametrize("target", ["local", "gcp"])
def test_the_child_does_not_replace_what_the_parent_brings(target: str) -> None:
    parent, child = (pins((STACK / f"{p}.txt").read_text()) for p in ENVIRONMENTS[target].pins)
    assert {n: v for n, v in child.items() if parent.get(n, v) != v} == {}


def stub_wheel(folder: Path, name: str, version: str, requires: tuple[str, ...]) -> None:
    """Write a wheel that has nothing but metadata."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {r}\n" for r in requires)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def torches(tmp_path: Path) -> Path:
    """Return a folder of stubs: the torch that is compiled and the CPU wheel are in no index.

    What they require is what setup.py of 2.6.0 and the metadata of 2.13.0+cpu say. The local part
    `source` sets the compiled ones before the wheels of that version that an index has.
    """
    common = ("filelock", "fsspec", "jinja2", "networkx", "typing-extensions>=4.10.0")
    cpu = pins((STACK / "arr-pytorch-base/requirements-cpu.txt").read_text())["torch"]
    stub_wheel(tmp_path, "torch", cpu, (*common, "setuptools>=77.0.3", "sympy>=1.13.3"))
    arguments = global_arguments("arr-pytorch-base/Dockerfile")
    compiled = arguments["PYTORCH_VERSION"]
    stub_wheel(tmp_path, "torch", f"{compiled}+source", (*common, "setuptools", "sympy==1.13.1"))
    stub_wheel(
        tmp_path,
        "torchvision",
        f"{arguments['TORCHVISION_VERSION']}+source",
        ("numpy", "pillow>=5.3.0,!=8.3.*", f"torch=={compiled}"),
    )
    return tmp_path


def resolve(environment: Environment, find_links: Path, extra: str) -> dict[str, str]:
    """Return what the .in files and extra need when only the pinned versions may be had.

    Raises AssertionError with the resolver's words when they contradict each other.
    """
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    uv = shutil.which("uv", path=beside)
    assert uv, "uv resolves the pins here, as it made them: pip install uv"
    wanted = [str(STACK / f"{p}.in") for p in environment.pins]
    allowed = [f"--constraints={STACK / f'{p}.txt'}" for p in environment.pins]
    options = [
        "--quiet",
        "--no-header",
        "--no-annotate",
        "--no-python-downloads",  # it looks for a 3.12 to download, slowly
        "--only-binary=:all:",
        "--python-platform=x86_64-manylinux_2_28",
        f"--python-version={environment.python}",
        f"--find-links={find_links}",
        "--no-emit-index-url",
        "--no-emit-find-links",
    ]
    done = subprocess.run(
        [uv, "pip", "compile", *options, *allowed, *wanted, "-"],
        input=extra,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return pins(done.stdout)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_pins_are_the_whole_closure_and_agree(name: str, torches: Path) -> None:
    environment = ENVIRONMENTS[name]
    arguments = global_arguments("arr-pytorch-base/Dockerfile")
    compiled = {
        "torch": f"{arguments['PYTORCH_VERSION']}+source",
        "torchvision": f"{arguments['TORCHVISION_VERSION']}+source",
    }
    beside = compiled if environment is GCP else {}
    pinned = {
        n: v for p in environment.pins for n, v in pins((STACK / f"{p}.txt").read_text()).items()
    }
    extra = "".join(f"{n}=={v}\n" for n, v in beside.items())
    assert resolve(environment, torches, extra) == pinned | beside
