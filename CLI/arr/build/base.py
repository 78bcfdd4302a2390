"""Getting a base: pulled from its registry, or made from Debian's packages and kept in ours.

A made base is the same to the byte when it is made twice on one day. Debian's mirror moves, so
another day gives newer packages under the same pin; the registry keeps the one that was made first.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import shutil
import subprocess
from pathlib import Path

from arr.build.engine import LAYER_TIME, Remote, Source, Work
from arr.errors import BuildError, MissingTool
from arr.registry.client import Registry
from arr.registry.content import OCI_MANIFEST, digest_of
from arr.stack.lock import Pin
from arr.stack.stackfile import Recipe

RECIPE_LABEL = "org.arr.recipe"
_HUB = "docker.io"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

# What mmdebstrap leaves that differs from run to run, or that belongs to the host.
_CLEAN = (
    'rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/log/apt "$1"/var/log/*.log '
    '"$1"/var/cache/ldconfig/aux-cache "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* '
    '"$1"/etc/apt/apt.conf.d/99mmdebstrap',
    'find "$1/usr" -xdev -name __pycache__ -type d -prune -exec rm -rf {} +',
    'echo localhost >"$1/etc/hostname"; : >"$1/etc/resolv.conf"; rm -f "$1"/etc/passwd- '
    '"$1"/etc/group- "$1"/etc/shadow- "$1"/etc/gshadow- "$1"/etc/subuid- "$1"/etc/subgid- '
    '"$1"/var/lib/dpkg/*-old "$1"/var/cache/debconf/*-old',
)


def repository_and_tag(reference: str, pin: Pin) -> tuple[str, str]:
    """Where our registry keeps the made base: `bases/python`, `3.11-slim-1a2b3c4`."""
    name, tag = _split(reference)
    return f"bases/{name}", f"{tag}-{(pin.recipe_hash or '')[-7:]}"


def obtain(
    reference: str, pin: Pin, recipe: Recipe | None, registry: Registry, remote: Remote, work: Work
) -> Source:
    """Return the base `reference` as it is pinned, making it first if no one has.

    Raises BuildError if it cannot be made, RegistryError if a registry does not answer.
    """
    if pin.digest:
        return _pulled(reference, pin.digest)
    assert recipe is not None
    repository, tag = repository_and_tag(reference, pin)
    digest = registry.head(repository, tag)
    if digest is None:
        archive = _make(recipe, work)
        digest = _keep(archive, recipe, pin, registry, repository, tag)
        archive.unlink()
    config = registry.config(repository, digest)
    if config.labels.get(RECIPE_LABEL) != pin.recipe_hash:
        raise BuildError(
            f"{remote.prefix}/{repository}:{tag} was made by another recipe than the lock pins",
            f"Remove that tag from the registry; it will be made again for {reference}.",
        )
    return Source(
        f"{remote.prefix}/{repository}@{digest}",
        f"localhost/{repository}:{tag}",
        config.digest,
        remote,
    )


def pull_digest(reference: str) -> str:
    """Ask the base's own registry for the digest of `reference`. Raises RegistryError."""
    url, repository, tag = locate(reference)
    with Registry(url) as registry:
        return registry.manifest(repository, tag).digest


def locate(reference: str) -> tuple[str, str, str]:
    """Return (registry URL, repository, tag) of a reference, by docker's own rules.

    As for docker, a registry on this machine is spoken to without TLS.
    """
    name, tag = _split(reference)
    host, slash, rest = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, rest = _HUB, name
    if host in (_HUB, "index.docker.io"):
        return "https://registry-1.docker.io", rest if "/" in rest else f"library/{rest}", tag
    own = host.partition(":")[0] in ("localhost", "127.0.0.1")
    return f"{'http' if own else 'https'}://{host}", rest, tag


def _split(reference: str) -> tuple[str, str]:
    """Return (name, tag); the colon of a port is before a slash."""
    folder, slash, last = reference.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{folder}{slash}{name}", tag or "latest"


def _pulled(reference: str, digest: str) -> Source:
    url, repository, tag = locate(reference)
    scheme, _, host = url.partition("://")
    host = host.replace("registry-1.docker.io", _HUB)
    with Registry(url) as registry:
        config = registry.config(repository, digest)
    return Source(
        f"{host}/{repository}@{digest}",
        f"localhost/bases/{repository}:{tag}-{digest[-7:]}",
        config.digest,
        Remote(host, insecure=scheme == "http"),
    )


def _make(recipe: Recipe, work: Work) -> Path:
    if shutil.which("mmdebstrap") is None:
        raise MissingTool(
            "mmdebstrap, which makes the base from Debian's packages, is not installed",
            "sudo apt-get install mmdebstrap",
        )
    archive = work.scratch / "base.tar"
    hooks = [f"--customize-hook={hook}" for hook in _CLEAN]
    work.run(
        [
            "env", f"SOURCE_DATE_EPOCH={LAYER_TIME}",
            "mmdebstrap", "--variant=minbase", "--mode=auto",
            "--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr",
            f"--include={','.join(['usr-is-merged', *recipe.packages])}",
            '--aptopt=APT::Install-Recommends "false"',
            "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            *hooks, recipe.suite, str(archive), *_mirrors(recipe.suite, work),
        ],
    )  # fmt: skip
    return archive


def _mirrors(suite: str, work: Work) -> list[str]:
    """The host's own sources of that suite; none of them lets mmdebstrap take Debian's usual ones.

    They are used outside the image only: the image has no sources.list.
    """
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)",
         "Created-By: Packages"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found: dict[tuple[str, str], list[str]] = {}
    for line in done.stdout.splitlines():
        words = line.split()
        if words[3:] == ["Debian"] and words[1].partition("-")[0] == suite:
            found.setdefault((words[0], words[1]), []).append(words[2])
    if not found:
        return []
    file = work.scratch / "sources.list"
    file.write_text(
        "".join(
            f"deb {uri} {release} {' '.join(sorted(set(parts)))}\n"
            for (uri, release), parts in found.items()
        ),
        "utf-8",
    )
    return [str(file)]


def _keep(
    archive: Path, recipe: Recipe, pin: Pin, registry: Registry, repository: str, tag: str
) -> str:
    """Put the file system into the registry as an image of one layer; return its digest."""
    layer = archive.with_suffix(".tar.gz")
    with archive.open("rb") as source, layer.open("wb") as file:
        diff = hashlib.sha256()
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as out:
            while block := source.read(1 << 20):
                diff.update(block)
                out.write(block)
    config = _json(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {
                "Env": [f"{k}={v}" for k, v in _with_path(recipe.env).items()],
                "Cmd": recipe.command or ["python3"],
                "Labels": {RECIPE_LABEL: pin.recipe_hash},
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff.hexdigest()}"]},
            "history": [{"created_by": f"mmdebstrap {recipe.suite}"}],
        }
    )
    layer_digest = registry.put_blob(repository, layer)
    config_digest = registry.put_blob(repository, config)
    size = layer.stat().st_size
    layer.unlink()
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": config_digest, "size": len(config)},
            "layers": [{"mediaType": _LAYER, "digest": layer_digest, "size": size}],
        }
    )
    registry.put_manifest(repository, tag, OCI_MANIFEST, manifest)
    return digest_of(manifest)


def _with_path(env: dict[str, str]) -> dict[str, str]:
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **env}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")
