"""Settings: a TOML file, then ARR_TRAIN_<KEY>, then --set key=value; each value strictly typed.

Types and bounds are the fields of Settings; defaults are in settings.toml, and nowhere else.
"""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

DEFAULT_FILE = Path(__file__).with_name("settings.toml")
ENVIRONMENT_PREFIX = "ARR_TRAIN_"


class SettingsError(Exception):
    """A setting that cannot be used; the message says which, where it came from, and what fits."""


def _whole(least: int, most: int | None = None) -> Any:
    return field(metadata={"least": least, "most": most})


def _number(least: float, most: float | None = None) -> Any:
    return field(metadata={"least": least, "most": most})


def _choice(*choices: str) -> Any:
    return field(metadata={"choices": choices})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One run's settings, all of them resolved. settings.toml says what each one means."""

    steps: int = _whole(1)
    selector_steps: int = _whole(0)
    batch: int = _whole(1)
    questions: int = _whole(1, 64)
    accumulate: int = _whole(1)
    learning_rate: float = _number(0.0)
    selector_learning_rate: float = _number(0.0)
    schedule: str = _choice("cosine", "linear")
    warmup: float = _number(0.0, 1.0)
    beta2: float = _number(0.0, 0.9999)
    weight_decay: float = _number(0.0)
    clip: float = _number(1e-6)
    seed: int = _whole(0)
    model: str
    model_revision: str
    attention: str = _choice("sdpa", "eager")
    train: str = _choice("full", "lora", "selector")
    lora_rank: int = _whole(1, 1024)
    lora_alpha: float = _number(1e-6)
    selector_width: int = _whole(1, 4096)
    balance: str = _choice("learned", "thirds", "propositional", "perspectival", "participatory")
    signal: str = _choice("attention", "log_gate", "straight_through", "multiply", "policy")
    budget: float = _number(1e-6, 1.0)
    gestalt: float = _number(0.0, 0.999)
    where: str = _choice("before", "after")
    data: str
    data_image: str
    data_question: str
    data_answer: str
    data_split: str
    data_eval_split: str
    data_revision: str
    min_pixels: int = _whole(32 * 32)
    max_pixels: int = _whole(32 * 32)
    mixed_precision: str = _choice("no", "bf16", "auto")
    threads: int = _whole(1)
    gradient_checkpointing: bool
    eval_every: int = _whole(0)
    eval_examples: int = _whole(1)
    log_every: int = _whole(1)
    save_every: int = _whole(1)
    keep_checkpoints: int = _whole(1)
    checkpoint_dir: str
    hub_upload: str
    wandb_project: str
    run_name: str

    @property
    def reader_steps(self) -> int:
        """Return how many of the steps train the reader; they come first."""
        return self.steps - self.selector_steps

    @property
    def random_model(self) -> bool:
        """Return whether the reader begins with random weights, built by a configuration file."""
        return self.model.endswith(".json")

    def check(self) -> None:
        """Raise SettingsError for values that do not fit one another, and an unusable model."""
        if self.selector_steps > self.steps:
            raise SettingsError(
                f"selector_steps {self.selector_steps}: they are part of the {self.steps} steps; "
                "raise steps, or lower selector_steps too"
            )
        if self.min_pixels > self.max_pixels:
            raise SettingsError(f"min_pixels {self.min_pixels} is above max_pixels")
        if self.train == "selector" and self.reader_steps:
            raise SettingsError(
                f"train=selector leaves the reader as it is: set selector_steps={self.steps}, "
                "or train=full or train=lora"
            )
        if self.train == "lora" and self.random_model:
            raise SettingsError(
                "train=lora adapts a trained model, and random weights are none: name a folder or "
                "a hub name as model, or train=full"
            )
        if self.balance in ("propositional", "perspectival") and self.selector_steps:
            raise SettingsError(
                f"balance={self.balance} has nothing to learn: set selector_steps=0, or another "
                "balance"
            )
        if self.random_model:
            self.model_shape()

    def model_shape(self) -> dict[str, Any]:
        """Return the model's configuration file; raises SettingsError if it is not usable."""
        file = DEFAULT_FILE.parent / self.model  # an absolute path stays as it is
        try:
            shape = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"model: cannot read {file} ({error.strerror})") from error
        except ValueError as error:
            raise SettingsError(f"model: {file} is not a JSON file ({error})") from error
        if not isinstance(shape, dict) or not {"text_config", "vision_config"} <= shape.keys():
            raise SettingsError(f"model: {file} must hold a text_config and a vision_config")
        return shape

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, in the order of the fields."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings and, for each key, where its value came from."""

    settings: Settings
    sources: Mapping[str, str]

    def lines(self) -> list[str]:
        """Return one line a setting, with its source where it is not the default file."""
        return [
            f"  {key} = {value!r}" + (f"   ({source})" if source != str(DEFAULT_FILE) else "")
            for key, value in self.settings.as_dict().items()
            for source in [self.sources[key]]
        ]


_FIELDS = {entry.name: entry for entry in fields(Settings)}


def resolve(
    config: Path | None, environment: Mapping[str, str], assignments: Sequence[str]
) -> Resolved:
    """Return the settings: defaults, then `config`, then the environment, then `key=value` strings.

    Raises SettingsError for a file that cannot be read and for any unknown, ill-typed or
    out-of-bounds setting.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for file in [DEFAULT_FILE] if config is None else [DEFAULT_FILE, config]:
        for name, value in _read(file).items():
            key = _known(name, str(file))
            values[key] = _typed(key, value, f"{file}: {key}")
            sources[key] = str(file)
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX):
            key = _known(name.removeprefix(ENVIRONMENT_PREFIX).lower(), f"environment {name}")
            values[key] = _parsed(key, environment[name], f"environment {name}")
            sources[key] = f"environment {name}"
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--set {assignment}: write it as key=value, e.g. --set steps=20")
        key = _known(key.strip(), f"--set {assignment}")
        values[key] = _parsed(key, text.strip(), f"--set {assignment}")
        sources[key] = "--set"
    return Resolved(Settings(**values), sources)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file}: cannot read the settings file ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: not a TOML file ({error})") from error


def _known(key: str, source: str) -> str:
    if key in _FIELDS:
        return key
    nearest = difflib.get_close_matches(key, _FIELDS, n=1, cutoff=0.0)[0]
    raise SettingsError(
        f"{source}: there is no setting {key!r}; the nearest is {nearest!r}. "
        f"Settings: {', '.join(_FIELDS)}"
    )


def _parsed(key: str, text: str, source: str) -> Any:
    """Return the value of a setting given as text, from the environment or the command line."""
    kind = str(_FIELDS[key].type)
    value: Any = text
    if kind == "bool":
        value = {"true": True, "false": False}.get(text.lower(), text)
    elif kind != "str":
        try:
            value = int(text) if kind == "int" else float(text)
        except ValueError:
            value = text
    return _typed(key, value, source)


def _typed(key: str, value: Any, source: str) -> Any:
    """Return the value if it has the setting's type and is within its bounds."""
    entry = _FIELDS[key]
    if entry.type == "float" and type(value) is int:
        value = float(value)
    expected, words = {
        "int": (int, "a whole number"),
        "float": (float, "a number"),
        "bool": (bool, "true or false"),
        "str": (str, "text"),
    }[str(entry.type)]
    if type(value) is not expected or (type(value) is float and not math.isfinite(value)):
        raise SettingsError(f"{source}: {key} must be {words}, not {value!r}")
    choices = entry.metadata.get("choices")
    if choices and value not in choices:
        raise SettingsError(f"{source}: {key} must be one of {', '.join(choices)}, not {value!r}")
    least, most = entry.metadata.get("least"), entry.metadata.get("most")
    if least is not None and value < least:
        raise SettingsError(f"{source}: {key} must be at least {least}, not {value}")
    if most is not None and value > most:
        raise SettingsError(f"{source}: {key} must be at most {most}, not {value}")
    return value
