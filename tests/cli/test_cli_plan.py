"""`arr plan`, `why`, `manifest`, `images`, `lock`: what is read, for a person and as JSON."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_stack import IMAGES, Clone

KEYS = ["image", "repository", "tag", "fingerprint", "parents", "presence", "action", "reason",
        "changed", "usual_seconds"]  # fmt: skip


@pytest.fixture
def only_git(tmp_path: Path) -> dict[str, str]:
    """A PATH that holds git and the registry's program, and no engine."""
    folder = tmp_path / "path"
    folder.mkdir()
    for program in ("git", "docker-registry"):
        found = shutil.which(program)
        assert found
        (folder / program).symlink_to(found)
    return {"PATH": str(folder), "ARR_ENGINE_NAME": ""}


def test_plan_of_what_was_never_built(clone: Clone, only_git: dict[str, str]) -> None:
    plan = clone.json("plan", expect=10, env=only_git)
    assert list(plan) == [
        "commit",
        "target",
        "registry",
        "images",
        "bases",
        "uncommitted",
        "warnings",
    ]
    rows = {row["image"]: row for row in plan["images"]}
    assert list(rows) == ["base", "side", "tools", "trainer"]  # parents first
    for row in rows.values():
        assert list(row) == KEYS
        assert (row["presence"], row["action"], row["changed"]) == ("absent", "build", [])
        assert row["reason"] == "never built: not in this registry"
        assert row["tag"] == row["fingerprint"][-7:]
        assert row["repository"] == row["image"]
        assert row["usual_seconds"] is None
    assert [rows[name]["parents"] for name in rows] == [[], [], ["base"], ["tools"]]
    assert not (clone.root / ".arr" / "registry").exists()  # a plan starts nothing for nothing


def test_plan_when_all_is_there_and_after_a_change(built: Clone, only_git: dict[str, str]) -> None:
    plan = built.json("plan", env=only_git)
    assert {row["action"] for row in plan["images"]} == {"reuse"}
    # None if another test's clone built the same content with this store before.
    assert all(row["usual_seconds"] is None or row["usual_seconds"] > 0 for row in plan["images"])
    built.change("src/tools.txt", "tools\nmore\n")
    rows = {r["image"]: r for r in built.json("plan", expect=10, env=only_git)["images"]}
    assert {name: row["action"] for name, row in rows.items()} == {
        "base": "reuse", "side": "reuse", "tools": "build", "trainer": "build",
    }  # fmt: skip
    assert rows["tools"]["reason"] == "src/tools.txt changed (+1 -0 lines)"
    assert rows["tools"]["changed"] == ["src/tools.txt"]
    assert rows["trainer"]["reason"] == "parent tools changed"
    text = built.arr("plan", "side", expect=0, env=only_git).stdout
    assert "side" in text
    assert "trainer" not in text


def test_why_and_images_here_and_from_another_clone(
    built: Clone, new_clone: Callable[..., Clone]
) -> None:
    old = built.json("plan")["images"][3]["tag"]
    built.change("src/run.sh", "echo other\n")
    built.change("Stack/trainer/Dockerfile", "FROM tools\nCOPY src/ /src/\n")
    built.change("src/extra.txt", "extra\n")
    built.change("Stack/trainer/.image-manifest", "src/**\n")

    here = built.arr("why", "trainer").stdout
    assert f"differs from {old} in:" in here
    assert "  ~ src/run.sh  (+1 -" in here
    assert "  + src/extra.txt" in here
    assert "  ~ Stack/trainer/Dockerfile" in here
    assert "nothing differs" in built.arr("why", "base").stdout

    other = new_clone("another machine", trainer="FROM base\nCOPY src/side.txt /\n")
    other.change("Stack/trainer/.image-manifest", "src/side.txt\n")
    with built.registry() as registry:
        other.environ["ARR_REGISTRY_URL"] = registry.url
    found = other.json("why", "trainer")
    assert found["against"] == old
    differences = {(d["sign"], d["kind"], d["name"]) for d in found["differences"]}
    assert differences == {
        ("~", "Dockerfile", "Stack/trainer/Dockerfile"),
        ("+", "file", "src/side.txt"), ("-", "file", "src/run.sh"),
        ("+", "parent", "base"), ("-", "parent", "tools"),
    }  # fmt: skip
    assert other.json("why", "trainer", "--against", old) == found
    rows = {r["image"]: r for r in other.json("plan", expect=10)["images"]}
    assert rows["base"]["action"] == "reuse"
    assert rows["trainer"]["changed"] == ["Stack/trainer/Dockerfile", "src/run.sh", "src/side.txt"]

    unknown = other.arr("why", "trainer", "--against", "0000000", expect=2)
    assert "keeps no inputs of trainer:0000000" in unknown.stderr
    assert "arr images history trainer" in unknown.stderr

    builds = other.json("images", "history", "trainer")["builds"]
    assert [(b["tag"], b["outcome"]) for b in builds] == [(old, "built")]
    assert builds[0]["reason"] == "never built: not in this registry"
    assert builds[0]["seconds"] >= 0
    assert other.arr("images", "history", "trainer").stdout.count(old) == 1


def test_images_say_when_they_were_built_not_when_the_commit_was_made(built: Clone) -> None:
    rows = built.json("images")["images"]
    assert [row["image"] for row in rows] == IMAGES
    for row in rows:
        assert set(row) == {"image", "repository", "tag", "digest", "size", "built_at",
                            "fingerprint", "in_plan", "aliases"}  # fmt: skip
        assert row["tag"] == row["fingerprint"][-7:]
        assert row["aliases"] == ["latest"]
        assert row["in_plan"] is True
        assert time.time() - row["built_at"] < 3600  # the commit is from 2023
    text = built.arr("images").stdout
    assert len(text.splitlines()) == 5
    assert "days" not in text
    assert len(built.json("images", "history", "trainer")["builds"]) == 1


def test_images_of_a_clone_that_built_nothing(clone: Clone) -> None:
    assert clone.json("images") == {"images": []}
    assert "no image of this stack" in clone.arr("images").stdout
    assert clone.json("images", "history", "tools") == {"image": "tools", "builds": []}
    assert clone.json("runs") == {"runs": []}
    assert "never built" in clone.arr("why", "tools").stdout
    assert clone.json("why", "tools")["against"] is None
    assert clone.json("registry", "status")["url"] is None
    assert clone.json("lock") == {"target": "local", "bases": {}}


def test_manifest_check_and_show(clone: Clone) -> None:
    assert "4 manifests list every file" in clone.arr("manifest", "check").stdout
    shown = clone.json("manifest", "show", "trainer")
    assert [file["path"] for file in shown["files"]] == ["src/run.sh"]
    assert "src/run.sh" in clone.arr("manifest", "show", "trainer").stdout
    clone.change("Stack/trainer/Dockerfile", "FROM tools\nCOPY src/run.sh src/tools.txt /\n")
    wrong = clone.arr("manifest", "check", expect=2)
    assert "src/tools.txt  (brought in by Stack/trainer/Dockerfile:2" in wrong.stderr
    found = clone.json("manifest", "check", "trainer", expect=2)["images"][0]
    assert found["unlisted"] == [{"path": "src/tools.txt", "line": 2}]
    assert clone.arr("plan", expect=2).stdout == ""
    clone.change("Stack/trainer/.image-manifest", "src/**\n")
    found = clone.json("manifest", "check", "trainer")["images"][0]
    assert found["unused"] == ["src/side.txt"]
    assert "warning" in clone.arr("manifest", "check", "trainer").stdout


def test_uncommitted_and_untracked_inputs_are_in_the_plan(clone: Clone) -> None:
    clone.change("Stack/trainer/.image-manifest", "**\n")
    (clone.root / "src" / "tools.txt").write_text("edited\n")
    (clone.root / "new file").write_text("new\n")
    expected = ["new file (untracked)", "src/tools.txt (uncommitted)"]
    assert sorted(clone.json("plan", "trainer", expect=10)["uncommitted"]) == expected
    # What arr itself writes into the clone is never an input.
    assert sorted(clone.json("plan", "trainer", expect=10)["uncommitted"]) == expected


@pytest.mark.parametrize("args", [("plan", "trainr"), ("why", "trainr"), ("build", "trainr"),
    ("manifest", "show", "trainr"), ("manifest", "check", "trainr"),
    ("images", "history", "trainr")], ids=" ".join)  # fmt: skip
def test_an_unknown_image_gives_the_nearest_name(clone: Clone, args: tuple[str, ...]) -> None:
    done = clone.arr(*args, expect=2)
    assert "there is no image trainr" in done.stderr or "no image trainr" in done.stderr
    assert "Did you mean trainer?" in done.stderr
    assert done.stdout == ""


def test_the_image_to_run_must_be_in_the_stack(clone: Clone) -> None:
    done = clone.arr("launch", expect=2, env={"ARR_RUN_IMAGE": "trainr"})
    assert "Did you mean trainer?" in done.stderr
    assert done.stdout == ""
