"""Pinning the bases anew: `Stack/stack.lock` is written, and a person commits it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from arr.build import base
from arr.errors import ArrError, ConfigError
from arr.project import Project
from arr.stack import lock as locks
from arr.stack.lock import Pin
from arr.stack.stackfile import Obtain, Recipe


def update(project: Project, say: Callable[[str], None]) -> Mapping[str, Pin]:
    """Pin every base that the target's images use; write the lock file; return the target's pins.

    Raises RegistryError if a base that must be pulled cannot be looked up: nothing is written then.
    """
    used = {reference for node in project.graph for reference in node.bases}
    pins = {
        reference: _pin(
            reference,
            project.stack.bases[reference].for_target(project.target),
            project.stack.recipes,
            say,
        )
        for reference in sorted(used)
    }
    lock = msgspec.structs.replace(project.lock, **{project.target: pins})
    path = project.root / locks.PATH
    fresh = path.with_suffix(".lock.new")
    try:
        fresh.write_text(locks.dumps(lock), "utf-8")
        fresh.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}", "Mend its permissions.") from error
    say(f"wrote {locks.PATH}; commit it to use it")
    return pins


def _pin(
    reference: str, how: Obtain, recipes: Mapping[str, Recipe], say: Callable[[str], None]
) -> Pin:
    if how.obtain != "make":
        try:
            return Pin(digest=base.pull_digest(reference))
        except ArrError as error:
            if how.obtain == "pull":
                raise
            say(f"{reference}: its registry does not answer ({error.message}); it will be made")
    assert how.recipe is not None
    return Pin(recipe=how.recipe, recipe_hash=locks.recipe_hash(recipes[how.recipe]))
