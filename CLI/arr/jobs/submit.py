"""Putting a run of an image on the local queue."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from arr.build.buildah import Buildah
from arr.build.docker import Docker
from arr.build.engine import Engine, Remote
from arr.build.make import published
from arr.config import RunSettings
from arr.jobs import queue
from arr.jobs import spec as specs
from arr.registry.client import Registry
from arr.stack.graph import Node
from arr.state import Run, State


def submit(
    node: Node,
    digest: str,
    registry: Registry,
    remote: Remote,
    engine: Engine,
    wanted: RunSettings,
    settings: Mapping[str, str],
    state: State,
    runs: Path,
    now: float,
) -> Run:
    """Queue a run of the image `digest` with `settings`; its folder is made below `runs`.

    Raises RegistryError if the image cannot be read, RunError if it says no command.
    """
    config = registry.config(node.repository, digest, node.spec.platform)
    source = published(registry, remote, node.repository, digest)
    run_id = queue.new_id(now)
    spec = specs.RunSpec(
        id=run_id,
        image=node.name,
        reference=source.reference,
        local_name=source.local_name,
        config_digest=source.config_digest,
        prefix=registry.prefix,
        insecure=registry.insecure,
        command=specs.command(config, settings),
        environ={
            "ARR_RUN_DIR": specs.MOUNT,
            "CUDA_VISIBLE_DEVICES": specs.visible_gpus(wanted.gpus),
            "HOME": "/tmp",
        },
        user=_user(engine, (config.raw.get("config") or {}).get("User") or "0:0"),
        gpus=wanted.gpus,
        engine=engine.name,
        program=engine.program if isinstance(engine, Docker) else "",
        store=str(engine.store) if isinstance(engine, Buildah) and engine.store else None,
    )
    return queue.enqueue(state, spec, runs / run_id, dict(settings), now)


def _user(engine: Engine, image_user: str) -> str:
    """Return who the run is inside its container, such that it can write into the run's folder."""
    if os.geteuid() == 0:
        return image_user
    # Rootless buildah maps the container's root to this user; docker knows this user by number.
    return "0:0" if engine.name == "buildah" else f"{os.getuid()}:{os.getgid()}"
