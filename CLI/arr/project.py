"""One clone of a stack: its commit, settings, stack, lock and history, opened together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from arr import config
from arr.config import Settings
from arr.errors import ConfigError, GitError
from arr.stack import git as gits
from arr.stack import graph as graphs
from arr.stack import inputs as inputses
from arr.stack import lock as locks
from arr.stack import stackfile
from arr.stack.git import Change, Commit
from arr.stack.graph import Graph
from arr.stack.inputs import Inputs
from arr.stack.lock import Lock, Pin
from arr.stack.manifest import Pattern
from arr.stack.stackfile import Stack
from arr.state import State


@dataclass(frozen=True)
class Project:
    """A clone at one commit, seen through its settings. Everything is read when it is asked for."""

    root: Path
    settings: Settings
    environ: Mapping[str, str]

    @property
    def target(self) -> str:
        return self.settings.target

    @property
    def arr_folder(self) -> Path:
        """Where history, logs, runs and the embedded registry's data lie; never committed."""
        return self.root / ".arr"

    @property
    def wheels(self) -> Path:
        """Where downloaded wheels are kept, for every clone of this user."""
        if self.settings.build.wheels:
            return self.root / self.settings.build.wheels
        import platformdirs

        return platformdirs.user_cache_path("arr") / "wheels"

    @cached_property
    def commit(self) -> Commit:
        return gits.commit_at(self.root)

    @cached_property
    def stack(self) -> Stack:
        self.commit.fetch((stackfile.PATH, locks.PATH))  # both, for one start of git
        return stackfile.parse(self._committed(stackfile.PATH, "describe the stack in it"))

    @cached_property
    def lock(self) -> Lock:
        if locks.PATH not in self.commit.tree:
            return Lock()
        return locks.parse(self.commit.text(locks.PATH))

    @cached_property
    def graph(self) -> Graph:
        return graphs.build(self.stack, self.commit, self.target)

    @cached_property
    def pins(self) -> Mapping[str, Pin]:
        """The target's pins. Raises ConfigError if a recipe changed since it was locked."""
        pins = self.lock.for_target(self.target)
        for reference, pin in pins.items():
            self._require_recipe(reference, pin)
        return pins

    @cached_property
    def inputs(self) -> Mapping[str, Inputs]:
        """The inputs of every image of the target, by name."""
        return inputses.of_graph(self.graph, self.commit, self.pins)

    @cached_property
    def state(self) -> State:
        return State(self.arr_folder)

    def dirty(self, graph: Graph, changes: Iterable[Change]) -> list[Change]:
        """Return those of `changes` (git.changes) that are inputs of the graph's images."""
        decisive = {stackfile.PATH, locks.PATH}
        patterns: list[Pattern] = []
        for node in graph:
            decisive |= {node.dockerfile.path, node.manifest.path}
            decisive |= {node.ignore_path} if node.ignore_path else set()
            patterns += node.manifest.for_target(graph.target)
        return [
            change
            for change in changes
            if change.path in decisive or any(p.matches(change.path) for p in patterns)
        ]

    def source_url(self) -> str:
        """Where this clone came from, without credentials; a folder of this machine is not said."""
        try:
            raw = gits.git(self.root, "config", "--get", "remote.origin.url").decode().strip()
        except GitError:
            return "local"
        if raw.startswith(("http://", "https://", "ssh://", "git://")):
            scheme, _, rest = raw.partition("://")
            host, slash, path = rest.partition("/")
            return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
        return raw if raw.startswith("git@") else "local"

    def _committed(self, path: str, what: str) -> str:
        if path not in self.commit.tree:
            raise ConfigError(
                f"there is no committed file {path} in {self.root}",
                f"Write it ({what}) and commit it; `arr` works on repositories with a stack.",
            )
        return self.commit.text(path)

    def _require_recipe(self, reference: str, pin: Pin) -> None:
        if pin.recipe is None:
            return
        recipe = self.stack.recipes.get(pin.recipe)
        if recipe is None or locks.recipe_hash(recipe) != pin.recipe_hash:
            raise ConfigError(
                f"the recipe {pin.recipe} of the base {reference} is not the one that "
                f"{locks.PATH} pins",
                f"`arr lock --update` takes it over; then commit {locks.PATH}.",
            )


def open_project(flags: Mapping[str, str | None], folder: Path | None = None) -> Project:
    """Open the clone around `folder` (the current one). Raises GitError, ConfigError."""
    root = gits.find_root(folder or Path.cwd())
    return Project(root, config.load(root, os.environ, flags), os.environ)
