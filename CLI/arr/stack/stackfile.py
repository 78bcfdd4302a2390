"""`Stack/stack.toml`: the images of the stack, the bases, and how a base is obtained."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from typing import Literal, TypeVar

import msgspec

from arr.errors import ConfigError

PATH = "Stack/stack.toml"
TARGETS = ("local", "gcp")

T = TypeVar("T")


class Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One image. Where a value may differ by target it is a table `{local = ..., gcp = ...}`."""

    folder: str
    context: str = "."
    dockerfile: str | dict[str, str] = "Dockerfile"
    platform: str = "linux/amd64"
    build_args: dict[str, str | dict[str, str]] = {}
    requirements: str | dict[str, str] | None = None
    """The pinned Python requirements that its build installs from a wheelhouse."""
    python: str | dict[str, str] = "3.11"
    """The image's Python, for which the wheels are fetched."""
    smoke: list[str] | dict[str, list[str]] = []
    """A command that must end with 0 in the image before its tag is pushed."""
    resources: dict[str, str | int] = {}

    @property
    def repository(self) -> str:
        """The repository in the registry: the folder's name."""
        return self.folder.rstrip("/").rpartition("/")[2]

    def dockerfile_for(self, target: str) -> str | None:
        """The path of the Dockerfile for `target`, or None if the image has none for it."""
        name = _for_target(self.dockerfile, target)
        return f"{self.folder.rstrip('/')}/{name}" if name else None

    def build_args_for(self, target: str) -> dict[str, str]:
        found = {name: _for_target(value, target) for name, value in self.build_args.items()}
        return {name: value for name, value in found.items() if value is not None}

    def requirements_for(self, target: str) -> str | None:
        return _for_target(self.requirements, target)

    def python_for(self, target: str) -> str:
        return _for_target(self.python, target) or "3.11"

    def smoke_for(self, target: str) -> list[str]:
        return _for_target(self.smoke, target) or []


class Obtain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a target gets a base: pulled from its registry, made from a recipe, or what works."""

    obtain: Literal["pull", "make", "pull-or-make"] = "pull"
    recipe: str | None = None


class Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image from outside the stack."""

    local: Obtain = Obtain()
    gcp: Obtain = Obtain()

    def for_target(self, target: str) -> Obtain:
        return self.local if target == "local" else self.gcp


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A base made from Debian's packages by mmdebstrap, without any image hub."""

    suite: str
    packages: list[str]
    env: dict[str, str] = {}
    command: list[str] = []


class Stack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. `images` by name, `bases` by the reference that a FROM names."""

    images: dict[str, Image]
    bases: dict[str, Base] = {}
    recipes: dict[str, Recipe] = {}


def parse(text: str, path: str = PATH) -> Stack:
    """Read stack.toml. Raises ConfigError naming the key, its place and the nearest known key."""
    stack = convert(loads(text, path), Stack, path)
    if not stack.images:
        raise ConfigError(f"{path} names no image", "Add a table [images.NAME].")
    _require_own_names(stack, path)
    for reference, base in stack.bases.items():
        for target in TARGETS:
            _require_recipe(stack, path, reference, target, base.for_target(target))
    for name, image in stack.images.items():
        for key in ("dockerfile", "requirements", "python", "smoke"):
            _require_targets(path, f"images.{name}.{key}", getattr(image, key))
        for argument, value in image.build_args.items():
            _require_targets(path, f"images.{name}.build_args.{argument}", value)
    return stack


def loads(text: str, path: str) -> dict[str, object]:
    """Parse TOML. Raises ConfigError with the line for what is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        if twice := re.search(r"Cannot declare \('images', '([^']+)'\) twice", str(error)):
            raise ConfigError(
                f"{path}: two images have the name {twice[1]}: {error}", "Rename one of them."
            ) from error
        raise ConfigError(f"{path} is not valid TOML: {error}", "Correct that line.") from error


def convert(data: object, kind: type[T], path: str) -> T:
    """Return `data` as `kind`. Raises ConfigError for an unknown key or a wrong type."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        words = _in_words(_with_key(str(error), data, kind))
        raise ConfigError(f"{path}: {words}", _nearest(str(error), kind)) from error


def _with_key(error: str, data: object, kind: type[object]) -> str:
    """Put the key into msgspec's `$.images[...]`, by looking at the tables one at a time."""
    table = re.search(r"\$\.(\w+)\[\.\.\.\]", error)
    if not table or not isinstance(data, dict):
        return error
    others = {name: value for name, value in data.items() if not isinstance(value, dict)}
    empty: dict[str, object] = {name: {} for name, value in data.items() if isinstance(value, dict)}
    for key, value in data[table[1]].items():
        try:
            msgspec.convert({**others, **empty, table[1]: {key: value}}, kind)
        except msgspec.ValidationError as one:
            return str(one).replace(table[0], f"$.{table[1]}.{key}")
    return error


def _in_words(error: str) -> str:
    text, _, where = error.partition(" - at ")
    where = where.strip("`").removeprefix("$").removeprefix(".")
    text = text.replace("Object contains unknown field", "unknown key").replace(
        "Object missing required field", "there is no key"
    )
    return f"{text} in {where}" if where else text


def _nearest(error: str, kind: type[object]) -> str:
    unknown = re.search(r"unknown field `([^`]+)`", error)
    if not unknown:
        return "Add it." if "missing required" in error else "Correct the value."
    known = sorted(_field_names(kind))
    close = difflib.get_close_matches(unknown[1], known, 1)
    return f"Did you mean {close[0]}?" if close else f"The keys are: {', '.join(known)}."


def _field_names(kind: object, seen: frozenset[object] = frozenset()) -> set[str]:
    """The keys of a struct and of every struct in its fields."""
    names: set[str] = set()
    if kind in seen:
        return names
    for field in getattr(kind, "__struct_fields__", ()):
        names.add(field)
    for info in msgspec.inspect.type_info(kind).fields if names else ():  # type: ignore[attr-defined]
        for inner in (info.type, getattr(info.type, "value_type", None)):
            struct = getattr(inner, "cls", None)
            if struct is not None:
                names |= _field_names(struct, seen | {kind})
    return names


def _for_target(value: T | dict[str, T] | None, target: str) -> T | None:
    if isinstance(value, dict):
        return value.get(target)
    return value


def _require_own_names(stack: Stack, path: str) -> None:
    owners: dict[str, str] = {}
    for name, image in stack.images.items():
        other = owners.setdefault(image.repository, name)
        if other != name:
            raise ConfigError(
                f"{path}: two images have one name: {other} and {name} would both be pushed as "
                f"{image.repository}, the name of their folder",
                "Give one of them a folder of another name.",
            )


def _require_recipe(stack: Stack, path: str, reference: str, target: str, how: Obtain) -> None:
    where = f"{path}: bases.{reference}.{target}"
    if how.obtain != "pull" and how.recipe is None:
        raise ConfigError(f"{where}: {how.obtain} needs a recipe", "Add `recipe = NAME`.")
    if how.recipe is not None and how.recipe not in stack.recipes:
        close = difflib.get_close_matches(how.recipe, stack.recipes, 1)
        hint = f"Did you mean {close[0]}?" if close else f"Add a table [recipes.{how.recipe}]."
        raise ConfigError(f"{where}: there is no recipe {how.recipe}", hint)


def _require_targets(path: str, where: str, value: object) -> None:
    if not isinstance(value, Mapping):
        return
    for target in value:
        if target not in TARGETS:
            raise ConfigError(
                f"{path}: unknown target {target!r} in {where}",
                f"The targets are: {', '.join(TARGETS)}.",
            )
