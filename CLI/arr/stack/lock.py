"""`Stack/stack.lock`: what each base is pinned to, per target.

A base that is pulled is pinned to its digest. One that is made from Debian's packages is pinned to
the hash of its recipe: Debian's mirror moves, so the bytes of another day could not be asked for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

import msgspec

from arr.errors import ConfigError
from arr.stack.stackfile import TARGETS, Recipe, convert, loads

PATH = "Stack/stack.lock"
# The part of a made base that is arr's own doing: raised when `build/base.py` changes the bytes.
MAKER = 1


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A base's pin: the digest it is pulled by, or the recipe it is made from and its hash."""

    digest: str | None = None
    recipe: str | None = None
    recipe_hash: str | None = None

    def identity(self) -> str:
        """What enters the fingerprints of the images that are built on it."""
        return self.digest or f"recipe:{self.recipe_hash}"

    def __str__(self) -> str:
        if self.digest:
            return f"pulled, {self.digest[:19]}"
        return f"made from Debian's packages, recipe {self.recipe} {(self.recipe_hash or '')[:14]}"


class Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pins by target and reference."""

    version: int = 1
    local: dict[str, Pin] = {}
    gcp: dict[str, Pin] = {}

    def for_target(self, target: str) -> Mapping[str, Pin]:
        return self.local if target == "local" else self.gcp


def parse(text: str, path: str = PATH) -> Lock:
    """Read stack.lock. Raises ConfigError for what `dumps` would not write."""
    data = loads(text, path)
    if isinstance(version := data.get("version"), int) and version != 1:
        raise ConfigError(f"{path} has version {version}; this arr reads version 1", "Upgrade arr.")
    lock = convert(data, Lock, path)
    for target in TARGETS:
        for reference, pin in lock.for_target(target).items():
            if bool(pin.digest) == bool(pin.recipe and pin.recipe_hash):
                raise ConfigError(
                    f"{path}: {target}.{reference} must have a digest or a recipe with its hash",
                    "Write it anew with `arr lock --update`.",
                )
            for value in filter(None, (pin.digest, pin.recipe_hash)):
                if not re.fullmatch(r"sha256:[0-9a-f]{64}", value):
                    raise ConfigError(
                        f"{path}: {target}.{reference}: {value!r} is not sha256: and 64 hex digits",
                        "Write it anew with `arr lock --update`.",
                    )
    return lock


def dumps(lock: Lock) -> str:
    """Return the text of stack.lock: the same pins give the same text."""
    lines = ["# Written by `arr lock --update`: what each base is pinned to. Commit it.", ""]
    lines.append(f"version = {lock.version}")
    for target in TARGETS:
        for reference, pin in sorted(lock.for_target(target).items()):
            lines += ["", f"[{target}.{_quoted(reference)}]"]
            lines += [f"{k} = {_quoted(v)}" for k, v in msgspec.to_builtins(pin).items()]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A string of TOML: JSON's form, but that TOML knows no surrogate pairs."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def recipe_hash(recipe: Recipe) -> str:
    """Return the hash of all that decides a made base, but the day's state of Debian's mirror."""
    facts = {"maker": MAKER, **msgspec.to_builtins(recipe)}
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode("utf-8")).hexdigest()
