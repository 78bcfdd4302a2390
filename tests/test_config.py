"""Settings: arr.toml, then variables, then flags; and the nearest key for one that is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from arr import config
from arr.config import Settings
from arr.errors import ConfigError

FILE = """
target = "gcp"
[registry]
url = "https://file"
[engine]
name = "docker"
[build]
jobs = 3
"""


def test_without_a_file_there_are_defaults(tmp_path: Path) -> None:
    assert config.load(tmp_path, {}) == Settings()
    assert Settings().run.image == "arr-trainer"


def test_a_flag_goes_before_a_variable_and_that_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "arr.toml").write_text(FILE)
    environ = {"ARR_REGISTRY_URL": "https://variable", "ARR_ENGINE_NAME": "buildah", "OTHER": "x"}
    found = config.load(tmp_path, environ, {"engine.name": "docker", "target": None})
    assert found.target == "gcp"
    assert found.registry.url == "https://variable"
    assert found.engine.name == "docker"
    assert found.build.jobs == 3
    assert config.load(tmp_path, environ).engine.name == "buildah"


def test_text_becomes_a_number_and_an_empty_variable_counts_as_none(tmp_path: Path) -> None:
    environ = {"ARR_BUILD_JOBS": "5", "ARR_RUN_GPUS": "1", "ARR_REGISTRY_URL": ""}
    found = config.load(tmp_path, environ)
    assert (found.build.jobs, found.run.gpus, found.registry.url) == (5, 1, None)


@pytest.mark.parametrize("key", config.keys())
def test_every_key_has_a_variable(tmp_path: Path, key: str) -> None:
    values = {"target": "gcp", "build.jobs": "7", "run.gpus": "7", "engine.name": "docker"}
    value = values.get(key, "text")
    found: object = config.load(tmp_path, {"ARR_" + key.upper().replace(".", "_"): value})
    for part in key.split("."):
        found = getattr(found, part)
    assert str(found) == value


@pytest.mark.parametrize(("text", "wrong", "meant"), [
    ("[registy]\nurl = 'x'\n", "registy.url", "registry.url"),
    ("[registry]\nurls = 'x'\n", "registry.urls", "registry.url"),
    ("targt = 'local'\n", "targt", "target"),
])  # fmt: skip
def test_the_nearest_key_is_named(tmp_path: Path, text: str, wrong: str, meant: str) -> None:
    (tmp_path / "arr.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path, {})
    assert caught.value.message == f"{tmp_path}/arr.toml: unknown key {wrong}"
    assert caught.value.hint == f"Did you mean {meant}?"


def test_a_key_like_none_lists_them_all(tmp_path: Path) -> None:
    (tmp_path / "arr.toml").write_text("zzzzzz = 1\n")
    with pytest.raises(ConfigError, match="The keys are: target, registry"):
        config.load(tmp_path, {})


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "arr.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path, {})
    (tmp_path / "arr.toml").rmdir()
    (tmp_path / "arr.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        config.load(tmp_path, {})
