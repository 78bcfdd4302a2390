"""What a registry holds: manifests, indexes and image configurations, checked when read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from arr.errors import RegistryError
from arr.registry.failures import PlatformMissing

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST, *INDEX_TYPES)

T = TypeVar("T")


class Platform(msgspec.Struct, frozen=True):
    os: str = ""
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


# Structs, not dataclasses: they are checked against and written as the JSON form they stand for.
class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A reference to content by its digest; `size` in bytes, as stored (compressed)."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] | None = None


class _ManifestForm(msgspec.Struct):
    config: Descriptor
    layers: list[Descriptor]


class _IndexForm(msgspec.Struct):
    manifests: list[Descriptor]


class _RunForm(msgspec.Struct):
    labels: dict[str, str] | None = msgspec.field(default=None, name="Labels")


class _ConfigForm(msgspec.Struct):
    created: str | None = None
    config: _RunForm | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or index: `body` are the bytes that `digest` is of, `content` the same as JSON."""

    digest: str
    media_type: str
    body: bytes
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """One platform's image. `size`: bytes of its configuration and layers as stored.

    `digest` is the configuration's, `raw` the whole configuration.
    """

    digest: str
    labels: dict[str, str]
    created: str | None
    size: int
    manifest_digest: str
    layers: tuple[Descriptor, ...]
    raw: dict[str, Any]


def digest_of(data: bytes | Path) -> str:
    """The sha256 digest of bytes, or of a file's content."""
    if isinstance(data, bytes):
        return f"sha256:{hashlib.sha256(data).hexdigest()}"
    with data.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def verify(found: str, wanted: str, where: str) -> None:
    """Raise RegistryError if the content at `where` has another digest than the wanted one."""
    if found != wanted:
        raise RegistryError(
            f"{where}: wrong content: its digest is {found}, not {wanted}",
            "the registry, or something in between, is damaging content: do not use it",
        )


def media_type(header: str | None, where: str) -> str:
    """The manifest type named by a Content-Type header. Raises RegistryError for another type."""
    kind = (header or "").partition(";")[0].strip().lower()
    if kind not in MANIFEST_TYPES:
        raise RegistryError(
            f"{where}: the answer is {kind or 'of no type'}, not an image manifest",
            "is this a registry, or is a proxy or a login page in between?",
        )
    return kind


def read_object(body: bytes, where: str) -> dict[str, Any]:
    """The JSON object in `body`. Raises RegistryError for anything else."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"{where}: the answer is not JSON: {body[:60]!r}") from error
    if not isinstance(content, dict):
        raise RegistryError(f"{where}: the answer is not a JSON object")
    return content


def read_manifest(body: bytes, kind: str, where: str) -> Manifest:
    """Raises RegistryError if the body is not what the registry says it is."""
    content = read_object(body, where)
    inner = content.get("mediaType", kind)
    if inner != kind:
        raise RegistryError(f"{where}: sent as {kind}, but says of itself that it is {inner}")
    return Manifest(digest_of(body), kind, body, content)


def parts(manifest: Manifest, where: str) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """The descriptors of the configuration and of the layers, base first."""
    form = _convert(manifest.content, _ManifestForm, where)
    return form.config, tuple(form.layers)


def pick_platform(index: Manifest, platform: str, where: str) -> str:
    """The digest of the index's manifest for `platform` (os/arch or os/arch/variant).

    Raises PlatformMissing, naming those that there are.
    """
    known: list[str] = []
    for entry in _convert(index.content, _IndexForm, where).manifests:
        one = entry.platform or Platform()
        if platform in (str(one), f"{one.os}/{one.architecture}"):
            return entry.digest
        known.append(str(one) or "none")
    raise PlatformMissing(
        f"{where}: no image for {platform}: it has {', '.join(known) or 'no images'}",
        f"build it for {platform}",
    )


def image_config(manifest: Manifest, body: bytes, where: str) -> ImageConfig:
    """Join a manifest with the configuration that it names."""
    config, layers = parts(manifest, where)
    raw = read_object(body, f"{where}: configuration")
    form = _convert(raw, _ConfigForm, f"{where}: configuration")
    labels = (form.config.labels if form.config else None) or {}
    size = config.size + sum(layer.size for layer in layers)
    return ImageConfig(config.digest, labels, form.created, size, manifest.digest, layers, raw)


def _convert(content: dict[str, Any], form: type[T], where: str) -> T:
    try:
        return msgspec.convert(content, form)
    except msgspec.ValidationError as error:
        raise RegistryError(f"{where}: not of the form it should have: {error}") from error
