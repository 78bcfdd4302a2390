"""What a run is: all that its agent needs to know, kept in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec

from arr.build.engine import Remote, Source
from arr.errors import RunError
from arr.registry.content import ImageConfig

FILE = "run.json"
LOG = "output.log"
RESULT = "result.json"
MOUNT = "/run/arr"
"""Where the run sees its folder: checkpoints, metrics and its result are written there."""

PASSED = ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_MODE", "WANDB_BASE_URL")


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One run, for the agent. `engine` and `store` say how the image is run."""

    id: str
    image: str
    reference: str
    local_name: str
    config_digest: str
    prefix: str
    insecure: bool
    command: list[str]
    environ: dict[str, str]
    user: str
    gpus: int
    engine: str
    program: str = ""
    store: str | None = None

    @property
    def source(self) -> Source:
        """The image to run. A run needs no credentials: launch has fetched or made the image."""
        remote = Remote(self.prefix, self.insecure)
        return Source(self.reference, self.local_name, self.config_digest, remote)


def write(spec: RunSpec, folder: Path) -> None:
    """Keep the spec in the run's folder."""
    (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=2))


def read(folder: Path) -> RunSpec:
    """Read a spec back. Raises RunError if the folder lost it."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=RunSpec)
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(
            f"the run in {folder} cannot be read: {error}", "Launch it again."
        ) from error


def result(folder: Path | str) -> dict[str, object] | None:
    """Return what the training wrote as its result; None if it wrote none that can be read."""
    try:
        # Python writes a loss that is no number as NaN, which is not JSON: it is kept as a word.
        found = json.loads((Path(folder) / RESULT).read_bytes(), parse_constant=str)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def command(config: ImageConfig, settings: Mapping[str, str]) -> list[str]:
    """Return the image's own command line with the run's settings after it."""
    own = config.raw.get("config") or {}
    words = [*(own.get("Entrypoint") or []), *(own.get("Cmd") or [])]
    if not words:
        raise RunError(
            f"the image {config.manifest_digest} says no command to run",
            "Give its Dockerfile an ENTRYPOINT or a CMD.",
        )
    return words + [
        word for name, value in settings.items() for word in ("--set", f"{name}={value}")
    ]


def visible_gpus(count: int) -> str:
    """Return CUDA_VISIBLE_DEVICES for a run of `count` GPUs: "0" for one, "" for none."""
    return ",".join(str(n) for n in range(count))
