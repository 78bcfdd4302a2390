"""The plan: what will be built, and the words that say why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from repository import DIGEST, Executable, Files, graph_of, inputs_of, make_repository, stack_files

from arr.errors import RegistryError
from arr.stack import git
from arr.stack.graph import Graph
from arr.stack.inputs import Inputs, differences
from arr.stack.plan import Action, Found, Presence, Step, plan, reason

THERE = Found(Presence.PRESENT, DIGEST)
GONE = Found(Presence.ABSENT)
IMAGES: Mapping[str, Files] = {
    "base": {"Dockerfile": "FROM python:3.11\nARG TORCH=1\n", ".image-manifest": "base\n"},
    "ml": {"Dockerfile": "FROM base:latest\n", ".image-manifest": "a.py\nb.bin\nmany\n"},
    "trainer": {"Dockerfile": "FROM ml:latest\n", ".image-manifest": "t.py\n"},
}
FILES: Files = {
    "base": "x",
    "a.py": "1\n2\n3\n",
    "b.bin": b"\0",
    "many/0": "x",
    "t.py": "x",
    "new\nline": "",
}
TOML = '[images.base]\nfolder = "Stack/base"\nbuild_args.TORCH = "1"\n'


class World:
    """A stack at one commit, and then at another; what was built before is the first."""

    def __init__(self, folder: Path) -> None:
        self.repository = make_repository(folder)
        self.before = self.inputs()

    def inputs(self, files: Files | None = None, digest: str = DIGEST) -> dict[str, Inputs]:
        tree = {**stack_files(IMAGES, TOML), **FILES, **(files or {})}
        self.commit = self.repository.commit({p: c for p, c in tree.items() if c != "remove"})
        return inputs_of(self.commit, digest=digest)

    @property
    def graph(self) -> Graph:
        return graph_of(self.commit)

    def plan(
        self, now: Mapping[str, Inputs], there: frozenset[str] = frozenset(), first: bool = False
    ) -> dict[str, Step]:
        steps = plan(
            self.graph,
            now,
            {name: THERE if name in there else GONE for name in now},
            lambda name: None if first else self.before[name],
            lambda name: 90.0 if name == "ml" else None,
            lambda old, new: git.line_changes(self.repository.root, old, new),
        )
        return {step.image: step for step in steps}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_parents_first_with_all_that_a_plan_says(world: World) -> None:
    steps = world.plan(world.before, frozenset({"base"}))
    assert list(steps) == ["base", "ml", "trainer"]
    assert (steps["base"].action, steps["base"].reason) == (Action.REUSE, "unchanged")
    assert (steps["ml"].action, steps["ml"].parents) == (Action.BUILD, ("base",))
    assert steps["ml"].usual_seconds == 90.0
    assert steps["ml"].tag == world.before["ml"].fingerprint[-7:] == steps["ml"].fingerprint[-7:]
    assert steps["base"].found == THERE


REASONS: dict[str, tuple[Files, str, str]] = {
    "a file": ({"a.py": "1\nx\n3\n4\n"}, "ml", "a.py changed (+2 -1 lines)"),
    "a file that is no text": ({"b.bin": b"\0\1"}, "ml", "b.bin changed"),
    "a mode": (
        {"a.py": Executable("1\n2\n3\n")},
        "ml",
        "a.py changed its mode from 100644 to 100755",
    ),
    "a new file": ({"many/1": "y"}, "ml", "many/1 added"),
    "a file that went": ({"many/0": "remove", "many/1": "x"}, "ml", "many/0 removed, many/1 added"),
    "the Dockerfile": (
        {"Stack/ml/Dockerfile": "FROM base:latest\nRUN x\n"},
        "ml",
        "Stack/ml/Dockerfile changed (+1 -0 lines)",
    ),
    "a new ignore file": (
        {"Stack/ml/Dockerfile.dockerignore": "x\n"},
        "ml",
        "Stack/ml/Dockerfile.dockerignore added",
    ),
    "the parent": ({"base": "y"}, "ml", "parent base changed"),
    "the parent's parent": ({"base": "y"}, "trainer", "parent ml changed"),
    "its own change comes before the parent's": (
        {"base": "y", "t.py": "y"},
        "trainer",
        "t.py changed (+1 -1 lines), parent ml changed",
    ),
    "many": (
        {f"many/{number}": "y" for number in range(6)},
        "ml",
        "many/0 changed (+1 -1 lines), many/1 added, many/2 added and 3 more",
    ),
    "a manifest that selects more": (
        {"Stack/ml/.image-manifest": "a.py\nb.bin\nmany\nnew?line\n"},
        "ml",
        r"new\nline added",
    ),
    "a build argument": (
        {"Stack/stack.toml": stack_files(IMAGES, TOML.replace('"1"', '"2"'))["Stack/stack.toml"]},
        "base",
        "build argument TORCH changed",
    ),
    "a platform": (
        {
            "Stack/stack.toml": stack_files(IMAGES, TOML + 'platform = "linux/arm64"\n')[
                "Stack/stack.toml"
            ]
        },
        "base",
        "platform changed from linux/amd64 to linux/arm64",
    ),
    "a build context": (
        {"Stack/stack.toml": stack_files(IMAGES, TOML + 'context = "many"\n')["Stack/stack.toml"]},
        "base",
        "build context changed from . to many",
    ),
}


@pytest.mark.parametrize(("files", "image", "reason"), REASONS.values(), ids=REASONS.keys())
def test_reasons(world: World, files: Files, image: str, reason: str) -> None:
    step = world.plan(world.inputs(files))[image]
    assert step.action is Action.BUILD
    assert step.reason == reason


def test_a_base_that_moved(world: World) -> None:
    now = world.inputs(digest="sha256:" + "cd" * 32)
    assert world.plan(now)["base"].reason == "base python:3.11 moved"


def test_arguments_and_parents_that_come_and_go(world: World) -> None:
    node = world.graph.node("base")
    old = world.before["base"]
    new = replace(
        old, build_args={"X": "1"}, bases={"debian:12": DIGEST}, parents={"p": "f"}, ignore="i"
    )
    words = [d.phrase for d in differences(old, new, node)]
    assert words == [
        "Stack/base/Dockerfile.dockerignore added", "parent p added", "base debian:12 added",
        "base python:3.11 removed", "build argument TORCH removed", "build argument X added",
    ]  # fmt: skip
    assert reason(old, differences(old, new, node), lambda _a, _b: None) == (
        "Stack/base/Dockerfile.dockerignore added, base debian:12 added, base python:3.11 removed "
        "and 3 more"
    ), "what comes from a parent is said last"
    assert [str(d)[0] for d in differences(new, old, node)] == ["-", "-", "-", "+", "+", "-"]
    assert differences(old, old, node) == []


def test_never_built(world: World) -> None:
    steps = world.plan(world.before, first=True)
    assert {s.reason for s in steps.values()} == {"never built: not in this registry"}


def test_gone_from_the_registry(world: World) -> None:
    step = world.plan(world.before)["ml"]
    assert (
        step.reason == "not in this registry: this content was built before, but the image is gone"
    )
    assert step.changed == ()


def test_the_paths_that_changed_are_kept_for_the_programs(world: World) -> None:
    steps = world.plan(world.inputs({"a.py": "x", "base": "y", "many/0": Executable("x")}))
    assert steps["ml"].changed == ("a.py", "many/0")
    assert steps["trainer"].changed == ()


def test_without_the_old_content_the_reason_goes_without_lines(
    world: World, tmp_path: Path
) -> None:
    now = world.inputs({"a.py": "x"})
    shallow = world.repository.clone(tmp_path / "shallow", "--depth=1")
    world.repository = shallow
    assert world.plan(now)["ml"].reason == "a.py changed"


def test_an_image_that_is_there_is_never_asked_about(world: World) -> None:
    def never(name: str) -> Inputs | None:
        raise AssertionError(name)

    there = dict.fromkeys(world.before, THERE)
    steps = plan(world.graph, world.before, there, never, lambda _: None, lambda _a, _b: None)
    assert {step.action for step in steps} == {Action.REUSE}


def test_one_unknown_stops_the_whole_plan(world: World) -> None:
    found = {
        "base": THERE,
        "ml": Found(Presence.UNKNOWN, problem="https://r.example/v2/ml/manifests/1: 503"),
        "trainer": Found(
            Presence.UNKNOWN, problem="https://r.example/v2/trainer/manifests/2: timed out"
        ),
    }
    with pytest.raises(RegistryError) as caught:
        plan(world.graph, world.before, found, lambda _: None, lambda _: None, lambda _a, _b: None)
    assert caught.value.message == (
        "could not tell which images the registry holds:\n"
        "  https://r.example/v2/ml/manifests/1: 503\n"
        "  https://r.example/v2/trainer/manifests/2: timed out"
    )
    assert "Nothing was built" in caught.value.hint
    assert caught.value.exit_code == 6
