"""How long each tool takes to find out that nothing is to be done: four images, all present."""

from __future__ import annotations

import subprocess
import sys

import bench
import by_hand
import services
from bench import ARR, Tool
from services import Bench

IMPORTS = "import arr.cli.main, arr.cli.commands.plan, arr.registry.client"


def tools(place: Bench) -> list[Tool]:
    """Make a repository a tool and bring it to the state in which nothing is stale."""
    own = {**place.environ, "ARR_ENGINE_NAME": "buildah"}
    own["ARR_ENGINE_STORE"] = str(place.folder / "arr-store")
    arr, docker, buildah = place.sample("arr"), place.sample("docker"), place.sample("buildah")
    press = place.sample("chartpress")
    chartpress, problem = services.install_chartpress(place)
    store = place.buildah("buildah")
    found = [
        Tool("arr plan", [*ARR, "plan"], arr.root, own),
        Tool("arr build", [*ARR, "build"], arr.root, own),
        Tool("docker build x4", place.script("docker", by_hand.docker_build(docker)),
             docker.root, place.environ),
        Tool("buildah build --layers x4",
             place.script("buildah", by_hand.buildah_build(buildah, store)),
             buildah.root, place.environ),
        Tool("chartpress --push", [chartpress, "--push"], press.root, place.environ,
             skipped=problem),
        Tool("floor: git ls-tree", ["git", "ls-tree", "-r", "HEAD"], arr.root, own),
        Tool("floor: python -c pass", [sys.executable, "-c", "pass"], arr.root, own),
        Tool("floor: python, arr's imports", [sys.executable, "-c", IMPORTS], arr.root, own),
    ]  # fmt: skip
    for tool in found[1:5]:
        if not tool.skipped:
            _bring_up(tool)
    return found


def _bring_up(tool: Tool) -> None:
    """Build everything once. A failure here shows up again, and in the table, when measured."""
    subprocess.run(
        tool.command, cwd=tool.folder, env=dict(tool.environ), capture_output=True, check=False
    )


def main() -> int:
    given = bench.arguments(__doc__ or "")
    with services.services() as place:
        rows = bench.measure(tools(place), given.rounds)
        return bench.report("noop", rows, given, bench.machine(place.environ))


if __name__ == "__main__":
    sys.exit(main())
