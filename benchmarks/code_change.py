"""How long each tool takes from a committed one-line change of the code to the pushed image.

After every round the image is read back from the registry: a fast tool that pushes the old code is
shown as wrong. At the end the base is changed once, to see who rebuilds what builds on it.
"""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import bench
import by_hand
import services
from bench import ARR, Row, Tool
from sample import PARENTS, Sample
from services import Bench

from arr.errors import ArrError
from arr.registry.client import Registry

CODE, BASE = "app/train.py", "opt/base.txt"
Tag = Callable[[], str]


def latest() -> str:
    return "latest"


def tools(place: Bench) -> list[tuple[Tool, Sample, Tag]]:
    """Return each tool with its repository, and how the tag that it pushed is found."""
    docker, docker_all = place.sample("docker-leaf"), place.sample("docker-all")
    buildah, buildah_all = place.sample("buildah-leaf"), place.sample("buildah-all")
    press = place.sample("chartpress")
    chartpress, problem = services.install_chartpress(place)
    by_buildah = [("leaf", buildah, ["train"]), ("all four", buildah_all, list(PARENTS))]
    by_docker = [("leaf", docker, ["train"]), ("all four", docker_all, list(PARENTS))]
    found = [_arr(place, "buildah"), _arr(place, "docker")]
    for what, sample, parts in by_docker:
        script = place.script(sample.name, by_hand.docker_publish(sample, place.host, parts))
        found.append((_tool(f"docker by hand, {what}", script, sample, place), sample, latest))
    for what, sample, parts in by_buildah:
        lines = by_hand.buildah_publish(sample, place.buildah(sample.name), place.host, parts)
        script = place.script(sample.name, lines)
        found.append((_tool(f"buildah by hand, {what}", script, sample, place), sample, latest))
    own = replace(_tool("chartpress --push", [chartpress, "--push"], press, place), skipped=problem)
    found.append((own, press, lambda: _chartpress_tag(own, press)))
    return found


def bring_up(place: Bench, found: Sequence[tuple[Tool, Sample, Tag]]) -> None:
    """Build and push all four images once: what is measured is a change, not a first build."""
    first = {
        "docker-leaf": lambda s: by_hand.docker_publish(s, place.host),
        "buildah-leaf": lambda s: by_hand.buildah_publish(s, place.buildah(s.name), place.host),
    }
    for tool, sample, _tag in found:
        lines = first.get(sample.name)
        command = place.script(f"{sample.name}-first", lines(sample)) if lines else tool.command
        if not tool.skipped:
            subprocess.run(
                command, cwd=tool.folder, env=dict(tool.environ), capture_output=True, check=False
            )


def with_changes(place: Bench, tool: Tool, sample: Sample, tag: Tag) -> Tool:
    """The tool, with a change of the code before each round and a look at the image after it."""

    def check(number: int) -> str:
        return _verdict("code", _has(place, sample, tag(), CODE, f"round {number}"))

    return replace(tool, prepare=lambda n: sample.change_code(f"round {n}"), check=check)


def with_base_change(place: Bench, tool: Tool, sample: Sample, tag: Tag) -> Tool:
    """The tool, with a change of the base before it and a look at the leaf after it."""

    def check(_number: int) -> str:
        return _verdict("base change", _has(place, sample, tag(), BASE, "new base"))

    return replace(tool, prepare=lambda _: sample.change_base("new base"), check=check)


def _arr(place: Bench, engine: str) -> tuple[Tool, Sample, Tag]:
    sample = place.sample(f"arr-{engine}")
    tool = _tool(f"arr build, {engine}", [*ARR, "build"], sample, place)
    environ = {**tool.environ, "ARR_ENGINE_NAME": engine}
    environ["ARR_ENGINE_STORE"] = str(place.folder / "arr-store")
    return replace(tool, environ=environ), sample, latest


def _tool(name: str, command: Sequence[str | Path], sample: Sample, place: Bench) -> Tool:
    return Tool(name, command, sample.root, place.environ)


def _chartpress_tag(tool: Tool, sample: Sample) -> str:
    listing = subprocess.run(
        [tool.command[0], "--list-images"], cwd=tool.folder, env=dict(tool.environ),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listing.stdout.split():
        if f"/{sample.image('train')}:" in name:
            return name.rpartition(":")[2]
    raise RuntimeError(f"chartpress lists no {sample.image('train')}: {listing.stdout!r}")


def _has(place: Bench, sample: Sample, tag: str, path: str, line: str) -> bool:
    """Whether the leaf in the registry has the line in its file `path`; the topmost layer counts.

    Raises RuntimeError if the image is not there or cannot be read.
    """
    repository = sample.image("train")
    try:
        with Registry(f"http://{place.host}") as registry:
            for layer in reversed(registry.config(repository, tag).layers):
                content = _file(registry.blob(repository, layer.digest), path)
                if content is not None:
                    return f"# {line}" in content.splitlines()
    except ArrError as error:
        raise RuntimeError(error.message) from error
    return False


def _file(blob: bytes, path: str) -> str | None:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as archive:
        for member in archive:
            if member.name.removeprefix("./") == path and (file := archive.extractfile(member)):
                return file.read().decode("utf-8")
    return None


def _verdict(what: str, right: bool) -> str:
    return f"{what}: {'right' if right else 'WRONG: the leaf has the old content'}"


def main() -> int:
    given = bench.arguments(__doc__ or "")
    with services.services() as place:
        found = tools(place)
        bring_up(place, found)
        rows = bench.measure([with_changes(place, *each) for each in found], given.rounds)
        for each, row in zip(found, rows, strict=True):
            _change_base(place, each, row)
        return bench.report("code change", rows, given, bench.machine(place.environ))


def _change_base(place: Bench, each: tuple[Tool, Sample, Tag], row: Row) -> None:
    if not row.failed and not row.skipped:
        bench.once(with_base_change(place, *each), row, 0)


if __name__ == "__main__":
    sys.exit(main())
