"""Settings: `arr.toml` at the top of the repository, then environment variables, then flags."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from arr.errors import ConfigError

FILE = "arr.toml"


class RegistrySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`url`: the registry to use; without one, target `local` uses the embedded registry."""

    url: str | None = None


class EngineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`name`: docker or buildah; without one, what is found. `store`: a folder for buildah."""

    name: Literal["docker", "buildah"] | None = None
    store: str | None = None


class BuildSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`jobs`: images built at once. `wheels`: folder of downloaded wheels."""

    jobs: Annotated[int, msgspec.Meta(ge=1)] = 2
    wheels: str | None = None


class RunSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`image`: the image whose run a launch starts. `gpus`: GPUs the run may see."""

    image: str = "arr-trainer"
    gpus: Annotated[int, msgspec.Meta(ge=0)] = 0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    target: Literal["local", "gcp"] = "local"
    registry: RegistrySettings = RegistrySettings()
    engine: EngineSettings = EngineSettings()
    build: BuildSettings = BuildSettings()
    run: RunSettings = RunSettings()


_SECTIONS: dict[str, Any] = {
    "registry": RegistrySettings,
    "engine": EngineSettings,
    "build": BuildSettings,
    "run": RunSettings,
}


def load(
    root: Path, environ: Mapping[str, str], flags: Mapping[str, str | None] | None = None
) -> Settings:
    """Return the settings of the repository at `root`.

    `flags` are command-line values by dotted key (`engine.name`); None means not given. A variable
    is `ARR_` and the key in capitals, dots as underscores: ARR_ENGINE_NAME. Raises ConfigError with
    file or variable, key, and the nearest known key.
    """
    settings = _from_file(root / FILE)
    for key, value in _from_environ(environ).items():
        settings = _with(settings, key, value, _variable(key))
    for key, flag in (flags or {}).items():
        if flag is not None:
            settings = _with(settings, key, flag, f"--{key}")
    return settings


def keys() -> list[str]:
    """Every dotted key there is."""
    found = ["target"]
    for section, kind in _SECTIONS.items():
        found += [f"{section}.{field}" for field in kind.__struct_fields__]
    return found


def _from_file(path: Path) -> Settings:
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Settings()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", "Correct that line.") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}", "Check its permissions.") from error
    for name, value in data.items():
        section = _SECTIONS.get(name)
        inner = [f"{name}.{key}" for key in value] if isinstance(value, dict) else []
        for key in inner or [name]:
            if key not in keys() and not (section and key == name):
                raise _unknown(f"{path}: unknown key {key}", key)
    try:
        return msgspec.convert(data, Settings)
    except msgspec.ValidationError as error:
        words = str(error).replace(" - at `$.", " in ").rstrip("`")
        raise ConfigError(f"{path}: {words}", "Correct the value.") from error


def _from_environ(environ: Mapping[str, str]) -> dict[str, str]:
    known = {_variable(key): key for key in keys()}
    return {known[name]: value for name, value in environ.items() if name in known and value}


def _variable(key: str) -> str:
    return "ARR_" + key.upper().replace(".", "_")


def _with(settings: Settings, key: str, value: str, where: str) -> Settings:
    section, _, field = key.rpartition(".")
    holder = getattr(settings, section) if section else settings
    data = msgspec.to_builtins(holder)
    data[field] = value
    try:
        changed = msgspec.convert(data, type(holder), strict=False)
    except msgspec.ValidationError as error:
        words = str(error).partition(" - at")[0]
        raise ConfigError(f"{where}={value}: {words}", "Correct the value.") from error
    return msgspec.structs.replace(settings, **{section: changed}) if section else changed


def _unknown(message: str, key: str) -> ConfigError:
    close = difflib.get_close_matches(key, keys(), 1, 0.5)
    return ConfigError(
        message, f"Did you mean {close[0]}?" if close else f"The keys are: {', '.join(keys())}."
    )
