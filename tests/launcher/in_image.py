"""The stage with the agent inside the launcher's image, run by buildah as docker would run it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .fakes.fake_vertex import REGION
from .fakes.fake_wandb import ENTITY
from .fakes.stage import QUEUE, ROOT, AgentProcess, Stage

PYTHON = Path(os.environ.get("ARR_LAUNCHER_PYTHON", ROOT / ".venv-launcher" / "bin" / "python"))
"""Has the pins of the launcher's image, for the fake of Vertex AI; `make test` installs it."""
# The image has its own; what Cloud Run sets is left.
OWN = {"PATH", "HOME", "LANG", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}


class InImage(Stage):
    """`image` is in buildah's `store`, and `entrypoint` is what its configuration says."""

    def __init__(self, folder: Path, store: Path, image: str, entrypoint: Sequence[str]) -> None:
        super().__init__(PYTHON, folder)
        self._image, self._entrypoint = image, entrypoint
        self._storage = ["--root", str(store / "root"), "--runroot", str(store / "run")]
        self._container = f"arr-launcher-{secrets.token_hex(4)}"

    def __enter__(self) -> Self:
        self._do("from", "--pull=never", "--name", self._container, self._image)
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, at)
        self._do("rm", self._container)

    def start_in_image(self, **environ: str) -> AgentProcess:
        """Start the agent with the arguments and the environment of a Cloud Run job."""
        given = {k: v for k, v in self.environ().items() if k not in OWN}
        given |= {"GOOGLE_CLOUD_REGION": REGION, **environ}
        argv = self._buildah(
            "run", "--isolation", "chroot", "--network", "host",
            *(f"--env={name}={value}" for name, value in given.items()),
            self._container, "--", *self._entrypoint,
            "wandb", "launch-agent", "--queue", QUEUE, "--entity", ENTITY,
        )  # fmt: skip
        self.agents.append(AgentProcess(argv, dict(os.environ), self.folder))
        return self.agents[-1]

    def _do(self, *words: str) -> None:
        subprocess.run(self._buildah(*words), capture_output=True, check=True)

    def _buildah(self, *words: str) -> list[str]:
        return ["buildah", "--storage-driver", "overlay", *self._storage, *words]


def report(agent: AgentProcess) -> dict[str, Any]:
    """The watch's last line; after it comes only what buildah says of the exit code."""
    found: dict[str, Any] = json.loads([x for x in agent.lines if x.startswith('{"watch"')][-1])
    return found
