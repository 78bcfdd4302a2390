"""What the image is made of: all of its folder's code, and a README that says what it does."""

from __future__ import annotations

import re
import sys
import tomllib

import pytest
from small_stack import TOP
from stack_images.dockerfiles import instructions

from arr.jobs.fault_table import load
from arr.stack.glob import docker_glob

IMAGE = TOP / "Stack" / "arr-vertex-launcher"
README = (IMAGE / "README.md").read_text("utf-8")
# Not for the image: how it is made, and what is written about it.
ABOUT = {"Dockerfile", "Dockerfile.dockerignore", ".image-manifest", "README.md", "requirements.in"}

sys.path.insert(0, str(IMAGE))
import watch_options  # noqa: E402


def copied() -> list[tuple[list[str], str]]:
    """The sources and the target of each COPY."""
    words = [i.arguments.split() for i in instructions("arr-vertex-launcher/Dockerfile")
             if i.keyword == "COPY"]  # fmt: skip
    return [(sources, target) for *sources, target in words]


def test_every_file_is_copied_to_one_place() -> None:
    """A module that was forgotten would be missed in the cloud only."""
    names = {path.name for path in IMAGE.iterdir() if path.is_file()} - ABOUT
    found = {
        name: [
            target for sources, target in copied() for s in sources if docker_glob(s).match(name)
        ]
        for name in names
    }
    assert {name: to for name, to in found.items() if len(to) != 1} == {}


def test_the_packages_are_installed_before_our_own_files_come() -> None:
    """So that a change of ours takes seconds."""
    steps = instructions("arr-vertex-launcher/Dockerfile")
    pip = next(n for n, i in enumerate(steps) if "pip install" in i.arguments)
    copies = [n for n, i in enumerate(steps) if i.keyword == "COPY"]
    assert [n for n in copies if n < pip] == copies[:1]
    assert steps[copies[0]].arguments.startswith("requirements.txt ")


def test_the_readme_has_every_class_with_its_exit_code() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d+) \| \S", README, re.MULTILINE)
    kinds = load(TOP).kinds.values()
    own = [(name, int(code)) for name, code in rows]
    assert own == sorted(((kind.name, kind.exit_code) for kind in kinds), key=lambda row: row[1])


@pytest.mark.parametrize(
    ("name", "default"),
    [*((n, d) for n, d, _ in watch_options.SETTINGS), ("silence-timeout", watch_options.SILENCE)],
)
def test_the_readme_has_every_time_with_its_default(name: str, default: float) -> None:
    variable = "ARR_" + name.upper().replace("-", "_")
    assert f"| `{variable}` | {default:g} |" in README


def test_the_readme_has_the_pinned_versions() -> None:
    pins = (IMAGE / "requirements.txt").read_text("utf-8")
    wandb = re.findall(r"^wandb==(\S+)", pins, re.MULTILINE)
    vertex = re.findall(r"^google-cloud-aiplatform==(\S+)", pins, re.MULTILINE)
    assert f"`wandb[launch]` {wandb[0]} and `google-cloud-aiplatform` {vertex[0]} with" in README


def test_the_smoke_test_goes_through_the_entry_point() -> None:
    """Engines run it in place of the entry point, which would so never be tried."""
    stack = tomllib.loads((TOP / "Stack" / "stack.toml").read_text("utf-8"))
    entry = [i for i in instructions("arr-vertex-launcher/Dockerfile") if i.keyword == "ENTRYPOINT"]
    smoke = stack["images"]["arr-vertex-launcher"]["smoke"]
    assert entry[-1].arguments == f'["{smoke[0]}"]'
